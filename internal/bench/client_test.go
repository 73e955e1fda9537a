package bench

import (
	"bytes"
	"context"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"reparto/client"
	pb "reparto/gen/reparto/v1"
	"reparto/worker"
)

// call does one task and returns its result. Callers are numbered from 0, and
// each has one call at a time.
type call func(ctx context.Context, caller uint64) ([]byte, error)

// runClient keeps so many calls in flight, each by a goroutine that blocks. It
// says "go" when the warm-up is over and "report" at the end of the window.
func runClient(ctx context.Context, c config, say func(string, any)) error {
	conn, err := grpc.NewClient(c.Address, worker.DialOptions(nil)...)
	if err != nil {
		return err
	}
	defer conn.Close()
	do, closeClient, err := open(ctx, conn, c)
	if err != nil {
		return err
	}
	defer closeClient()
	l := load{do: do, endless: c.Tasks == 0}
	l.left.Store(int64(c.Tasks))
	if c.Kind == "trickle" { // one a second, by a unary call
		l.pause = time.Second
	}
	return l.run(ctx, c, say)
}

// open makes a client of the kind asked for.
func open(ctx context.Context, conn *grpc.ClientConn, c config) (call, func(), error) {
	switch c.Kind {
	case "unary", "trickle":
		tasks := pb.NewTaskServiceClient(conn)
		return func(ctx context.Context, _ uint64) ([]byte, error) {
			resp, err := tasks.Submit(ctx, &pb.SubmitRequest{Function: function, Payload: payload})
			return resp.GetResult(), err
		}, func() {}, nil
	case "framed":
		f, err := openFramed(ctx, conn, c.InFlight)
		if err != nil {
			return nil, nil, err
		}
		return f.call, func() {}, nil
	case "sdk":
		sdk := client.New(conn)
		return func(ctx context.Context, _ uint64) ([]byte, error) {
			out, err := sdk.Submit(ctx, client.Task{Function: function, Payload: payload})
			return out.Result, err
		}, func() { sdk.Close() }, nil
	}
	return nil, nil, fmt.Errorf("no client of kind %q", c.Kind)
}

// load is a closed loop.
type load struct {
	do        call
	left      atomic.Int64 // tasks to be done, unless endless
	endless   bool
	pause     time.Duration // between two tasks of a caller
	measuring atomic.Bool
	stopped   atomic.Bool
}

func (l *load) run(ctx context.Context, c config, say func(string, any)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	counts := make([]histogram, c.InFlight)
	var wg sync.WaitGroup
	goOn := func() {
		for i := range counts {
			wg.Go(func() {
				if err := l.caller(ctx, uint64(i), &counts[i]); err != nil {
					cancel(err)
				}
			})
		}
	}
	if l.endless {
		goOn()
		sleep(ctx, time.Duration(c.Warmup)*time.Millisecond)
	}
	say("go", nil)
	l.measuring.Store(true)
	began := time.Now()
	if l.endless {
		sleep(ctx, time.Duration(c.Window)*time.Millisecond)
		l.measuring.Store(false)
		l.stopped.Store(true)
	} else { // every task counts
		goOn()
		wg.Wait()
	}
	took := time.Since(began)
	wg.Wait()
	var all histogram
	for i := range counts {
		all.add(&counts[i])
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	say("report", report{Rate: float64(all.n) / took.Seconds(), P50: all.quantile(0.5), P99: all.quantile(0.99), Tasks: all.n})
	return nil
}

// report is what a client saw. Latencies are in microseconds.
type report struct {
	Rate, P50, P99 float64
	Tasks          uint64
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (l *load) caller(ctx context.Context, number uint64, h *histogram) error {
	for !l.stopped.Load() {
		if !l.endless && l.left.Add(-1) < 0 {
			return nil
		}
		began := time.Now()
		result, err := l.do(ctx, number)
		if err != nil {
			return err
		}
		if !bytes.Equal(result, payload) {
			return fmt.Errorf("the result is %q, not %q", result, payload)
		}
		if l.measuring.Load() {
			h.record(time.Since(began))
		}
		if l.pause > 0 {
			sleep(ctx, l.pause)
		}
	}
	return nil
}

// histogram counts latencies, to within 2 %.
type histogram struct {
	n      uint64
	counts [64 << 6]uint32
}

func (h *histogram) record(d time.Duration) {
	ns := uint64(d) | 1<<6
	exp := bits.Len64(ns) - 7
	h.counts[exp<<6|int(ns>>exp&63)]++
	h.n++
}

func (h *histogram) add(o *histogram) {
	h.n += o.n
	for i, n := range o.counts {
		h.counts[i] += n
	}
}

// quantile returns the latency, in microseconds, that a share q stays under.
func (h *histogram) quantile(q float64) float64 {
	rank := uint64(q * float64(h.n))
	for i, n := range h.counts {
		if uint64(n) > rank {
			exp := i >> 6
			return float64(uint64(64+i&63)<<exp) / 1000
		}
		rank -= uint64(n)
	}
	return 0
}

// framed is the simplest client that batches: one stream, a writer that drains
// what waits, a receiver that wakes the caller. It expects nothing to go wrong.
type framed struct {
	out   *relayQueue[*pb.StreamTask]
	calls []framedCall // by caller, whose number is also its task's
}

type framedCall struct {
	done   chan struct{}
	result []byte
	err    error
}

func openFramed(ctx context.Context, conn *grpc.ClientConn, callers int) (*framed, error) {
	stream, err := pb.NewTaskServiceClient(conn).SubmitStream(ctx)
	if err != nil {
		return nil, err
	}
	f := &framed{out: newRelayQueue[*pb.StreamTask](), calls: make([]framedCall, callers)}
	for i := range f.calls {
		f.calls[i].done = make(chan struct{}, 1)
	}
	go func() { // ends with ctx
		f.out.drain(ctx.Done(), func(tasks []*pb.StreamTask) error {
			return stream.Send(&pb.SubmitStreamRequest{Tasks: tasks})
		})
	}()
	go func() { // ends with ctx
		for {
			frame, err := stream.Recv()
			if err != nil {
				return
			}
			for _, o := range frame.Outcomes {
				c := &f.calls[o.Number]
				c.result = o.Result
				if o.Error != nil || o.Failure != nil {
					c.err = fmt.Errorf("%v %v", o.Error, o.Failure)
				}
				c.done <- struct{}{}
			}
		}
	}()
	return f, nil
}

func (f *framed) call(ctx context.Context, caller uint64) ([]byte, error) {
	c := &f.calls[caller]
	f.out.put(&pb.StreamTask{Number: caller, Function: function, Payload: payload})
	select {
	case <-c.done:
		return c.result, c.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
