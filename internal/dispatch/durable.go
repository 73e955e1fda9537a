package dispatch

import (
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
