package client

import (
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	pb "reparto/gen/reparto/v1"
)

// Bounds of a frame. One larger task travels alone.
const (
	maxFrameBytes     = 1 << 20
	defaultFrameTasks = 256
	maxFrameCancels   = 4096
	taskOverhead      = 64 // the most that a task adds beside its payload and strings
	entryOverhead     = 12 // likewise for an entry of its metadata
	cancelSize        = 10
)

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

// add returns a message to be filled, and used again.
func (f *frame) add() *pb.StreamTask {
	n := len(f.req.Tasks)
	if n == len(f.tasks) {
		f.tasks = append(f.tasks, &pb.StreamTask{})
	}
	f.req.Tasks = f.tasks[:n+1]
	return f.tasks[n]
}

// fill moves what is pending into a frame. It returns calls that can't be sent,
// to be released. When there is nothing to send, the writer may sleep.
func (s *session) fill(f *frame) (over []*call) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.moved {
		f.req.CancelNumbers, f.req.Tasks = f.req.CancelNumbers[:0], f.tasks[:0]
		return nil
	}
	now := time.Now()
	n := min(len(c.cancels), maxFrameCancels)
	f.req.CancelNumbers = append(f.req.CancelNumbers[:0], c.cancels[:n]...)
	c.cancels = append(c.cancels[:0], c.cancels[n:]...)
	f.req.Tasks = f.tasks[:0]
	size, most := int64(n*cancelSize), min(maxFrameBytes, s.maxMessage)
	taken := 0
	for _, k := range c.pending {
		if k.settled {
			c.stale--
		} else if err := s.check(k); err != nil {
			c.settle(k, Outcome{}, err)
			c.stale--
			if k.fn == nil {
				over = append(over, k)
			}
		} else {
			size += k.size()
			full := len(f.req.Tasks) == s.maxTasks || (!f.empty() && size > most)
			s.full = s.inFlight >= s.maxInFlight
			if full || s.full || !c.accepting {
				break
			}
			s.convert(f.add(), k, now)
			k.sent, k.on = true, s
			s.inFlight++
		}
		taken++
	}
	rest := copy(c.pending, c.pending[taken:])
	clear(c.pending[rest:])
	c.pending = c.pending[:rest]
	c.asleep = f.empty()
	return over
}

// check refuses a task that is too large for this balancer.
func (s *session) check(k *call) error {
	if n := int64(len(k.task.Payload)); n > s.maxPayload {
		return k.tooLarge("the payload", n, s.maxPayload)
	}
	if n := k.size(); n > s.maxMessage {
		return k.tooLarge("the task with its metadata", n, s.maxMessage)
	}
	return nil
}

func (k *call) tooLarge(what string, size, limit int64) error {
	return &Error{
		Code: codes.InvalidArgument, Reason: "PAYLOAD_TOO_LARGE", TaskID: k.task.ID,
		Message: fmt.Sprintf("%s has %d bytes; the balancer takes at most %d", what, size, limit),
	}
}

// size is at least what the task takes in a frame.
func (k *call) size() int64 {
	n := taskOverhead + len(k.task.Payload) + len(k.task.Function) + len(k.task.ID)
	if len(k.task.Metadata) > 0 { // to range over nothing has a cost too
		for key, v := range k.task.Metadata {
			n += len(key) + len(v) + entryOverhead
		}
	}
	return int64(n)
}

func (s *session) convert(to *pb.StreamTask, k *call, now time.Time) {
	t := &k.task
	to.Number, to.Function, to.Payload, to.TaskId, to.Metadata = k.number, t.Function, t.Payload, t.ID, t.Metadata
	to.AttemptTimeoutMs, to.FailFast = millis(t.AttemptTimeout), t.FailFast
	to.MaxAttempts, to.Priority = clamp(t.MaxAttempts), clamp(t.Priority)
	to.TimeoutMs = millis(t.Timeout) // what the balancer judges, if it is the caller's own word
	if k.deadline.IsZero() {
		return
	}
	left := max(millis(k.deadline.Sub(now)), 1)
	switch {
	case t.Timeout > 0:
		to.TimeoutMs = min(left, to.TimeoutMs)
	case t.Timeout == 0: // the context's deadline is no wish for so long a time
		to.TimeoutMs = min(left, s.maxTimeout)
	}
}

// millis rounds away from 0, so that a wish for less than a millisecond is not
// one for the default.
func millis(d time.Duration) int64 {
	ms := int64(d / time.Millisecond)
	switch rest := d % time.Millisecond; {
	case rest > 0:
		ms++
	case rest < 0:
		ms--
	}
	return ms
}
