package client

import (
	"context"
	"iter"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "reparto/gen/reparto/v1"
)

// State is where an enqueued task is in its life.
type State string

// The states. The last four are final.
const (
	Scheduled State = "SCHEDULED" // it waits for its time, or for its backoff to pass
	Queued    State = "QUEUED"
	Running   State = "RUNNING"
	Succeeded State = "SUCCEEDED"
	Failed    State = "FAILED"
	Cancelled State = "CANCELLED"
	Expired   State = "EXPIRED"
)

// TaskInfo is an enqueued task as it is now. Times that don't apply are zero.
type TaskInfo struct {
	ID, Function                 string
	State                        State
	Priority                     int
	Enqueued, RunAt, ExpireAt    time.Time
	Finished, ForgetAt           time.Time
	MaxAttempts                  int
	FailedAttempts, LostAttempts int
	Metadata                     map[string]string
	// Attempts, Payload and Result are not in listings.
	Attempts []Attempt
	Payload  []byte
	Result   []byte
	// Err is why the task has no result: a *TaskError or an *Error; nil while it
	// has no outcome.
	Err error
}

// Attempt is one handing of a task to a worker.
type Attempt struct {
	Number         int
	WorkerID       string
	Started, Ended time.Time // Ended is zero while it runs
	// Err is how it ended, unless it brought the result.
	Err error
}

// Explanation tells why a task is where it is.
type Explanation struct {
	State State
	// Text is a sentence for people; the rest is about a task without an outcome.
	Text                      string
	Workers, Slots, FreeSlots int
	Paused                    bool
	Position                  int64
	RunAt                     time.Time
	WorkerID                  string
	Running, LastHeard        time.Duration
	Attempt                   int
}

// Filter selects tasks for List. What is set must hold.
type Filter struct {
	State    State
	Function string
}

// longPoll is how long one call of Wait waits.
const longPoll = 30 * time.Second

// Wait blocks until an enqueued task has its outcome, or ctx ends. The error is a
// *TaskError when the task failed, else an *Error: reason TASK_CANCELLED,
// TASK_EXPIRED or TASK_NOT_FOUND, or why the balancer could not be asked for as
// long as the connect timeout. It may be called again.
func (c *Client) Wait(ctx context.Context, id string) (Outcome, error) {
	for {
		var resp *pb.WaitTaskResponse
		err := c.ask(ctx, id, func(ctx context.Context) (err error) {
			resp, err = c.stub.WaitTask(ctx, &pb.WaitTaskRequest{TaskId: id, Timeout: durationpb.New(longPoll)}, grpc.WaitForReady(true))
			return err
		})
		if err != nil {
			return Outcome{}, err
		}
		if resp.GetDone() {
			return outcomeOf(resp.GetTask())
		}
	}
}

func outcomeOf(t *pb.Task) (Outcome, error) {
	if err := errOf(t); err != nil {
		return Outcome{}, err
	}
	out := Outcome{TaskID: t.GetTaskId(), Result: t.GetResult()}
	if n := len(t.GetAttempts()); n > 0 {
		last := t.GetAttempts()[n-1]
		out.Attempt, out.WorkerID = int(last.GetAttempt()), last.GetWorkerId()
	}
	return out, nil
}

// errOf is why a task has no result; nil when it has one, or no outcome.
func errOf(t *pb.Task) error {
	f := t.GetFailure()
	message := f.GetMessage()
	switch t.GetState() {
	case pb.TaskState_TASK_STATE_FAILED:
		e := &TaskError{TaskID: t.GetTaskId(), Reason: f.GetReason(), Message: message, Retry: f.GetRetry()}
		if n := len(t.GetAttempts()); n > 0 {
			last := t.GetAttempts()[n-1]
			e.Attempt, e.WorkerID = int(last.GetAttempt()), last.GetWorkerId()
		}
		return e
	case pb.TaskState_TASK_STATE_CANCELLED:
		return &Error{Code: codes.Canceled, Reason: "TASK_CANCELLED", Message: orWords(message, "the task was cancelled"), TaskID: t.GetTaskId(), cause: context.Canceled}
	case pb.TaskState_TASK_STATE_EXPIRED:
		return &Error{Code: codes.DeadlineExceeded, Reason: "TASK_EXPIRED", Message: orWords(message, "the task's time to live passed"), TaskID: t.GetTaskId(), cause: context.DeadlineExceeded}
	}
	return nil
}

func orWords(said, or string) string {
	if said == "" {
		return or
	}
	return said
}

// Get returns all that is known of an enqueued task; an *Error with reason
// TASK_NOT_FOUND when there is none.
func (c *Client) Get(ctx context.Context, id string) (TaskInfo, error) {
	var resp *pb.GetTaskResponse
	err := c.ask(ctx, id, func(ctx context.Context) (err error) {
		resp, err = c.stub.GetTask(ctx, &pb.GetTaskRequest{TaskId: id}, grpc.WaitForReady(true))
		return err
	})
	return infoOf(resp.GetTask()), err
}

// CancelTask ends an enqueued task and returns it; one that has its outcome
// already is returned as it is.
func (c *Client) CancelTask(ctx context.Context, id string) (TaskInfo, error) {
	var resp *pb.CancelTaskResponse
	err := c.ask(ctx, id, func(ctx context.Context) (err error) {
		resp, err = c.stub.CancelTask(ctx, &pb.CancelTaskRequest{TaskId: id}, grpc.WaitForReady(true))
		return err
	})
	return infoOf(resp.GetTask()), err
}

// RetryTask queues a failed, cancelled or expired task again, with all its
// attempts before it; an *Error with reason TASK_NOT_FINISHED for any other.
func (c *Client) RetryTask(ctx context.Context, id string) (TaskInfo, error) {
	var resp *pb.RetryTaskResponse
	err := c.ask(ctx, id, func(ctx context.Context) (err error) {
		resp, err = c.stub.RetryTask(ctx, &pb.RetryTaskRequest{TaskId: id}, grpc.WaitForReady(true))
		return err
	})
	return infoOf(resp.GetTask()), err
}

// Explain tells why an enqueued task is where it is.
func (c *Client) Explain(ctx context.Context, id string) (Explanation, error) {
	var resp *pb.ExplainTaskResponse
	err := c.ask(ctx, id, func(ctx context.Context) (err error) {
		resp, err = c.stub.ExplainTask(ctx, &pb.ExplainTaskRequest{TaskId: id}, grpc.WaitForReady(true))
		return err
	})
	return Explanation{
		State: stateOf(resp.GetState()), Text: resp.GetExplanation(), Workers: int(resp.GetWorkers()), Slots: int(resp.GetSlots()),
		FreeSlots: int(resp.GetFreeSlots()), Paused: resp.GetPaused(), Position: resp.GetPosition(), RunAt: timeOf(resp.GetRunAt()),
		WorkerID: resp.GetWorkerId(), Running: resp.GetRunningFor().AsDuration(), LastHeard: resp.GetLastHeardAgo().AsDuration(),
		Attempt: int(resp.GetAttempt()),
	}, err
}

// List goes through enqueued tasks, the newest first where the balancer or an SDK
// made their ids. It asks for page after page as it goes, and ends with the first
// error.
func (c *Client) List(ctx context.Context, f Filter) iter.Seq2[TaskInfo, error] {
	return func(yield func(TaskInfo, error) bool) {
		req := &pb.ListTasksRequest{Function: f.Function, State: pb.TaskState(pb.TaskState_value[statePrefix+string(f.State)]), PageSize: 1000}
		for {
			var resp *pb.ListTasksResponse
			err := c.ask(ctx, "", func(ctx context.Context) (err error) {
				resp, err = c.stub.ListTasks(ctx, req, grpc.WaitForReady(true))
				return err
			})
			if err != nil {
				yield(TaskInfo{}, err)
				return
			}
			for _, t := range resp.GetTasks() {
				if !yield(infoOf(t), nil) {
					return
				}
			}
			if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
				return
			}
		}
	}
}

const statePrefix = "TASK_STATE_"

func stateOf(s pb.TaskState) State {
	if s == pb.TaskState_TASK_STATE_UNSPECIFIED {
		return ""
	}
	return State(strings.TrimPrefix(s.String(), statePrefix))
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func infoOf(t *pb.Task) TaskInfo {
	info := TaskInfo{
		ID: t.GetTaskId(), Function: t.GetFunction(), State: stateOf(t.GetState()), Priority: int(t.GetPriority()),
		Enqueued: timeOf(t.GetEnqueueTime()), RunAt: timeOf(t.GetRunAt()), ExpireAt: timeOf(t.GetExpireTime()),
		Finished: timeOf(t.GetFinishTime()), ForgetAt: timeOf(t.GetForgetTime()), MaxAttempts: int(t.GetMaxAttempts()),
		FailedAttempts: int(t.GetFailedAttempts()), LostAttempts: int(t.GetLostAttempts()), Metadata: t.GetMetadata(),
		Payload: t.GetPayload(), Result: t.GetResult(), Err: errOf(t),
	}
	for _, a := range t.GetAttempts() {
		to := Attempt{Number: int(a.GetAttempt()), WorkerID: a.GetWorkerId(), Started: timeOf(a.GetStartTime()), Ended: timeOf(a.GetEndTime())}
		if f := a.GetFailure(); f != nil {
			to.Err = &TaskError{
				TaskID: t.GetTaskId(), Reason: f.GetReason(), Message: f.GetMessage(), Retry: f.GetRetry(),
				Attempt: to.Number, WorkerID: to.WorkerID,
			}
		}
		info.Attempts = append(info.Attempts, to)
	}
	return info
}
