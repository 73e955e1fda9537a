package client

import (
	"context"
	"fmt"
	"iter"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "reparto/gen/reparto/v1"
)

// Wait blocks until an enqueued task has its outcome, or ctx ends. The error is a
// *TaskError when the task failed, else an *Error: reason TASK_CANCELLED,
// TASK_EXPIRED or TASK_NOT_FOUND, or why the balancer could not be asked for as
// long as the connect timeout. The end of ctx changes nothing for the task; any
// number of callers may wait for it, again and again, until its retention has
// passed.
func (c *Client) Wait(ctx context.Context, id string) (Outcome, error) {
	if ctx.Err() != nil {
		return Outcome{}, errContext(ctx, id)
	}
	for {
		resp, err := ask(ctx, c, id, c.stub.WaitTask, &pb.WaitTaskRequest{TaskId: id, Timeout: durationpb.New(longPoll)})
		if err != nil {
			return Outcome{}, err
		}
		if resp.GetDone() {
			return outcomeOf(resp.GetTask())
		}
		// The answer to a short time limit comes a little before it.
		if end, ok := ctx.Deadline(); ok && time.Until(end) < time.Second {
			<-ctx.Done()
		}
		if ctx.Err() != nil {
			return Outcome{}, errContext(ctx, id)
		}
	}
}

// Get returns all that is known of an enqueued task. It blocks for an answer, as
// do those below: the error is an *Error, with reason TASK_NOT_FOUND when there is
// no such task.
func (c *Client) Get(ctx context.Context, id string) (TaskInfo, error) {
	resp, err := ask(ctx, c, id, c.stub.GetTask, &pb.GetTaskRequest{TaskId: id})
	return infoOf(resp.GetTask()), err
}

// CancelTask ends an enqueued task and returns it; one that has its outcome
// already is returned as it is.
func (c *Client) CancelTask(ctx context.Context, id string) (TaskInfo, error) {
	resp, err := ask(ctx, c, id, c.stub.CancelTask, &pb.CancelTaskRequest{TaskId: id})
	return infoOf(resp.GetTask()), err
}

// RetryTask queues a failed, cancelled or expired task again, with all its
// attempts before it; an *Error with reason TASK_NOT_FINISHED for any other. That
// error may also mean that it worked, and that the first answer was lost.
func (c *Client) RetryTask(ctx context.Context, id string) (TaskInfo, error) {
	resp, err := ask(ctx, c, id, c.stub.RetryTask, &pb.RetryTaskRequest{TaskId: id})
	return infoOf(resp.GetTask()), err
}

// Explain tells why an enqueued task is where it is.
func (c *Client) Explain(ctx context.Context, id string) (Explanation, error) {
	resp, err := ask(ctx, c, id, c.stub.ExplainTask, &pb.ExplainTaskRequest{TaskId: id})
	return explanationOf(resp), err
}

// Filter selects tasks for List. What is set must hold.
type Filter struct {
	State    State
	Function string
}

// List goes through enqueued tasks, the newest first where the balancer or an SDK
// made their ids. It asks for page after page as it goes, so that tasks may come
// and go meanwhile, and ends with the first error.
func (c *Client) List(ctx context.Context, f Filter) iter.Seq2[TaskInfo, error] {
	state := pb.TaskState(pb.TaskState_value[statePrefix+string(f.State)])
	return pages(func(token string) ([]*pb.Task, string, error) {
		if f.State != "" && stateOf(state) != f.State { // else it would list all
			return nil, "", &Error{Code: codes.InvalidArgument, Reason: "STATE", Message: fmt.Sprintf("there is no state %q; give one of the constants, such as %q", f.State, Failed)}
		}
		resp, err := ask(ctx, c, "", c.stub.ListTasks, &pb.ListTasksRequest{State: state, Function: f.Function, PageSize: pageSize, PageToken: token})
		return resp.GetTasks(), resp.GetNextPageToken(), err
	}, infoOf)
}
