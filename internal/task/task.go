// Package task says what a task is: its words, its bounds and its states.
//
// Everything here is a value. A Task that was made by the border and passed
// Validate is valid from there on; nothing further in checks it again.
package task

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"time"
)

// Task is one unit of work. Its Payload and Metadata belong to the task from
// the moment it is submitted: nobody writes to them any more.
type Task struct {
	// ID names the task. It is the client's own when OwnID, else a UUIDv7.
	ID string
	// OwnID says that the client chose the ID, which makes it an idempotency key.
	OwnID bool
	// FreshID says, of an own ID, that it has never been used before.
	FreshID bool
	// FailFast refuses the task when no connected worker offers its function.
	FailFast bool
	// Owner is the principal that submitted it; empty where nobody is told apart.
	Owner string
	// Function routes the task to workers that offer it.
	Function string
	Payload  []byte
	Metadata map[string]string
	// Deadline is when the task must have its outcome.
	Deadline time.Time
	// AttemptTimeout is how long one attempt may take; 0 means until Deadline.
	AttemptTimeout time.Duration
	// MaxAttempts is how many attempts may fail and ask for a retry, or run out
	// of time, before the task has FAILED; at least 1.
	MaxAttempts int
	// Fingerprint tells whether two tasks under the same own ID have the same
	// content. It is set only when OwnID.
	Fingerprint Fingerprint
	// Priority is 1 (urgent) to 5 (idle); 0 counts as DefaultPriority.
	Priority int
	// Durable is what only an enqueued task has; nil for a submitted one.
	Durable *Durable
}

// Durable is what an enqueued task has beside any other. Tasks that agree in it
// may share one; nobody writes to it.
type Durable struct {
	// RunAt is when the task may first run; zero: at once.
	RunAt   time.Time
	Backoff Backoff
	// TTL is the time from when it may run to its deadline, for a retry by hand.
	TTL time.Duration
	// Retention is how long its outcome is kept.
	Retention time.Duration
}

// Priorities.
const (
	Urgent          = 1
	DefaultPriority = 3
	Idle            = 5
)

// Fingerprint is the SHA-256 of a task's content, FingerprintSize bytes, or empty.
type Fingerprint string

// FingerprintSize is the size of one that is not empty.
const FingerprintSize = sha256.Size

// The keys of metadata that hold a W3C trace context.
const (
	TraceParent = "traceparent"
	TraceState  = "tracestate"
)

// Content computes the fingerprint of what makes two tasks the same task:
// function, payload and metadata. Deadlines and retry settings don't count, so
// that a client may repeat a task with the time it has left; nor does its trace,
// which is another one each time.
func (t *Task) Content() Fingerprint {
	h := sha256.New()
	var n [8]byte
	write := func(b []byte) {
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	write([]byte(t.Function))
	write(t.Payload)
	if len(t.Metadata) > 0 {
		for _, k := range slices.Sorted(maps.Keys(t.Metadata)) {
			if k == TraceParent || k == TraceState {
				continue
			}
			write([]byte(k))
			write([]byte(t.Metadata[k]))
		}
	}
	return Fingerprint(h.Sum(nil))
}

// overhead is what a task costs in memory beside its payload and metadata: its
// entries in queue, table and timers, measured and rounded up.
const overhead = 512

// Bytes is the memory that the task takes in a queue, for limits in bytes.
func (t *Task) Bytes() int {
	n := overhead + len(t.Payload)
	for k, v := range t.Metadata {
		n += len(k) + len(v)
	}
	return n
}

// Outcome is how a task ended: a Result, or a Failure that is not nil. State
// tells which of the terminal states it is in.
type Outcome struct {
	State   State
	Result  []byte
	Failure *Failure
	// Attempt is the attempt that brought the outcome, from 1; 0 when the task
	// ended before its first.
	Attempt int
	// WorkerID is the worker that brought the outcome; empty when none did.
	WorkerID string
	// WasRunning says, of a task that was cancelled or expired, that a worker
	// had it.
	WasRunning bool
}

// Bytes is the memory that the outcome takes while it is kept.
func (o *Outcome) Bytes() int {
	n := overhead + len(o.Result)
	if o.Failure != nil {
		n += len(o.Failure.Reason) + len(o.Failure.Message)
	}
	return n
}

// Failure is a verdict that the task can't be done.
type Failure struct {
	// Reason is one of the Reason constants or a worker's own word.
	Reason string
	// Message is for people.
	Message string
	// Retry asks for another attempt, after RetryAfter if that is not 0.
	Retry      bool
	RetryAfter time.Duration
}

// Reasons of failures and cancellations, as they go over the wire.
const (
	ReasonWorkerLost     = "WORKER_LOST"
	ReasonAttemptTimeout = "ATTEMPT_TIMEOUT"
	ReasonResultTooLarge = "RESULT_TOO_LARGE"
	ReasonCancelled      = "CANCELLED"

	CancelClientGone     = "CLIENT_GONE"
	CancelDeadline       = "DEADLINE"
	CancelAttemptTimeout = "ATTEMPT_TIMEOUT"
	CancelSuperseded     = "SUPERSEDED"
	CancelShutdown       = "SHUTDOWN"
	CancelStore          = "STORE_UNAVAILABLE"
)
