package client

import (
	"cmp"
	"context"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "reparto/gen/reparto/v1"
)

// State is where an enqueued task is in its life.
type State string

// The states. The last four are final.
const (
	Scheduled State = "SCHEDULED" // it waits for its time, or for its backoff to pass
	Queued    State = "QUEUED"    // it waits for a worker
	Running   State = "RUNNING"
	Succeeded State = "SUCCEEDED"
	Failed    State = "FAILED" // RetryTask brings it back
	Cancelled State = "CANCELLED"
	Expired   State = "EXPIRED" // its time to live passed first
)

// TaskInfo is an enqueued task as it is now. Times that don't apply are zero.
type TaskInfo struct {
	ID, Function string
	State        State
	Priority     int
	// Enqueued is when the balancer got it, RunAt when it may run, and ExpireAt
	// when it has expired if it has no outcome.
	Enqueued, RunAt, ExpireAt time.Time
	// Finished is when it got its outcome, which is kept until ForgetAt.
	Finished, ForgetAt time.Time
	MaxAttempts        int
	// FailedAttempts count against MaxAttempts; LostAttempts are those whose
	// worker was lost.
	FailedAttempts, LostAttempts int
	// Attempts are the last 100, oldest first. They, Metadata, Payload and Result
	// are not in listings.
	Attempts []Attempt
	Metadata map[string]string
	Payload  []byte
	Result   []byte
	// Err is why the task has no result: a *TaskError or an *Error, as from Wait;
	// nil while it has no outcome.
	Err error
}

// Attempt is one handing of a task to a worker.
type Attempt struct {
	Number         int // from 1
	WorkerID       string
	Started, Ended time.Time // Ended is zero while it runs
	// Err is how it ended, a *TaskError, unless it brought the result.
	Err error
}

// Explanation tells why a task is where it is.
type Explanation struct {
	State State
	// Text is a sentence for people. The rest is about a task without an outcome.
	Text string
	// Workers offer the function and take tasks; their Slots and FreeSlots.
	Workers, Slots, FreeSlots int
	// Paused says that the function is; see Client.Pause.
	Paused bool
	// Position is about how many tasks are before it in its queue; counted up to
	// 10,000.
	Position int64
	// RunAt is when it may run; zero when it may now.
	RunAt time.Time
	// WorkerID is where it runs, or ran when the balancer was restarted.
	WorkerID string
	// Running is for how long it has run; LastHeard how long ago the worker was
	// last heard, 0 when it is not connected.
	Running, LastHeard time.Duration
	Attempt            int
}

func outcomeOf(t *pb.Task) (Outcome, error) {
	if err := errOf(t); err != nil {
		return Outcome{}, err
	}
	out := Outcome{TaskID: t.GetTaskId(), Result: t.GetResult()}
	out.Attempt, out.WorkerID = lastAttempt(t)
	return out, nil
}

func lastAttempt(t *pb.Task) (number int, workerID string) {
	n := len(t.GetAttempts())
	if n == 0 {
		return 0, ""
	}
	last := t.GetAttempts()[n-1]
	return int(last.GetAttempt()), last.GetWorkerId()
}

// errOf is why a task has no result; nil when it has one, or no outcome.
func errOf(t *pb.Task) error {
	id, f := t.GetTaskId(), t.GetFailure()
	switch t.GetState() {
	case pb.TaskState_TASK_STATE_FAILED:
		number, worker := lastAttempt(t)
		return failureOf(id, f, number, worker)
	case pb.TaskState_TASK_STATE_CANCELLED:
		return &Error{
			Code: codes.Canceled, Reason: "TASK_CANCELLED", TaskID: id, cause: context.Canceled,
			Message: cmp.Or(f.GetMessage(), "the task was cancelled"),
		}
	case pb.TaskState_TASK_STATE_EXPIRED:
		return &Error{
			Code: codes.DeadlineExceeded, Reason: "TASK_EXPIRED", TaskID: id, cause: context.DeadlineExceeded,
			Message: cmp.Or(f.GetMessage(), "the task's time to live passed"),
		}
	}
	return nil
}

func failureOf(id string, f *pb.Failure, attempt int, worker string) *TaskError {
	return &TaskError{
		TaskID: id, Reason: f.GetReason(), Message: f.GetMessage(), Retry: f.GetRetry(), Attempt: attempt, WorkerID: worker,
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
			to.Err = failureOf(t.GetTaskId(), f, to.Number, to.WorkerID)
		}
		info.Attempts = append(info.Attempts, to)
	}
	return info
}

func explanationOf(x *pb.ExplainTaskResponse) Explanation {
	return Explanation{
		State: stateOf(x.GetState()), Text: x.GetExplanation(), Workers: int(x.GetWorkers()), Slots: int(x.GetSlots()),
		FreeSlots: int(x.GetFreeSlots()), Paused: x.GetPaused(), Position: x.GetPosition(), RunAt: timeOf(x.GetRunAt()),
		WorkerID: x.GetWorkerId(), Running: x.GetRunningFor().AsDuration(), LastHeard: x.GetLastHeardAgo().AsDuration(),
		Attempt: int(x.GetAttempt()),
	}
}
