package client

import (
	"context"
	"errors"
	"runtime"
	"sync"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/wire"
)

// Bounds of a request, and how many are under way at a time: while they are, the
// next one gathers. One larger task travels alone.
const (
	maxBatch      = 1000 // what a balancer takes at most
	maxBatchBytes = 8 << 20
	maxRequests   = 2
)

// enqueuing is a task on its way to the disk. It belongs to the sender that took
// it, until that settles it; then to the call that made it.
type enqueuing struct {
	wire pb.EnqueueTask
	size int
	span trace.Span // nil: none

	existed bool
	err     error
	done    chan struct{} // holds a token once settled

	// Guarded by batches.mu.
	taken bool // by a sender
	left  bool // by its caller, before that
}

var enqueuings = sync.Pool{New: func() any { return &enqueuing{done: make(chan struct{}, 1)} }}

// settle gives the task to its caller. Nobody else may touch it after that.
func (k *enqueuing) settle(existed bool, err error) {
	k.existed, k.err = existed, err
	k.done <- struct{}{}
}

// recycle is for a task that is settled.
func (k *enqueuing) recycle() {
	k.wire.Reset()
	k.size, k.span, k.existed, k.err, k.taken, k.left = 0, nil, false, nil, false, false
	enqueuings.Put(k)
}

// batches gathers the tasks of concurrent calls, and has senders that make
// requests of them.
type batches struct {
	sending sync.WaitGroup
	wake    chan struct{} // a token for each sender that is to wake

	mu      sync.Mutex
	pending []*enqueuing
	started bool
	idle    int // senders that sleep
	closed  bool
}

// add takes tasks. The senders start with the first, so that a Client that
// enqueues nothing has none.
func (b *batches) add(c *Client, tasks ...*enqueuing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		for _, k := range tasks {
			k.settle(false, c.errClosed(k.wire.TaskId))
		}
		return
	}
	if !b.started {
		b.started = true
		for range maxRequests {
			b.sending.Go(func() { (&sender{c: c}).run() })
		}
	}
	b.pending = append(b.pending, tasks...)
	b.rouse()
}

// rouse wakes a sender if one sleeps. The caller holds b.mu.
func (b *batches) rouse() {
	if b.idle > 0 {
		b.idle--
		b.wake <- struct{}{} // there is room for all of them
	}
}

// leave reports whether the task had not been taken, and now never will be.
func (b *batches) leave(k *enqueuing) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	k.left = true
	return !k.taken
}

// take waits for tasks and appends those of the next request to batch; none when
// the Client is closed.
func (b *batches) take(batch []*enqueuing) []*enqueuing {
	// Those who are about to enqueue do so first, and travel along.
	runtime.Gosched()
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		n, size := 0, 0
		for _, k := range b.pending {
			if !k.left {
				if size += k.size; len(batch) == maxBatch || len(batch) > 0 && size > maxBatchBytes {
					break
				}
				k.taken = true
				batch = append(batch, k)
			}
			n++
		}
		rest := copy(b.pending, b.pending[n:])
		clear(b.pending[rest:])
		b.pending = b.pending[:rest]
		if rest > 0 {
			b.rouse()
		}
		if len(batch) > 0 || b.closed {
			return batch
		}
		b.idle++
		b.mu.Unlock()
		<-b.wake
		runtime.Gosched()
		b.mu.Lock()
	}
}

// close has the senders end, and waits for them. The Client's life has ended.
func (b *batches) close(c *Client) {
	b.mu.Lock()
	b.closed = true
	for _, k := range b.pending {
		k.settle(false, c.errClosed(k.wire.TaskId))
	}
	b.pending = nil
	for b.idle > 0 {
		b.rouse()
	}
	b.mu.Unlock()
	b.sending.Wait()
}

// sender makes one request after the other.
type sender struct {
	c     *Client
	batch []*enqueuing // what the request under way is about, and nobody has judged yet
	req   pb.EnqueueRequest
	tries int
	lost  bool // a try may have arrived without an answer
}

func (s *sender) run() {
	var taken []*enqueuing
	for {
		if taken = s.c.batches.take(taken[:0]); len(taken) == 0 {
			return
		}
		s.send(taken)
		clear(taken)
		clear(s.req.Tasks)
	}
}

// send enqueues a batch and settles all of it. A batch that the transport finds
// too large goes in halves.
func (s *sender) send(batch []*enqueuing) {
	s.batch, s.tries, s.lost = batch, 0, false
	s.fill()
	_, err := ask(s.c.life, s.c, "", s.try, &s.req)
	if err == nil {
		return
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		e = fromStatus(err)
	}
	if tooLarge(e) && len(s.batch) > 1 {
		rest := s.batch
		half := len(rest) / 2
		s.send(rest[:half])
		s.send(rest[half:])
		return
	}
	for _, k := range s.batch {
		own := *e
		own.TaskID = k.wire.TaskId
		if tooLarge(e) {
			own.Code, own.Reason = codes.InvalidArgument, "PAYLOAD_TOO_LARGE"
		}
		if s.lost {
			k.settle(false, unsure(&own))
		} else {
			k.settle(false, &own)
		}
	}
}

func (s *sender) fill() {
	s.req.Tasks = s.req.Tasks[:0]
	for _, k := range s.batch {
		s.req.Tasks = append(s.req.Tasks, &k.wire)
	}
}

// try makes the request, and settles what the balancer has judged. What it did
// not take because it is stopping is left for the next try.
func (s *sender) try(ctx context.Context, req *pb.EnqueueRequest, o ...grpc.CallOption) (*pb.EnqueueResponse, error) {
	if s.tries++; s.tries > 1 {
		for _, t := range req.Tasks {
			t.FreshId = false // the balancer may have seen it
		}
	}
	var to peer.Peer
	resp, err := s.c.stub.Enqueue(ctx, req, append(o, grpc.Peer(&to), grpc.ForceCodecV2(wire.Codec{}))...)
	if err == nil && len(resp.GetResults()) != len(s.batch) {
		err = &Error{Code: codes.Internal, Reason: "INTERNAL", Message: "the balancer did not say what became of each task"}
	}
	if err != nil {
		// Only a grpc.ClientConn is known to tell whether it had a connection.
		reached := to.Addr != nil || !s.c.tellsPeer
		s.lost = s.lost || reached && !tookNothing(fromStatus(err))
		return nil, err
	}
	var draining *Error
	again := s.batch[:0]
	for i, r := range resp.GetResults() {
		k := s.batch[i]
		switch e := r.GetError(); {
		case e == nil:
			k.settle(r.GetExisted(), nil)
		case e.GetReason() == "DRAINING":
			draining = fromFrame(e, k.wire.TaskId)
			again = append(again, k)
		default:
			k.settle(false, fromFrame(e, k.wire.TaskId))
		}
	}
	if s.batch = again; draining == nil {
		return resp, nil
	}
	s.fill()
	return nil, draining
}

// tookNothing reports whether the balancer took nothing of a request that ended so.
func tookNothing(e *Error) bool {
	switch e.Code {
	case codes.InvalidArgument, codes.FailedPrecondition, codes.ResourceExhausted:
		return true
	}
	return e.hopeless() || e.Reason == "DRAINING"
}
