package rpc

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/task"
)

// Bounds of what only a durable task has. What an operator may set is an option
// of the dispatcher instead.
const (
	minRetention         = time.Second
	minBackoff           = time.Millisecond
	maxBackoff           = 24 * time.Hour
	maxBackoffMultiplier = 100
)

// wallClock is t without its monotonic reading: what is stored and compared after
// a restart goes by the wall clock alone.
func wallClock(t time.Time) time.Time { return t.Round(0) }

// enqueuing turns the tasks of one batch from the wire, all as of one moment.
// Tasks that agree in what makes them durable share one task.Durable.
type enqueuing struct {
	limits *limits
	now    time.Time
	last   *task.Durable
}

// task turns a durable task from the wire into one that is valid from here on.
// The error is a *refusal.
func (in *enqueuing) task(f *pb.EnqueueTask) (t task.Task, err error) {
	if err := in.limits.content(&t, f, f.Text); err != nil {
		return t, err
	}
	t.FreshID = t.OwnID && f.GetFreshId()
	if t.AttemptTimeout, err = span("attempt_timeout", f.GetAttemptTimeout(), task.MinTimeout, in.limits.MaxTTL, 0); err != nil {
		return t, err
	}
	d := task.Durable{}
	if d.RunAt, err = in.runAt(f); err != nil {
		return t, err
	}
	start := in.now
	if !d.RunAt.IsZero() {
		start = d.RunAt
	}
	if d.TTL, err = in.timeToLive(f, start); err != nil {
		return t, err
	}
	t.Deadline = start.Add(d.TTL)
	if d.Backoff, err = backoffFromWire(f.GetBackoff()); err != nil {
		return t, err
	}
	if d.Retention, err = span("retention", f.GetRetention(), minRetention, in.limits.MaxRetention, in.limits.DefaultRetention); err != nil {
		return t, err
	}
	if in.last == nil || *in.last != d {
		own := d
		in.last = &own
	}
	t.Durable = in.last
	return t, nil
}

// runAt is when the task may first run; zero when it may at once.
func (in *enqueuing) runAt(f *pb.EnqueueTask) (time.Time, error) {
	latest := in.now.Add(in.limits.MaxTTL)
	if f.RunAt == nil {
		delay, err := span("delay", f.GetDelay(), 0, in.limits.MaxTTL, 0)
		if err != nil || delay == 0 {
			return time.Time{}, err
		}
		return in.now.Add(delay), nil
	}
	if f.Delay != nil {
		return time.Time{}, invalid("delay", "is given beside run_at; give one of them")
	}
	if err := f.RunAt.CheckValid(); err != nil {
		return time.Time{}, invalid("run_at", err.Error())
	}
	at := f.RunAt.AsTime()
	switch {
	case at.After(latest):
		return time.Time{}, invalid("run_at", fmt.Sprintf("is %s; give %s at the latest, %v ahead", clock(at), clock(latest), in.limits.MaxTTL))
	case !at.After(in.now):
		return time.Time{}, nil
	}
	return at, nil
}

// timeToLive is the time from start, when the task may first run, to its
// deadline.
func (in *enqueuing) timeToLive(f *pb.EnqueueTask, start time.Time) (time.Duration, error) {
	if f.ExpireTime == nil {
		return span("time_to_live", f.GetTimeToLive(), task.MinTimeout, in.limits.MaxTTL, in.limits.DefaultTTL)
	}
	if f.TimeToLive != nil {
		return 0, invalid("time_to_live", "is given beside expire_time; give one of them")
	}
	if err := f.ExpireTime.CheckValid(); err != nil {
		return 0, invalid("expire_time", err.Error())
	}
	end := f.ExpireTime.AsTime()
	ttl := end.Sub(start) // one that is out of range is the largest or least there is
	switch {
	case ttl <= 0:
		return 0, invalid("expire_time", fmt.Sprintf("is %s; give a time after %s, when the task may first run", clock(end), clock(start)))
	case ttl > in.limits.MaxTTL:
		return 0, invalid("expire_time", fmt.Sprintf("is %s; give at most %v after %s, when the task may first run", clock(end), in.limits.MaxTTL, clock(start)))
	}
	return ttl, nil
}

func backoffFromWire(f *pb.Backoff) (b task.Backoff, err error) {
	if f == nil {
		return b, nil
	}
	if b.Initial, err = span("backoff.initial", f.GetInitial(), minBackoff, maxBackoff, 0); err != nil {
		return b, err
	}
	if b.Maximum, err = span("backoff.maximum", f.GetMaximum(), minBackoff, maxBackoff, 0); err != nil {
		return b, err
	}
	// Written so that a NaN is refused too.
	if b.Multiplier = f.GetMultiplier(); !(b.Multiplier == 0 || b.Multiplier >= 1 && b.Multiplier <= maxBackoffMultiplier) {
		return b, invalid("backoff.multiplier", fmt.Sprintf("is %v; give 1 to %d, or 0 for the default", b.Multiplier, maxBackoffMultiplier))
	}
	if b.Jitter = f.GetJitter(); !(b.Jitter >= 0 && b.Jitter <= 1) {
		return b, invalid("backoff.jitter", fmt.Sprintf("is %v; give 0 to 1", b.Jitter))
	}
	return b, nil
}

// clock is a moment as people are told it.
func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// moment is a timestamp; nil for no time.
func moment(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func recordToWire(r *task.Record) *pb.Task {
	to := &pb.Task{
		TaskId: r.ID, Function: r.Function, State: pb.TaskState(r.State), Priority: int32(r.Priority),
		EnqueueTime: moment(r.Enqueued), RunAt: moment(mayRun(r)), ExpireTime: moment(r.Deadline),
		MaxAttempts: int32(r.MaxAttempts), FailedAttempts: int32(r.FailedAttempts), LostAttempts: int32(r.LostAttempts),
		Metadata: r.Metadata, Payload: r.Payload,
	}
	if r.State.Terminal() {
		to.FinishTime, to.ForgetTime = moment(r.Finished), moment(r.ForgetAt)
		to.Result, to.Failure = r.Outcome.Result, whyNot(r)
	}
	if len(r.Attempts) > 0 {
		to.Attempts = make([]*pb.Attempt, len(r.Attempts))
	}
	for i, a := range r.Attempts {
		to.Attempts[i] = &pb.Attempt{
			Attempt: int32(a.Number), WorkerId: a.WorkerID, StartTime: moment(a.Started), EndTime: moment(a.Ended),
			Failure: failureToWire(a.Failure),
		}
	}
	return to
}

// mayRun is when the task may run, or might when it was enqueued; zero when that
// was at once.
func mayRun(r *task.Record) time.Time {
	switch {
	case r.State == task.Scheduled:
		return r.Due
	case r.Durable != nil:
		return r.Durable.RunAt
	}
	return time.Time{}
}

// whyNot is why a task that is over has not succeeded; nil when it has.
func whyNot(r *task.Record) *pb.Failure {
	if r.Outcome.Failure != nil {
		return failureToWire(r.Outcome.Failure)
	}
	o := r.Outcome
	o.State = r.State
	if n := noVerdict(&o); n != nil {
		return &pb.Failure{Reason: n.reason, Message: n.message}
	}
	return nil
}
