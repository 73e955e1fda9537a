package client

import (
	"cmp"
	"io"
	"math"
	"runtime"
	"time"

	"google.golang.org/grpc/codes"

	pb "reparto/gen/reparto/v1"
)

// session is one stream and what the balancer said of it. Its counters belong
// to Client.mu.
type session struct {
	c      *Client
	stream pb.TaskService_SubmitStreamClient
	over   chan struct{} // closed when nothing more is to be written

	maxPayload, maxMessage, maxTimeout int64
	maxTasks, maxInFlight              int

	began      time.Time
	progress   bool // an outcome came that is not a refusal to take tasks
	inFlight   int  // tasks that the balancer owes an outcome
	full       bool // the writer waits for inFlight to fall
	retryAfter time.Duration

	moved   bool          // another stream takes tasks, or will: see seeOut
	cancels []uint64      // since then, of those that this one owes
	nudge   chan struct{} // since then: look at cancels and inFlight
}

// newSession has the Client use a stream. A limit that is not told is none.
func newSession(c *Client, stream pb.TaskService_SubmitStreamClient, l *pb.ClientLimits) *session {
	s := &session{
		c: c, stream: stream, over: make(chan struct{}), began: time.Now(), nudge: make(chan struct{}, 1),
		maxPayload:  cmp.Or(max(l.GetMaxPayloadBytes(), 0), math.MaxInt64),
		maxMessage:  cmp.Or(max(l.GetMaxMessageBytes(), 0), math.MaxInt64),
		maxTimeout:  cmp.Or(max(l.GetMaxTimeoutMs(), 0), math.MaxInt64),
		maxTasks:    cmp.Or(max(int(l.GetMaxFrameTasks()), 0), defaultFrameTasks),
		maxInFlight: cmp.Or(max(int(l.GetMaxInFlight()), 0), math.MaxInt),
	}
	// At its limit the balancer stops reading, and would not learn of
	// cancellations: so stay one below.
	s.maxInFlight = max(s.maxInFlight-1, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.accepting, c.lastErr = true, nil
	c.room.resize(min(c.opt.maxInFlight, s.maxInFlight))
	return s
}

// held reports whether the stream was of use: a break after that is a new one,
// and not the same trouble as before.
func (s *session) held(now time.Time) bool {
	return s.progress || now.Sub(s.began) >= s.c.opt.connectTimeout
}

// read hands out outcomes until the stream ends, and returns why it did.
func (s *session) read() error {
	var over []*call
	frame := &pb.SubmitStreamResponse{} // wire.Codec uses its messages again
	for {
		err := s.stream.RecvMsg(frame)
		if err == io.EOF {
			return &Error{Code: codes.Unavailable, Message: "the balancer ended the stream"}
		}
		if err != nil {
			return err
		}
		over = s.outcomes(frame.GetOutcomes(), over[:0])
		release(over)
		clear(over)
		for _, o := range frame.Outcomes { // so that an idle stream holds no results
			o.Result, o.Failure, o.Error = nil, nil, nil
		}
	}
}

// outcomes settles the calls that a frame is about, and returns those to be
// released.
func (s *session) outcomes(outcomes []*pb.StreamOutcome, over []*call) []*call {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	s.inFlight = max(s.inFlight-len(outcomes), 0)
	if s.full && s.inFlight < s.maxInFlight {
		s.full = false
		c.rouse()
	}
	if s.moved && s.inFlight == 0 {
		signal(s.nudge)
	}
	for _, o := range outcomes {
		e := o.GetError()
		draining := e.GetReason() == "DRAINING"
		s.progress = s.progress || !draining
		k := c.table.get(o.GetNumber())
		if k == nil || !k.sent {
			continue // its caller has gone
		}
		if draining && (neverRan(e) || k.task.Idempotent) {
			s.refused(k, fromFrame(e, o.GetTaskId()))
			continue
		}
		out, err := verdict(o)
		c.settle(k, out, err)
		if k.fn == nil {
			over = append(over, k)
		}
	}
	return over
}

// refused has a task that a stopping balancer did not take wait for the next
// stream. Nothing is sent on this one any more but cancellations. The caller
// holds c.mu.
func (s *session) refused(k *call, why *Error) {
	now := time.Now()
	if s.held(now) {
		k.since = now
	}
	k.sent, k.refused = false, !s.moved
	c := s.c
	c.pending = append(c.pending, k)
	if s.moved {
		c.rouse()
		c.expect(k)
		return
	}
	c.lose(why, now)
	s.retryAfter = max(s.retryAfter, why.RetryAfter)
	c.expect(k)
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
		// Those who are about to submit do so first, and travel along.
		runtime.Gosched()
		release(s.fill(&f))
		if f.empty() {
			select {
			case <-s.c.wake:
				continue
			case <-s.over:
				return
			}
		}
		if err := s.stream.Send(&f.req); err != nil {
			s.unsend(&f)
			return // the reader learns why
		}
		f.letGo()
	}
}

// unsend notes that a frame never left: a Send that fails has given nothing to
// the transport.
func (s *session) unsend(f *frame) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	var again []*call
	for _, t := range f.req.GetTasks() {
		if k := c.table.get(t.GetNumber()); k != nil && k.sent {
			k.sent = false
			c.expect(k)
			again = append(again, k)
		}
	}
	c.pending = append(again, c.pending...)
}
