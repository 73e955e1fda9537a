package client

import "time"

// Task is what a client wants done.
type Task struct {
	// Function names the kind of work, [A-Za-z0-9._/-]{1,128}.
	Function string
	// Payload is the input, at most the balancer's limit (4 MiB by default). It
	// must not be changed until the outcome is there.
	Payload []byte
	// ID is an idempotency key, [A-Za-z0-9._:-]{1,128}: the same id with the same
	// content joins the task that is there, running or finished less than a
	// minute ago. Empty: the balancer makes one.
	ID string
	// Metadata travels to the worker. At most 64 entries and 16 KiB.
	Metadata map[string]string
	// Timeout is how long the task may take in all; the context's deadline counts
	// too. 0: the balancer's default (5 minutes); else 1 ms to 24 h.
	Timeout time.Duration
	// AttemptTimeout is how long one attempt may take. 0: no limit of its own.
	AttemptTimeout time.Duration
	// MaxAttempts is how many attempts may fail and ask for a retry. 0: the
	// balancer's default (3); at most 100.
	MaxAttempts int
	// Priority is 1 (urgent) to 5 (idle): the more urgent go first. 0: 3.
	Priority int
	// FailFast refuses the task when nobody offers the function, instead of
	// waiting.
	FailFast bool
	// Idempotent says that the task may be run twice without harm. Then it is
	// submitted again, under the same ID, when a connection breaks while its fate
	// is unknown. Without an ID it gets a UUIDv7.
	Idempotent bool
}

// Outcome is what a worker made of a task.
type Outcome struct {
	TaskID string
	// Result is the output; it is the caller's.
	Result []byte
	// Attempt is the one that brought it, from 1.
	Attempt  int
	WorkerID string
}
