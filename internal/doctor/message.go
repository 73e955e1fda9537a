package doctor

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "reparto/gen/reparto/v1"
)

// largest is the size to try, and why none is, in bytes.
func (e *exam) largest() (n int, why string) {
	own := int(max(e.info.GetLimits().GetMaxMessageBytes(), e.limits.GetMaxMessageBytes()))
	switch {
	case e.o.Largest < 0:
		return 0, "not asked for"
	case e.o.Largest > 0 && own > 0:
		return min(e.o.Largest, own), ""
	case e.o.Largest > 0:
		return e.o.Largest, ""
	case own == 0:
		return 0, "the balancer's limit is only for whom it knows"
	}
	return own, ""
}

// messages finds the largest message that passes.
func (e *exam) messages(ctx context.Context) {
	most, why := e.largest()
	if why != "" {
		e.skip("message", "%s", why)
		return
	}
	failure := e.send(ctx, most)
	if failure == nil {
		e.found(Finding{
			Check: "message", Status: OK, Said: bytesOf(most) + " pass, the most that was to be tried", Values: map[string]any{"passes_bytes": most},
		})
		return
	}
	passes, fails := 0, most
	for fails-passes > max(passes/64, 1<<10) && ctx.Err() == nil {
		middle := passes + (fails-passes)/2
		if err := e.send(ctx, middle); err != nil {
			fails, failure = middle, err
		} else {
			passes = middle
		}
	}
	if ctx.Err() != nil {
		return
	}
	e.trouble(trouble{kind: tooLarge})
	f := Finding{
		Check: "message", Status: Fail,
		Said:   fmt.Sprintf("%s pass and %s do not (%s), while the balancer takes %s", bytesOf(passes), bytesOf(fails), words(failure), bytesOf(most)),
		Do:     "lift the limit on the size of requests in what stands between; until then, submit smaller payloads",
		Values: map[string]any{"passes_bytes": passes, "fails_bytes": fails, "tried_bytes": most},
	}
	if status.Code(failure) == codes.DeadlineExceeded {
		f.Do = "it took too long: the way is slow (give a longer --timeout), or something on it holds large messages back"
	}
	e.found(f)
}

// send sends a call of that many bytes, which the balancer refuses once it has it
// all. The error is why it did not get there.
func (e *exam) send(ctx context.Context, bytes int) error {
	limited, cancel := context.WithTimeout(ctx, 3*e.o.Timeout)
	defer cancel()
	req := &pb.SubmitRequest{}
	req.Payload = make([]byte, max(bytes-8, 0))
	for over := proto.Size(req) - bytes; over != 0 && len(req.Payload) >= over; over = proto.Size(req) - bytes {
		req.Payload = make([]byte, len(req.Payload)-over)
		if over > 0 { // a length that takes a byte less leaves a gap of one
			break
		}
	}
	_, err := pb.NewTaskServiceClient(e.conn).Submit(limited, req, grpc.MaxCallSendMsgSize(bytes+1<<10))
	if info(err) != nil {
		return nil // the balancer's own words
	}
	if err == nil {
		return status.Error(codes.Internal, "a task without a function was answered with OK; the balancer has not read it")
	}
	return err
}

const (
	maxPour = 256 << 10 // bytes in a frame
	// ahead is how many frames may be on the way unanswered: memory.
	ahead = 16
)

// volume finds out whether a stream is cut after a number of bytes in all, as some
// proxies count them.
func (e *exam) volume(ctx context.Context) {
	most, why := e.largest()
	switch {
	case why != "":
		e.skip("volume", "%s", why)
		return
	case !e.maySubmit:
		e.skip("volume", "this caller may not submit")
		return
	case e.troubled(tooLarge):
		e.skip("volume", "a single message is too large already")
		return
	}
	limited, cancel := context.WithTimeout(ctx, 6*e.o.Timeout)
	defer cancel()
	total := 2 * most
	passed, err := pour(limited, e.conn, total, min(maxPour, max(most/2, 1)))
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		e.found(Finding{Check: "volume", Status: OK, Said: fmt.Sprintf("%s pass on one stream", bytesOf(passed)), Values: map[string]any{"passed_bytes": passed}})
		return
	}
	f := Finding{
		Check: "volume", Status: Fail, Said: fmt.Sprintf("a stream was cut after %s of %s: %s", bytesOf(passed), bytesOf(total), words(err)),
		Do:     "a client's stream has no end: lift the limit on what one request may carry in all",
		Values: map[string]any{"passed_bytes": passed, "tried_bytes": total},
	}
	if status.Code(err) == codes.DeadlineExceeded {
		f.Status, f.Do = Warn, "it took too long: the way is slow (give a longer --timeout)"
	} else {
		e.trouble(trouble{kind: tooMuch})
	}
	e.found(f)
}

func (e *exam) troubled(k kind) bool {
	for _, t := range e.wrong {
		if t.kind == k {
			return true
		}
	}
	return false
}

// pour sends tasks of size bytes, which are refused, until total bytes have been
// answered for.
func pour(ctx context.Context, conn *grpc.ClientConn, total, size int) (passed int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, _, err := openSubmit(ctx, conn)
	if err != nil {
		return 0, err
	}
	frame := refusable(0, make([]byte, size))
	frames := (total + size - 1) / size
	for sent, answered := 0, 0; answered < frames; {
		for ; sent < frames && sent-answered < ahead; sent++ {
			frame.Tasks[0].Number = uint64(sent) + 1
			if stream.Send(frame) != nil {
				break // Recv says why
			}
		}
		resp, err := stream.Recv()
		if err != nil {
			return passed, err
		}
		answered += len(resp.GetOutcomes())
		passed = min(answered*size, total)
	}
	return passed, stream.CloseSend()
}
