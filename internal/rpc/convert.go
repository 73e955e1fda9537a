package rpc

import (
	"fmt"
	"time"
	"unicode/utf8"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/task"
)

// taskFields is what a task looks like on the wire, in a call of its own, in a
// frame or in a batch.
type taskFields interface {
	GetTaskId() string
	GetFunction() string
	GetPayload() []byte
	GetMetadata() map[string]string
	GetMaxAttempts() int32
	GetPriority() int32
}

// submitFields are those of a task that somebody waits for.
type submitFields interface {
	taskFields
	GetFailFast() bool
}

// limits are the bounds that the border checks on the way in.
type limits struct{ dispatch.Options }

// task turns a task from the wire into one that is valid from here on, which it
// writes to t, empty but for FreshID. Durations are 0 when absent; text is nil when the
// task was given as a payload. The error is a *refusal, and t then half written.
func (l *limits) task(t *task.Task, now time.Time, f submitFields, text *string, timeout, attemptTimeout time.Duration) error {
	if err := l.content(t, f, text); err != nil {
		return err
	}
	t.FailFast = f.GetFailFast()
	switch {
	case timeout == 0:
		timeout = l.DefaultTimeout
	case timeout < task.MinTimeout || timeout > l.MaxTimeout:
		return invalid("timeout", fmt.Sprintf("is %v; give %v to %v, or 0 for the default of %v", timeout, task.MinTimeout, l.MaxTimeout, l.DefaultTimeout))
	}
	t.Deadline = now.Add(timeout)
	if attemptTimeout != 0 && (attemptTimeout < task.MinTimeout || attemptTimeout > l.MaxTimeout) {
		return invalid("attempt_timeout", fmt.Sprintf("is %v; give %v to %v, or 0 for none", attemptTimeout, task.MinTimeout, l.MaxTimeout))
	}
	t.AttemptTimeout = attemptTimeout
	return nil
}

// content turns what every task has from the wire into a task that lacks only
// its times. One that is FreshID by then gets no fingerprint: nothing will be compared
// with it. The error is a *refusal.
func (l *limits) content(t *task.Task, f taskFields, text *string) error {
	t.ID, t.Function, t.Payload, t.Metadata = f.GetTaskId(), f.GetFunction(), f.GetPayload(), f.GetMetadata()
	t.MaxAttempts, t.Priority = int(f.GetMaxAttempts()), int(f.GetPriority())
	if err := task.CheckFunction(t.Function); err != nil {
		return refuse(err)
	}
	if text != nil {
		if len(t.Payload) > 0 {
			return invalid("payload", "is given beside text; give one of them")
		}
		t.Payload = []byte(*text)
	}
	if len(t.Payload) > l.MaxPayload {
		r := invalid("payload", fmt.Sprintf("has %d bytes; at most %d are allowed", len(t.Payload), l.MaxPayload))
		r.reason = "PAYLOAD_TOO_LARGE"
		return r
	}
	if len(t.Metadata) > 0 {
		if err := task.CheckMetadata("metadata", t.Metadata); err != nil {
			return refuse(err)
		}
	}
	switch {
	case t.MaxAttempts == 0:
		t.MaxAttempts = l.DefaultMaxAttempts
	case t.MaxAttempts < 0 || t.MaxAttempts > task.MaxMaxAttempts:
		return invalid("max_attempts", fmt.Sprintf("is %d; give 1 to %d, or 0 for the default of %d", t.MaxAttempts, task.MaxMaxAttempts, l.DefaultMaxAttempts))
	}
	switch {
	case t.Priority == 0:
		t.Priority = task.DefaultPriority
	case t.Priority < task.Urgent || t.Priority > task.Idle:
		return invalid("priority", fmt.Sprintf("is %d; give %d (urgent) to %d (idle), or 0 for %d", t.Priority, task.Urgent, task.Idle, task.DefaultPriority))
	}
	if t.ID != "" {
		if err := task.CheckID(t.ID); err != nil {
			return refuse(err)
		}
		t.OwnID = true
		if !t.FreshID {
			t.Fingerprint = t.Content()
		}
	}
	return nil
}

// asText returns the result as text when it was asked for and can be.
func asText(wanted bool, result []byte) (*string, bool) {
	if !wanted || !utf8.Valid(result) {
		return nil, false
	}
	s := string(result)
	return &s, true
}

func failureToWire(f *task.Failure) *pb.Failure {
	if f == nil {
		return nil
	}
	return &pb.Failure{Reason: f.Reason, Message: f.Message, Retry: f.Retry, RetryAfterMs: f.RetryAfter.Milliseconds()}
}

// failureFromWire takes a worker's failure as it is, but for what could not
// travel on: a reason there must be, and a wait is not negative or beyond what a
// duration holds.
func failureFromWire(f *pb.Failure) *task.Failure {
	if f == nil {
		return nil
	}
	reason := f.GetReason()
	if reason == "" {
		reason = "HANDLER_ERROR"
	}
	return &task.Failure{
		Reason: reason, Message: f.GetMessage(), Retry: f.GetRetry(),
		RetryAfter: min(millis(max(f.GetRetryAfterMs(), 0)), 24*time.Hour),
	}
}

// millis turns a number from the wire into a duration, without overflow.
func millis(ms int64) time.Duration {
	const most = int64(1<<63-1) / int64(time.Millisecond)
	return time.Duration(min(max(ms, -most), most)) * time.Millisecond
}

func registrationFromWire(r *pb.Register, address string) dispatch.Registration {
	reg := dispatch.Registration{
		WorkerID: r.GetWorkerId(), Functions: r.GetFunctions(), Slots: int(r.GetSlots()),
		Labels: r.GetLabels(), Build: r.GetBuild(), Address: address,
	}
	for _, t := range r.GetRunning() {
		reg.Running = append(reg.Running, dispatch.Claim{
			TaskID: t.GetTaskId(), Attempt: int(t.GetAttempt()), Token: t.GetToken(), Finished: t.GetFinished(),
		})
	}
	return reg
}
