package client

import (
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/grpc/codes"

	pb "reparto/gen/reparto/v1"
)

// Bounds of a frame. One larger task travels alone.
const (
	maxFrameBytes = 1 << 20
	taskOverhead  = 64 // about what a task adds beside its payload and strings
)

// launch starts the runner with the first task, so that a Client that is not
// used has no goroutine. The caller holds c.mu.
func (c *Client) launch() {
	if c.started {
		return
	}
	c.started = true
	// The stream outlives the call that happened to open it.
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	c.running.Go(func() { c.run(ctx) })
}

// run keeps a stream open while there are tasks, until Close.
func (c *Client) run(ctx context.Context) {
	wait := newBackoff()
	var err error
	for c.waitForTask(ctx) {
		var worked bool
		worked, err = c.serve(ctx, err)
		if ctx.Err() != nil {
			return
		}
		if worked {
			wait.Reset()
		}
		if err == nil {
			continue
		}
		c.opt.log.Info("connection lost", "address", c.target, "error", err)
		e := fromStatus(err)
		if e.hopeless() {
			c.failAll(func(*call) error { return e })
			continue
		}
		c.pause(ctx, max(wait.NextBackOff(), e.RetryAfter), err)
	}
}

func newBackoff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 50*time.Millisecond, 2*time.Second
	b.Reset()
	return b
}

// waitForTask blocks until a task is pending; false when the Client is closed.
func (c *Client) waitForTask(ctx context.Context) bool {
	for {
		c.mu.Lock()
		c.cancels = c.cancels[:0] // of a stream that is gone, which cancels all it had
		c.pending = slices.DeleteFunc(c.pending, func(k *call) bool { return k.settled })
		n := len(c.pending)
		c.mu.Unlock()
		if n > 0 {
			return true
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			return false
		}
	}
}

// pause waits before the next try, and gives up tasks that have waited for a
// connection too long.
func (c *Client) pause(ctx context.Context, d time.Duration, last error) {
	end := time.Now().Add(d)
	for {
		first := c.expire(last)
		now := time.Now()
		if !now.Before(end) {
			return
		}
		if first.IsZero() || first.After(end) {
			first = end
		}
		timer := time.NewTimer(first.Sub(now))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// expire gives up tasks that have waited too long, and returns when the next
// will have.
func (c *Client) expire(last error) (next time.Time) {
	now := time.Now()
	c.failAll(func(k *call) error {
		end := k.since.Add(c.opt.connectTimeout)
		if !k.deadline.IsZero() && k.deadline.Before(end) {
			end = k.deadline
		}
		if !now.Before(end) {
			return c.errNoConnection(last)
		}
		if next.IsZero() || end.Before(next) {
			next = end
		}
		return nil
	})
	return next
}

// serve opens a stream and works on it until it breaks. It reports whether the
// balancer had answered at all. last is why it did not before.
func (c *Client) serve(life context.Context, last error) (worked bool, err error) {
	ctx, cancel := context.WithCancel(life)
	defer cancel()
	// A balancer that accepts and says nothing must not hold tasks for ever.
	next := c.expire(last)
	if next.IsZero() {
		return false, last // no task is left
	}
	opening := time.AfterFunc(time.Until(next), cancel)
	stream, err := c.stub.SubmitStream(ctx)
	if err != nil {
		opening.Stop()
		return false, err
	}
	first, err := stream.Recv()
	if !opening.Stop() {
		err = errors.New("it did not answer")
	}
	if err != nil {
		return false, err
	}
	limits := first.GetLimits()
	if limits == nil {
		return false, errors.New("the balancer did not begin with its limits")
	}
	c.opt.log.Info("connected", "address", c.target, "server_id", limits.GetServerId())
	s := &session{c: c, stream: stream, limits: limits, over: make(chan struct{}), draining: make(chan struct{})}
	var writing sync.WaitGroup
	writing.Go(s.write)
	err = s.read()
	close(s.over)
	cancel()
	writing.Wait()
	if life.Err() == nil { // else Close has its own word for them
		c.afterBreak(err)
	}
	return true, err
}

// afterBreak decides what becomes of the tasks that had been sent.
func (c *Client) afterBreak(err error) {
	// A balancer that ends a stream because it stops has answered everything
	// that it had read.
	unread := fromStatus(err).Reason == "DRAINING"
	now := time.Now()
	var again []*call
	c.failAll(func(k *call) error {
		switch {
		case !k.sent:
			k.since = now
			return nil
		case k.task.Idempotent || unread:
			k.sent, k.since = false, now
			again = append(again, k)
			return nil
		}
		return errFateUnknown(k.task.ID, err)
	})
	c.mu.Lock()
	c.pending = append(again, c.pending...)
	c.mu.Unlock()
}

// session is one stream and what the balancer said of it.
type session struct {
	c        *Client
	stream   pb.TaskService_SubmitStreamClient
	limits   *pb.ClientLimits
	over     chan struct{} // closed when the reader has ended
	draining chan struct{} // closed when the balancer refuses because it stops
}

// read hands out outcomes until the stream ends, and returns why it did.
func (s *session) read() error {
	var over []*call
	for {
		frame, err := s.stream.Recv()
		if err == io.EOF {
			return &Error{Code: codes.Unavailable, Message: "the balancer ended the stream"}
		}
		if err != nil {
			return err
		}
		over = s.c.outcomes(s, frame.GetOutcomes(), over[:0])
		s.c.tell(over)
		clear(over)
	}
}

// outcomes settles the calls that a frame is about.
func (c *Client) outcomes(s *session, outcomes []*pb.StreamOutcome, over []*call) []*call {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range outcomes {
		k := c.lookup(o.GetNumber())
		if k == nil {
			continue // its caller has gone
		}
		out, err := verdict(o)
		if e, ok := err.(*Error); ok && e.Reason == "DRAINING" && (e.neverRan() || k.task.Idempotent) {
			s.again(k)
			continue
		}
		c.settle(k, out, err)
		over = append(over, k)
	}
	return over
}

// again makes a task that a stopping balancer refused wait for the next stream.
// The caller holds c.mu.
func (s *session) again(k *call) {
	k.sent, k.since = false, time.Now()
	s.c.pending = append(s.c.pending, k)
	select {
	case <-s.draining:
	default:
		close(s.draining)
	}
}

func verdict(o *pb.StreamOutcome) (Outcome, error) {
	if e := o.GetError(); e != nil {
		return Outcome{}, fromFrame(e, o.GetTaskId())
	}
	if f := o.GetFailure(); f != nil {
		return Outcome{}, &TaskError{
			TaskID: o.GetTaskId(), Reason: f.GetReason(), Message: f.GetMessage(), Retry: f.GetRetry(),
			Attempt: int(o.GetAttempt()), WorkerID: o.GetWorkerId(),
		}
	}
	return Outcome{TaskID: o.GetTaskId(), Result: o.GetResult(), Attempt: int(o.GetAttempt()), WorkerID: o.GetWorkerId()}, nil
}

// write sends what is pending, many tasks a frame, until the stream ends. Only
// it sends.
func (s *session) write() {
	var f frame
	for {
		select {
		case <-s.draining:
			// The reader goes on until the last outcome is here.
			s.stream.CloseSend()
			return
		case <-s.over:
			signal(s.c.wake) // the wake that it took may have been meant for the runner
			return
		default:
		}
		// Those who are about to submit do so first, and travel along.
		runtime.Gosched()
		s.c.tell(s.c.fill(s, &f))
		if f.empty() {
			select {
			case <-s.c.wake:
			case <-s.over:
			case <-s.draining:
			}
			continue
		}
		if err := s.stream.Send(&f.req); err != nil {
			return // the reader learns why
		}
		f.letGo()
	}
}

// frame is a request whose messages are used again: Send has encoded them by the
// time it returns.
type frame struct {
	req   pb.SubmitStreamRequest
	tasks []*pb.StreamTask
}

func (f *frame) empty() bool { return len(f.req.Tasks) == 0 && len(f.req.CancelNumbers) == 0 }

// letGo drops what the frame held.
func (f *frame) letGo() {
	for _, t := range f.req.Tasks {
		t.Payload, t.Metadata = nil, nil
	}
}

// fill moves what is pending into a frame. It returns calls that can't be sent
// and are settled.
func (c *Client) fill(s *session, f *frame) (over []*call) {
	f.req.Tasks, f.req.CancelNumbers = f.tasks[:0], f.req.CancelNumbers[:0]
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	f.req.CancelNumbers = append(f.req.CancelNumbers, c.cancels...)
	c.cancels = c.cancels[:0]
	size, taken := 0, 0
	for _, k := range c.pending {
		if k.settled {
			taken++
			continue
		}
		if err := s.check(k); err != nil {
			c.settle(k, Outcome{}, err)
			over = append(over, k)
			taken++
			continue
		}
		n := len(f.req.Tasks)
		size += k.size()
		if n >= int(s.limits.GetMaxFrameTasks()) || (n > 0 && size > maxFrameBytes) {
			break
		}
		if n == len(f.tasks) {
			f.tasks = append(f.tasks, &pb.StreamTask{})
		}
		s.convert(f.tasks[n], k, now)
		f.req.Tasks = f.tasks[:n+1]
		k.sent = true
		taken++
	}
	rest := copy(c.pending, c.pending[taken:])
	clear(c.pending[rest:])
	c.pending = c.pending[:rest]
	return over
}

// check refuses a task that is too large for this balancer.
func (s *session) check(k *call) error {
	if n, most := int64(len(k.task.Payload)), s.limits.GetMaxPayloadBytes(); n > most {
		return tooLarge("the payload", n, most)
	}
	if n, most := int64(k.size()), s.limits.GetMaxMessageBytes(); n > most {
		return tooLarge("the task with its metadata", n, most)
	}
	return nil
}

func (k *call) size() int {
	n := taskOverhead + len(k.task.Payload) + len(k.task.Function) + len(k.task.ID)
	for key, v := range k.task.Metadata {
		n += len(key) + len(v) + 8
	}
	return n
}

func (s *session) convert(to *pb.StreamTask, k *call, now time.Time) {
	t := &k.task
	to.Number, to.Function, to.Payload, to.TaskId, to.Metadata = k.number, t.Function, t.Payload, t.ID, t.Metadata
	to.AttemptTimeoutMs, to.MaxAttempts, to.FailFast = millis(t.AttemptTimeout), int32(t.MaxAttempts), t.FailFast
	to.TimeoutMs = millis(t.Timeout) // what the balancer judges, if it is the caller's own word
	if k.deadline.IsZero() {
		return
	}
	left := max(millis(k.deadline.Sub(now)), 1)
	switch {
	case t.Timeout > 0:
		to.TimeoutMs = min(left, to.TimeoutMs)
	case t.Timeout == 0: // the context's deadline is no wish for so long a time
		to.TimeoutMs = min(left, s.limits.GetMaxTimeoutMs())
	}
}

// millis rounds up, so that a wish for less than a millisecond is not one for
// the default.
func millis(d time.Duration) int64 {
	if d < 0 {
		return min(d.Milliseconds(), -1)
	}
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}
