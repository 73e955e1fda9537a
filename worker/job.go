package worker

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	pb "reparto/gen/reparto/v1"
)

// job is one assignment from its arrival until its answer has been sent. It is
// also the context of its handler, and holds its answer: all that a task costs
// here is one allocation.
//
// As a context it costs nothing until somebody waits for it: only then is a real
// one made, with its timer. Handlers of short tasks never ask.
type job struct {
	pool     *pool
	handler  Handler
	function string
	payload  []byte            // until there is an answer
	metadata map[string]string // likewise
	deadline time.Time
	answer   pb.TaskResult

	// The pool's, under its lock.
	state      state
	prev, next *job
	progress   *pb.Progress // what the balancer has not been told yet

	mu    sync.Mutex
	over  bool  // cancelled, or its handler has returned
	cause error // why, when cancelled
	inner *inner
}

// inner is a job's real context.
type inner struct {
	context.Context
	cancel  context.CancelCauseFunc
	release context.CancelFunc // of its timer
}

type state uint8

const (
	waiting state = iota
	running
	finished
	sent // and kept until it is acknowledged
)

// maxRemaining keeps a deadline computable, whatever the balancer says.
const maxRemaining = 100 * 365 * 24 * time.Hour

func newJob(p *pool, t *pb.AssignTask, now time.Time) *job {
	// The time that is left was rounded down to milliseconds on its way.
	remaining := min(max(t.GetTimeRemainingMs(), 0), maxRemaining.Milliseconds()) + 1
	j := &job{pool: p, handler: p.handlers[t.GetFunction()], function: t.GetFunction(), payload: t.GetPayload(), metadata: t.GetMetadata()}
	j.deadline = now.Add(time.Duration(remaining) * time.Millisecond)
	j.answer.TaskId, j.answer.Attempt, j.answer.Token = t.GetTaskId(), t.GetAttempt(), t.GetToken()
	return j
}

// Deadline is when an answer is no longer wanted.
func (j *job) Deadline() (time.Time, bool) { return j.deadline, true }

// Done is closed when the task is cancelled, its time is up, or its handler has
// returned.
func (j *job) Done() <-chan struct{} { return j.real().Done() }

// Err tells why the task is over; nil while it is not.
func (j *job) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.inner != nil:
		return j.inner.Err()
	case j.over:
		return context.Canceled
	case !time.Now().Before(j.deadline):
		return context.DeadlineExceeded
	}
	return nil
}

type jobKey struct{}

// Value has what Run's context has. Where a real context exists it answers, so
// that contexts derived from this one hang on it without a goroutine each, and
// context.Cause finds its cause.
func (j *job) Value(key any) any {
	if key == (jobKey{}) {
		return j
	}
	j.mu.Lock()
	var real context.Context
	if j.inner != nil || j.cause != nil {
		real = j.realLocked()
	}
	j.mu.Unlock()
	if real != nil {
		return real.Value(key)
	}
	return j.pool.values.Value(key)
}

// String keeps fmt from looking into a job while it changes.
func (j *job) String() string { return "worker.Task(" + j.answer.TaskId + ")" }

func (j *job) real() context.Context {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.realLocked()
}

func (j *job) realLocked() context.Context {
	if j.inner == nil {
		cancellable, cancel := context.WithCancelCause(j.pool.values)
		ctx, release := context.WithDeadline(cancellable, j.deadline)
		j.inner = &inner{ctx, cancel, release}
		if j.over {
			cancel(j.cause)
		}
	}
	return j.inner.Context
}

// abort cancels the context of the handler.
func (j *job) abort(cause error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.over {
		return
	}
	j.over, j.cause = true, cause
	if j.inner != nil {
		j.inner.cancel(cause)
	}
}

// end releases the context after the handler has returned.
func (j *job) end() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.over = true
	if j.inner != nil {
		j.inner.release()
		j.inner.cancel(nil)
	}
}

// run runs the handler and writes the answer. It returns the error of a handler
// that wants the whole worker abandoned, else nil.
func (j *job) run() (abandon error) {
	if time.Until(j.deadline) <= 0 { // in half the time of time.Now
		j.answer.Failure = newFailure(reasonCancelled, "its time was up before a handler was free for it")
		return nil
	}
	var ctx context.Context = j
	if j.pool.tracing != nil {
		ctx = j.pool.tracing.begin(j)
	}
	returned := false
	defer func() {
		if !returned {
			// A nil here is no panic but runtime.Goexit, e.g. by a test's FailNow.
			j.panicked(recover(), debug.Stack())
		}
		if j.pool.tracing != nil {
			endSpan(ctx, j.answer.Failure, abandon)
		}
		j.end()
	}()
	result, err := j.handler(ctx, Task{
		ID: j.answer.TaskId, Function: j.function, Attempt: int(j.answer.Attempt), Payload: j.payload, Metadata: j.metadata,
	})
	if err == nil {
		j.answer.Result = result
	} else {
		abandon = j.failed(err) // may panic too, in the error's own methods
	}
	returned = true
	return abandon
}

func (j *job) failed(err error) (abandon error) {
	v := judge(err)
	if v.abandon {
		return err
	}
	j.pool.log.Debug("task failed", "task_id", j.answer.TaskId, "error", err)
	if j.Err() != nil {
		j.answer.Failure = newFailure(reasonCancelled, fmt.Sprintf("%v: %v", context.Cause(j), err))
		return nil
	}
	j.answer.Failure = v.failure()
	return nil
}

func (j *job) panicked(value any, stack []byte) {
	message := fmt.Sprintf("the handler panicked: %v", value)
	if value == nil {
		message = "the handler ended its goroutine (runtime.Goexit)"
	}
	j.pool.log.Error("task failed", "task_id", j.answer.TaskId, "function", j.function,
		"error", message, "stack", string(stack))
	j.answer.Failure = newFailure(reasonPanic, message)
}
