package task

import (
	"slices"
	"time"
)

// Record is what is remembered of a durable task: all that a restarted balancer
// and a client that comes back must know.
type Record struct {
	// Task is what was asked for. Its Payload and Metadata are nil where they
	// were not asked for or have not changed.
	Task
	// Seq orders tasks as they were accepted.
	Seq      uint64
	Enqueued time.Time
	State    State
	// Due is when a SCHEDULED task may run, and since when a QUEUED one waits.
	Due time.Time
	// FailedAttempts count against MaxAttempts, LostAttempts against the
	// balancer's limit of lost workers.
	FailedAttempts, LostAttempts int
	// Attempts are the last MaxAttemptsKept, oldest first. A slice that is part
	// of a Record is never written to again.
	Attempts []Attempt
	// Outcome, Finished and ForgetAt are set once State is terminal.
	Outcome  Outcome
	Finished time.Time
	ForgetAt time.Time
}

// MaxAttemptsKept is how many attempts a record tells of.
const MaxAttemptsKept = 100

// Attempt is one handing of a durable task to a worker.
type Attempt struct {
	Number         int
	Token          uint64
	WorkerID       string
	Started, Ended time.Time // Ended is zero while it runs
	// Failure is how it ended, unless it brought the result.
	Failure *Failure
}

// Backoff is the wait between a failed attempt and the next one. A zero field
// means the balancer's default.
type Backoff struct {
	Initial    time.Duration
	Multiplier float64
	Maximum    time.Duration
	// Jitter is the part of a wait that is left to chance, 0 to 1.
	Jitter float64
}

// Change is something for a store to remember. Exactly one of Record, Forget and
// Function is set.
type Change struct {
	// Record is the task as it now is. Its Payload and Metadata count only when
	// New; a later change leaves what is stored of them.
	Record *Record
	New    bool
	// Was is the state that the store holds the task in; None when New.
	Was State

	// Forget names a task to be deleted, whatever state it is in; one that is
	// not there is no error.
	Forget string

	// Function is paused from now on, or no more.
	Function string
	Paused   bool
}

// Query selects records for a listing. All that is set must hold.
type Query struct {
	State    State // None: any
	Function string
	Owner    string // empty: anybody's
	// Before holds back every id that is not less; empty: none.
	Before string
	// ForgettableAt selects tasks whose ForgetAt is not after it, in any order,
	// and nothing else of the Query counts but Limit.
	ForgettableAt time.Time
	// Limit is the most records of a page; at least 1.
	Limit int
}

// Clone returns a copy that shares nothing that is ever written to.
func (r *Record) Clone() *Record {
	c := *r
	c.Attempts = slices.Clone(r.Attempts)
	return &c
}
