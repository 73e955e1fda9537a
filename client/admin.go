package client

import (
	"context"
	"iter"
	"time"

	pb "reparto/gen/reparto/v1"
)

// WorkerInfo is one connected worker.
type WorkerInfo struct {
	ID, SessionID string
	// Address is where it dialled in from.
	Address   string
	Functions []string
	// FreeSlots are those of its Slots that no assignment occupies.
	Slots, FreeSlots int
	Labels           map[string]string
	Build            string
	// Draining says that it gets no more tasks.
	Draining bool
	// Connected is for how long it has been; LastHeard how long ago it was last
	// heard.
	Connected, LastHeard time.Duration
	// Done counts the outcomes that it brought since it connected.
	Done int64
	// Running are the first 100 of what it runs, oldest first.
	Running []Assignment
}

// Assignment is a task that a worker has.
type Assignment struct {
	TaskID, Function string
	Attempt          int
	Running          time.Duration
	// Cancelled says that nobody waits for it any more, but the worker has not let
	// go of it.
	Cancelled bool
	// Percent and Message are its progress as the worker last reported it; 0 and
	// empty when it never did.
	Percent float64
	Message string
}

// FunctionInfo is a named kind of work that has a worker or a task.
type FunctionInfo struct {
	Name string
	// Workers offer it, those that drain included; FreeSlots are theirs, shared
	// with the other functions they offer.
	Workers, FreeSlots          int
	Queued, QueuedBytes         int64
	Running                     int64
	Scheduled                   int64         // waiting for their time, or their backoff
	OldestAge                   time.Duration // of the oldest queued; 0 when none is
	SubmittedRate, FinishedRate float64       // a second, the mean of the last minute
	// The counts are since the balancer started, or since the function last had
	// neither worker nor task.
	Submitted, Succeeded, Failed, Cancelled, Expired int64
	// Retried counts attempts that were given out again.
	Retried int64
	// Paused says that nothing is given out; see Client.Pause.
	Paused bool
}

// Pause gives out no more tasks of a function, and tells whether it was paused
// already. What runs goes on, and tasks are still accepted. It outlives a restart
// of a balancer that has a store. The error is an *Error, as of all calls here;
// they block for an answer, and while there is no connection they try again for as
// long as the connect timeout.
func (c *Client) Pause(ctx context.Context, function string) (was bool, err error) {
	resp, err := ask(ctx, c, "", c.admin.PauseFunction, &pb.PauseFunctionRequest{Function: function})
	return resp.GetWasPaused(), err
}

// Resume ends a pause, and tells whether there was one.
func (c *Client) Resume(ctx context.Context, function string) (was bool, err error) {
	resp, err := ask(ctx, c, "", c.admin.ResumeFunction, &pb.ResumeFunctionRequest{Function: function})
	return resp.GetWasPaused(), err
}

// DrainWorker gives a worker no more tasks and tells it to leave when it has
// finished what it holds; it does not wait for that. An *Error with reason
// WORKER_NOT_FOUND when none of that id is connected.
func (c *Client) DrainWorker(ctx context.Context, workerID string) error {
	_, err := ask(ctx, c, "", c.admin.DrainWorker, &pb.DrainWorkerRequest{WorkerId: workerID})
	return err
}

// Workers goes through the connected workers that offer a function, or all when it
// is empty, in the order of their ids. It asks for page after page as it goes, and
// ends with the first error.
func (c *Client) Workers(ctx context.Context, function string) iter.Seq2[WorkerInfo, error] {
	return pages(func(token string) ([]*pb.Worker, string, error) {
		resp, err := ask(ctx, c, "", c.admin.ListWorkers, &pb.ListWorkersRequest{Function: function, PageSize: pageSize, PageToken: token})
		return resp.GetWorkers(), resp.GetNextPageToken(), err
	}, workerOf)
}

// Functions goes through the functions that have a worker or a task, in the order
// of their names, as Workers does.
func (c *Client) Functions(ctx context.Context) iter.Seq2[FunctionInfo, error] {
	return pages(func(token string) ([]*pb.Function, string, error) {
		resp, err := ask(ctx, c, "", c.admin.ListFunctions, &pb.ListFunctionsRequest{PageSize: pageSize, PageToken: token})
		return resp.GetFunctions(), resp.GetNextPageToken(), err
	}, functionOf)
}

func workerOf(w *pb.Worker) WorkerInfo {
	info := WorkerInfo{
		ID: w.GetWorkerId(), SessionID: w.GetSessionId(), Address: w.GetAddress(), Functions: w.GetFunctions(),
		Slots: int(w.GetSlots()), FreeSlots: int(w.GetFreeSlots()), Labels: w.GetLabels(), Build: w.GetBuild(), Draining: w.GetDraining(),
		Connected: w.GetConnectedFor().AsDuration(), LastHeard: w.GetLastHeardAgo().AsDuration(), Done: w.GetTasksDone(),
	}
	for _, r := range w.GetRunning() {
		info.Running = append(info.Running, Assignment{
			TaskID: r.GetTaskId(), Function: r.GetFunction(), Attempt: int(r.GetAttempt()), Running: r.GetRunningFor().AsDuration(),
			Cancelled: r.GetCancelled(), Percent: r.GetProgressPercent(), Message: r.GetProgressMessage(),
		})
	}
	return info
}

func functionOf(f *pb.Function) FunctionInfo {
	return FunctionInfo{
		Name: f.GetName(), Workers: int(f.GetWorkers()), FreeSlots: int(f.GetFreeSlots()), Queued: f.GetQueued(),
		QueuedBytes: f.GetQueuedBytes(), Running: f.GetRunning(), Scheduled: f.GetScheduled(), OldestAge: f.GetOldestAge().AsDuration(),
		SubmittedRate: f.GetSubmittedPerSecond(), FinishedRate: f.GetFinishedPerSecond(), Submitted: f.GetSubmitted(),
		Succeeded: f.GetSucceeded(), Failed: f.GetFailed(), Cancelled: f.GetCancelled(), Expired: f.GetExpired(),
		Retried: f.GetRetried(), Paused: f.GetPaused(),
	}
}
