package rpc

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/status"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/task"
)

// Tasks is what the border wants of whoever takes tasks.
type Tasks interface {
	// Submit takes a batch of valid tasks, as dispatch.Dispatcher does.
	Submit(w dispatch.Waiter, batch []dispatch.Submission)
	// Abandon says that w, which had these tickets, waits no more.
	Abandon(w dispatch.Waiter, tickets ...dispatch.Ticket)
}

// taskService is the door for clients.
type taskService struct {
	pb.UnimplementedTaskServiceServer
	tasks   Tasks
	keeper  Keeper
	kept    Kept
	limits  limits
	opt     Options
	log     *taskLog
	events  *lifecycle
	polls   *polls
	refused *refusals
	// serverID names this run of the balancer.
	serverID string
}

// call waits for one task. It is used again by later calls.
type call struct {
	batch [1]dispatch.Submission
	done  chan struct{} // holds a token once id and outcome are set
	id    string
	o     task.Outcome
}

var calls = sync.Pool{New: func() any { return &call{done: make(chan struct{}, 1)} }}

// Done implements dispatch.Waiter.
func (c *call) Done(finished []dispatch.Finished) {
	c.id, c.o = finished[0].TaskID, finished[0].Outcome
	c.done <- struct{}{}
}

func (s *taskService) Submit(ctx context.Context, req *pb.SubmitRequest) (*pb.SubmitResponse, error) {
	now := time.Now()
	timeout, err := duration("timeout", req.GetTimeout())
	if err != nil {
		return nil, err
	}
	attemptTimeout, err := duration("attempt_timeout", req.GetAttemptTimeout())
	if err != nil {
		return nil, err
	}
	c := calls.Get().(*call)
	defer c.release()
	t := &c.batch[0].Task
	if err := s.limits.task(t, now, req, req.Text, timeout, attemptTimeout); err != nil {
		return nil, err
	}
	if end, ok := ctx.Deadline(); ok && (timeout == 0 || end.Before(t.Deadline)) {
		t.Deadline = end
		if latest := now.Add(s.limits.MaxTimeout); end.After(latest) {
			t.Deadline = latest
		}
	}
	if err := admit(ctx, now, t); err != nil {
		return nil, err
	}
	held := quotasOf(ctx)
	if err := held.hold(len(t.Payload)); err != nil {
		return nil, err
	}
	defer held.letGo(1, len(t.Payload))
	s.log.received(ctx, t)
	s.tasks.Submit(c, c.batch[:])
	if err := c.batch[0].Err; err != nil {
		return nil, refuse(err)
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		s.tasks.Abandon(c, c.batch[0].Ticket)
		// From here on Done is not called any more; it may have been.
		select {
		case <-c.done:
		default:
		}
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	if r := noVerdict(&c.o); r != nil {
		return nil, r
	}
	s.log.sent(c.id)
	return submitResponse(c.id, &c.o, req.Text != nil), nil
}

// admit makes a task its caller's, if that may submit it now.
func admit(ctx context.Context, now time.Time, t *task.Task) error {
	who := callerOf(ctx)
	if err := who.maySubmit(t.Function); err != nil {
		return err
	}
	t.Owner = who.owner()
	_, err := quotasOf(ctx).take(now, 1)
	return err
}

func (c *call) release() {
	c.batch[0] = dispatch.Submission{}
	c.id, c.o = "", task.Outcome{}
	calls.Put(c)
}

func submitResponse(id string, o *task.Outcome, text bool) *pb.SubmitResponse {
	resp := &pb.SubmitResponse{
		TaskId: id, Failure: failureToWire(o.Failure), Attempt: int32(o.Attempt), WorkerId: o.WorkerID,
	}
	if o.Failure != nil {
		return resp
	}
	var ok bool
	if resp.Text, ok = asText(text, o.Result); !ok {
		resp.Result = o.Result
	}
	return resp
}
