package dispatch

import (
	"context"
	"errors"
	"time"

	"reparto/internal/task"
)

// Why a call about durable tasks is refused.
var (
	ErrTaskNotFound   = errors.New("no such task: it was never enqueued, or its retention has passed")
	ErrNotFinished    = errors.New("the task has no final outcome that a retry could replace")
	ErrWorkerNotFound = errors.New("no worker of that id is connected")
)

// StoreError says that the store can't be written to or read from.
type StoreError struct{ Cause error }

func (e *StoreError) Error() string {
	return "durable tasks can't be written or read at the moment: " + e.Cause.Error()
}

func (e *StoreError) Unwrap() error { return e.Cause }

// Enqueuing is one task of a batch for Enqueue, which sets Task.ID if it was
// empty, and then Existed or Err: ErrDraining, ErrIDConflict, a *QueueFullError or
// a *StoreError.
type Enqueuing struct {
	Task    task.Task // with Durable
	Existed bool
	Err     error
}

// Explanation tells why a task is where it is. But for the Record's id and state,
// it is about a task without an outcome.
type Explanation struct {
	Record *task.Record
	// Workers offer the function and do not drain; Slots and FreeSlots are theirs.
	Workers, Slots, FreeSlots int
	Paused                    bool
	// StoreDown says why nothing durable is given out; nil when all is well.
	StoreDown error
	// Position is about how many tasks are before it in its queue.
	Position int
	// WorkerID is where it runs, or where it ran before a restart when Awaited.
	WorkerID string
	Awaited  bool
	// Running and LastHeard are how long, and how long ago; LastHeard is negative
	// when its worker is not connected.
	Running, LastHeard time.Duration
	Attempt            int
}

// Enqueue accepts a batch of valid durable tasks and returns once they are on
// disk, or refused; when ctx ends first, those that were under way have ctx's
// error, and may be there or not.
func (d *Dispatcher) Enqueue(ctx context.Context, batch []Enqueuing) { panic("not yet") }

// Task returns all that is known of a durable task: ErrTaskNotFound or a
// *StoreError otherwise.
func (d *Dispatcher) Task(ctx context.Context, id string) (*task.Record, error) { panic("not yet") }

// WaitTask returns the task once it has its outcome, or as it is when ctx ends.
func (d *Dispatcher) WaitTask(ctx context.Context, id string) (*task.Record, error) {
	panic("not yet")
}

// ListTasks returns a page; see Store.List.
func (d *Dispatcher) ListTasks(ctx context.Context, q task.Query) (page []task.Record, next string, err error) {
	panic("not yet")
}

// CancelTask ends a durable task and returns it once that is on disk; one that
// has its outcome already is returned as it is.
func (d *Dispatcher) CancelTask(ctx context.Context, id string) (*task.Record, error) {
	panic("not yet")
}

// RetryTask queues a FAILED, CANCELLED or EXPIRED task again and returns it once
// that is on disk; ErrNotFinished for any other.
func (d *Dispatcher) RetryTask(ctx context.Context, id string) (*task.Record, error) {
	panic("not yet")
}

// ExplainTask tells why a durable task is where it is.
func (d *Dispatcher) ExplainTask(ctx context.Context, id string) (*Explanation, error) {
	panic("not yet")
}

// PauseFunction gives out no more tasks of a function, or does so again, and
// tells whether it was paused. It returns once that is on disk.
func (d *Dispatcher) PauseFunction(ctx context.Context, name string, paused bool) (was bool, err error) {
	panic("not yet")
}

// DrainWorker gives a worker no more tasks and tells it to leave; false when
// there is none of that id.
func (d *Dispatcher) DrainWorker(workerID string) bool { panic("not yet") }
