package doctor

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	pb "reparto/gen/reparto/v1"
)

// rounds is how many round trips are measured.
const rounds = 20

// measured sums up round trips.
func measured(check, what string, took []time.Duration) Finding {
	slices.Sort(took)
	p50, longest := took[len(took)/2], took[len(took)-1]
	return Finding{
		Check: check, Status: OK, Said: fmt.Sprintf("%s, the median of %d %s; the longest took %s", span(p50), len(took), what, span(longest)),
		Values: map[string]any{"p50_ms": millis(p50), "min_ms": millis(took[0]), "max_ms": millis(longest), "count": len(took)},
	}
}

// roundTrip measures unary calls, one after another on one connection.
func (e *exam) roundTrip(ctx context.Context) {
	took := make([]time.Duration, 0, rounds)
	for range rounds {
		limited, cancel := e.within(ctx)
		began := time.Now()
		_, err := healthpb.NewHealthClient(e.conn).Check(limited, &healthpb.HealthCheckRequest{})
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			e.found(Finding{Check: "round-trip", Status: Fail, Said: fmt.Sprintf("call %d of %d: %s", len(took)+1, rounds, words(err)), Do: "something on the way loses calls: see the proxy's log"})
			return
		}
		took = append(took, time.Since(began))
	}
	e.found(measured("round-trip", "calls", took))
}

// refusable is a task that no balancer takes, since it names no function.
func refusable(number uint64, payload []byte) *pb.SubmitStreamRequest {
	return &pb.SubmitStreamRequest{Tasks: []*pb.StreamTask{{Number: number, Payload: payload}}}
}

// frames measures frames of a stream, each with a task that is refused.
func (e *exam) frames(ctx context.Context) {
	if !e.maySubmit {
		e.skip("stream", "this caller may not submit")
		return
	}
	limited, cancel := e.within(ctx)
	defer cancel()
	stream, limits, err := openSubmit(limited, e.conn)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		e.found(Finding{
			Check: "stream", Status: Fail, Said: "the balancer's first word on a stream does not come through: " + words(err),
			Do: "what stands between must pass on each frame as it comes, in both directions: no buffering of requests or answers",
		})
		return
	}
	e.limits = limits
	took := make([]time.Duration, 0, rounds)
	for n := range uint64(rounds) {
		began := time.Now()
		if err := exchange(stream, n+1); err != nil {
			if ctx.Err() == nil {
				e.found(Finding{Check: "stream", Status: Fail, Said: fmt.Sprintf("frame %d of %d: %s", n+1, rounds, words(err)), Do: "what stands between must pass on each frame as it comes, in both directions"})
			}
			return
		}
		took = append(took, time.Since(began))
	}
	e.found(measured("stream", "frames of a stream, there and back", took))
}

type submitStream = grpc.BidiStreamingClient[pb.SubmitStreamRequest, pb.SubmitStreamResponse]

// openSubmit opens a stream and waits for the balancer's first word on it.
func openSubmit(ctx context.Context, conn *grpc.ClientConn) (submitStream, *pb.ClientLimits, error) {
	stream, err := pb.NewTaskServiceClient(conn).SubmitStream(ctx)
	if err != nil {
		return nil, nil, err
	}
	first, err := stream.Recv()
	return stream, first.GetLimits(), err
}

// exchange sends a task that is refused, and waits for the refusal.
func exchange(stream submitStream, number uint64) error {
	if err := stream.Send(refusable(number, nil)); err != nil {
		if _, why := stream.Recv(); why != nil { // which says more than Send's io.EOF
			return why
		}
		return err
	}
	for {
		frame, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, o := range frame.GetOutcomes() {
			if o.GetNumber() == number && codes.Code(o.GetError().GetCode()) != codes.OK {
				return nil
			}
		}
	}
}
