package doctor

import (
	"context"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	pb "reparto/gen/reparto/v1"
)

// pingEvery is how often our commands and SDKs ping a connection.
const pingEvery = 20 * time.Second

// held is what became of a stream.
type held struct {
	lasted time.Duration
	// cut is how it was cut; nil when it was kept.
	cut error
	// dead is why it carried nothing afterwards, although it was kept.
	dead error
	// never is why it was not held at all.
	never error
}

func (h held) well() bool { return h.cut == nil && h.dead == nil && h.never == nil }

// idle holds streams on which nothing passes, all at once: a client's with pings
// of its connection and without, and a worker's with its heartbeats.
func (e *exam) idle(ctx context.Context) {
	if e.o.Idle <= 0 {
		e.skip("idle", "not asked for: --idle 90s holds streams that long on which nothing passes, longer than the 60 s that proxies often have")
		return
	}
	var pinged, silent, work held
	var all sync.WaitGroup
	hold := func(to *held, how func(context.Context, *grpc.ClientConn) held, more ...grpc.DialOption) {
		conn, err := e.o.Dial(more...) // here, as it is not called concurrently
		if err != nil {
			to.never = err
			return
		}
		all.Go(func() {
			*to = how(ctx, conn)
			_ = conn.Close() // it was in use until here: there is nothing to fail
		})
	}
	hold(&pinged, e.holdClient, pinging(pingEvery, e.o.Timeout))
	hold(&silent, e.holdClient, pinging(math.MaxInt64, e.o.Timeout))
	if e.mayWork {
		hold(&work, e.holdWorker)
	}
	all.Wait()
	if ctx.Err() != nil {
		return
	}
	e.idleClient(pinged, silent)
	if e.mayWork {
		e.idleWorker(work)
	} else {
		e.skip("idle-worker", "this caller may not work")
	}
}

func pinging(every, timeout time.Duration) grpc.DialOption {
	return grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: every, Timeout: timeout})
}

func (e *exam) idleClient(pinged, silent held) {
	f := Finding{Check: "idle-client", Status: Fail, Values: map[string]any{"held_ms": millis(e.o.Idle)}}
	if silent.cut != nil {
		f.Values["cut_after_ms"] = millis(silent.lasted)
	}
	if pinged.cut != nil {
		f.Values["cut_after_with_pings_ms"] = millis(pinged.lasted)
	}
	switch worse := worst(pinged, silent); {
	case worse.never != nil:
		f.Said, f.Do = "no stream to hold: "+words(worse.never), "see the checks before this one"
	case worse.well():
		f.Status, f.Said = OK, fmt.Sprintf("a client's stream on which nothing passed was kept for %s, and worked at once", span(e.o.Idle))
	case info(worse.cut) != nil:
		f.Said, f.Do = fmt.Sprintf("the balancer itself ended the stream after %s: %s", span(worse.lasted), words(worse.cut)), "see the balancer's log"
	case pinged.well():
		f.Status = Warn
		f.Said = fmt.Sprintf("a client's stream on which nothing passes %s; a ping every %s keeps it", fate(silent), span(pingEvery))
		f.Do = "let programs ping, as ours do (keepalive of gRPC, 20 s): what stands between counts connections, not streams"
		e.trouble(trouble{kind: idleCut, after: silent.lasted})
	default:
		f.Said = fmt.Sprintf("a client's stream on which nothing passes %s", fate(worse))
		switch {
		case worse.cut == nil || e.o.Idle <= pingEvery:
		case worse.lasted > pingEvery:
			f.Said += "; pings do not keep it"
		default:
			f.Said += fmt.Sprintf("; that is too soon for a ping to help, which comes every %s", span(pingEvery))
		}
		f.Do = "a client that waits longer for a task loses it: raise the time limits of what stands between above the longest task"
		e.trouble(trouble{kind: idleCut, after: worse.lasted})
	}
	e.found(f)
}

// worst is the one of the two that went worse: pings included where both did.
func worst(pinged, silent held) held {
	if pinged.well() {
		return silent
	}
	return pinged
}

// fate is how a stream ended, for a sentence.
func fate(h held) string {
	if h.cut != nil {
		return fmt.Sprintf("was cut after %s (%s)", span(h.lasted), words(h.cut))
	}
	return fmt.Sprintf("looked as if it were there after %s, and carried nothing any more (%s)", span(h.lasted), words(h.dead))
}

func (e *exam) idleWorker(h held) {
	f := Finding{Check: "idle-worker", Status: Fail, Values: map[string]any{"held_ms": millis(e.o.Idle)}}
	if h.cut != nil {
		f.Values["cut_after_ms"] = millis(h.lasted)
	}
	switch {
	case h.never != nil && status.Code(h.never) == codes.PermissionDenied:
		f.Status, f.Said = Skip, "this caller may work for functions of some names alone, and a worker is held only under a name that nobody uses"
	case h.never != nil:
		f.Said, f.Do = "no worker could register: "+words(h.never), "see the balancer's log"
	case h.cut == nil:
		f.Status, f.Said = OK, fmt.Sprintf("a worker's stream with its heartbeats alone was kept for %s", span(e.o.Idle))
	case info(h.cut) != nil:
		f.Said, f.Do = fmt.Sprintf("the balancer itself ended the stream after %s: %s", span(h.lasted), words(h.cut)), "see the balancer's log"
	default:
		f.Said = fmt.Sprintf("a worker's stream with its heartbeats alone was cut after %s (%s)", span(h.lasted), words(h.cut))
		f.Do = "raise the time limits of what stands between well above the heartbeat interval"
		if every := e.info.GetLimits().GetHeartbeatInterval().AsDuration(); every > 0 {
			f.Do += " of " + span(every)
		}
		e.trouble(trouble{kind: idleCut, after: h.lasted})
	}
	e.found(f)
}

// holdClient holds a client's stream.
func (e *exam) holdClient(ctx context.Context, conn *grpc.ClientConn) (h held) {
	var calls sync.WaitGroup
	defer calls.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	receive, use, err := e.clientStream(ctx, conn)
	if err != nil {
		return held{never: err}
	}
	began, ended, used := time.Now(), make(chan error, 1), make(chan error, 1)
	calls.Go(func() { ended <- receive() })
	full := time.NewTimer(e.o.Idle)
	defer full.Stop()
	select {
	case err := <-ended:
		return held{lasted: time.Since(began), cut: err}
	case <-full.C:
		h.lasted = e.o.Idle
	}
	calls.Go(func() { used <- use() })
	limit := time.NewTimer(e.o.Timeout)
	defer limit.Stop()
	select {
	case h.dead = <-used:
	case <-limit.C:
		h.dead = fmt.Errorf("no answer within %s", span(e.o.Timeout))
	}
	return h
}

// clientStream opens a stream of a client: the one that tasks go over or, for who
// may not submit, the one that watches the health. receive waits for something to
// come on it; use has something pass, and is called when receive has not returned.
func (e *exam) clientStream(ctx context.Context, conn *grpc.ClientConn) (receive, use func() error, err error) {
	if !e.maySubmit {
		watch, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{})
		if err == nil {
			_, err = watch.Recv()
		}
		return func() error { _, err := watch.Recv(); return err }, func() error {
			_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
			return err
		}, err
	}
	stream, _, err := openSubmit(ctx, conn)
	if err != nil {
		return nil, nil, err
	}
	// The one receiver goes on waiting; what it gets at last is the answer.
	came := make(chan error, 1)
	receive = func() error {
		_, err := stream.Recv()
		came <- err
		return err
	}
	use = func() error {
		if err := stream.Send(refusable(1, nil)); err != nil && err != io.EOF {
			return err
		}
		return <-came
	}
	return receive, use, nil
}

// holdWorker plays a worker of a function that nobody knows, and leaves.
func (e *exam) holdWorker(ctx context.Context, conn *grpc.ClientConn) held {
	var reading sync.WaitGroup
	defer reading.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := pb.NewWorkerServiceClient(conn).Work(ctx)
	if err != nil {
		return held{never: err}
	}
	name := "doctor-" + uuid.NewString()
	// An error shows in Recv, with its reason.
	_ = stream.Send(&pb.WorkRequest{Register: &pb.Register{WorkerId: name, Functions: []string{name}, Slots: 1, Build: "client doctor"}})
	first, err := stream.Recv()
	if err != nil {
		return held{never: err}
	}
	ended, gone := make(chan error, 1), make(chan struct{})
	reading.Go(func() {
		defer close(gone)
		for {
			if _, err := stream.Recv(); err != nil {
				ended <- err
				return
			}
		}
	})
	h := e.beat(ended, stream, time.Duration(max(first.GetAck().GetHeartbeatIntervalMs(), 1))*time.Millisecond)
	if h.cut != nil {
		return h
	}
	_ = stream.CloseSend() // an error shows in what ended gets
	limit := time.NewTimer(e.o.Timeout)
	defer limit.Stop()
	select { // so that it has left when the report is there
	case <-gone:
	case <-limit.C:
	}
	return h
}

// beat sends heartbeats, as a worker does that has nothing else to say, until the
// time is up or the stream has ended.
func (e *exam) beat(ended <-chan error, stream grpc.BidiStreamingClient[pb.WorkRequest, pb.WorkResponse], every time.Duration) held {
	began := time.Now()
	beats := time.NewTicker(every)
	defer beats.Stop()
	limit := time.NewTimer(e.o.Idle)
	defer limit.Stop()
	for {
		select {
		case err := <-ended:
			return held{lasted: time.Since(began), cut: err}
		case <-beats.C:
			_ = stream.Send(&pb.WorkRequest{Heartbeat: &pb.Heartbeat{}}) // an error shows in ended
		case <-limit.C:
			return held{lasted: e.o.Idle}
		}
	}
}
