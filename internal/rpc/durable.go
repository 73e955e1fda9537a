package rpc

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/task"
)

// Kept is what the border wants to know of durable tasks, as dispatch.Dispatcher
// tells it.
type Kept interface {
	Task(ctx context.Context, id string) (*task.Record, error)
	// WaitTask returns the task once it has its outcome, or as it is when ctx
	// ends.
	WaitTask(ctx context.Context, id string) (*task.Record, error)
	ListTasks(ctx context.Context, q task.Query) (page []task.Record, next string, err error)
	ExplainTask(ctx context.Context, id string) (*dispatch.Explanation, error)
}

// Bounds of a WaitTask.
const (
	defaultWait = 30 * time.Second
	maxWait     = 10 * time.Minute
)

// about asks the inside for one task.
func (s *taskService) about(
	ctx context.Context, id string, ask func(context.Context, string) (*task.Record, error),
) (*pb.Task, error) {
	if err := task.CheckID(id); err != nil {
		return nil, refuse(err)
	}
	if err := s.mayKnow(ctx, id); err != nil {
		return nil, err
	}
	r, err := ask(ctx, id)
	if err != nil {
		return nil, failed(ctx, s.log.log, err)
	}
	return recordToWire(r), nil
}

// mayKnow refuses a caller a task that is not its own, as if there were none.
func (s *taskService) mayKnow(ctx context.Context, id string) error {
	if callerOf(ctx).seesAll() {
		return nil
	}
	if _, err := s.seen(ctx, id); err != nil {
		return failed(ctx, s.log.log, err)
	}
	return nil
}

// seen is a task as its caller may see it.
func (s *taskService) seen(ctx context.Context, id string) (*task.Record, error) {
	r, err := s.kept.Task(ctx, id)
	if who := callerOf(ctx); err == nil && !who.seesAll() && r.Owner != who.owner() {
		return nil, dispatch.ErrTaskNotFound
	}
	return r, err
}

func (s *taskService) GetTask(ctx context.Context, req *pb.GetTaskRequest) (*pb.GetTaskResponse, error) {
	if err := task.CheckID(req.GetTaskId()); err != nil {
		return nil, refuse(err)
	}
	r, err := s.seen(ctx, req.GetTaskId())
	if err != nil {
		return nil, failed(ctx, s.log.log, err)
	}
	return &pb.GetTaskResponse{Task: recordToWire(r)}, nil
}

func (s *taskService) CancelTask(ctx context.Context, req *pb.CancelTaskRequest) (*pb.CancelTaskResponse, error) {
	t, err := s.about(ctx, req.GetTaskId(), s.keeper.CancelTask)
	if err != nil {
		return nil, err
	}
	return &pb.CancelTaskResponse{Task: t}, nil
}

func (s *taskService) RetryTask(ctx context.Context, req *pb.RetryTaskRequest) (*pb.RetryTaskResponse, error) {
	t, err := s.about(ctx, req.GetTaskId(), s.keeper.RetryTask)
	if err != nil {
		return nil, err
	}
	return &pb.RetryTaskResponse{Task: t}, nil
}

func (s *taskService) WaitTask(ctx context.Context, req *pb.WaitTaskRequest) (*pb.WaitTaskResponse, error) {
	wait, err := duration("timeout", req.GetTimeout())
	if err != nil {
		return nil, err
	}
	switch {
	case wait == 0:
		wait = defaultWait
	case wait < 0 || wait > maxWait:
		return nil, invalid("timeout", fmt.Sprintf("is %v; give more than 0 and at most %v, or 0 for %v", wait, maxWait, defaultWait))
	}
	if end, ok := ctx.Deadline(); ok {
		wait = min(wait, beforeDeadline(time.Until(end)))
	}
	waiting, end := context.WithTimeout(ctx, wait)
	defer end()
	done := s.polls.begin(end)
	t, err := s.about(ctx, req.GetTaskId(), func(ctx context.Context, id string) (*task.Record, error) {
		r, err := s.kept.WaitTask(waiting, id)
		if over := waiting.Err(); over != nil && errors.Is(err, over) { // it ended while the store was asked
			return s.kept.Task(ctx, id)
		}
		return r, err
	})
	ended := done()
	if err != nil {
		return nil, err
	}
	over := task.State(t.State).Terminal()
	if ended && !over { // so that nobody asks again at once
		return nil, refuse(dispatch.ErrDraining)
	}
	return &pb.WaitTaskResponse{Task: t, Done: over}, nil
}

// beforeDeadline is how much of the time left a call may wait, so that its answer
// still reaches the caller.
func beforeDeadline(left time.Duration) time.Duration {
	return max(left-min(left/10, 500*time.Millisecond), 0)
}

func (s *taskService) ListTasks(ctx context.Context, req *pb.ListTasksRequest) (*pb.ListTasksResponse, error) {
	q := task.Query{State: task.State(req.GetState()), Function: req.GetFunction()}
	if n := req.GetState(); n < 0 || n > pb.TaskState(task.Expired) {
		return nil, invalid("state", fmt.Sprintf("is %d, which is none; give 1 to %d, or 0 for all", n, task.Expired))
	}
	if q.Function != "" {
		if err := task.CheckFunction(q.Function); err != nil {
			return nil, refuse(err)
		}
	}
	if who := callerOf(ctx); !who.seesAll() {
		q.Owner = who.owner()
	}
	var err error
	if q.Limit, q.Before, err = page(req.GetPageSize(), req.GetPageToken()); err != nil {
		return nil, err
	}
	found, next, err := s.kept.ListTasks(ctx, q)
	if err != nil {
		return nil, failed(ctx, s.log.log, err)
	}
	resp := &pb.ListTasksResponse{
		Tasks: make([]*pb.Task, len(found)), NextPageToken: base64.RawURLEncoding.EncodeToString([]byte(next)),
	}
	for i := range found {
		t := recordToWire(&found[i])
		t.Payload, t.Result, t.Attempts = nil, nil, nil // whatever the store gave
		resp.Tasks[i] = t
	}
	return resp, nil
}
