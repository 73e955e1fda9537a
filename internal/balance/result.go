package balance

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"reparto/internal/task"
)

// Result is a worker's answer to an assignment: Failure, or Output when that is
// nil.
type Result struct {
	TaskID  string
	Attempt int
	Token   uint64
	Output  []byte
	Failure *task.Failure
}

// Result takes a worker's answer and frees the slot. An answer to an earlier
// attempt is taken if it is an output and the task has no outcome yet; its
// failure says nothing of the attempt that runs now. Anything else is ignored.
//
// It reports whether the answer is about a durable task that has not left the
// tables: acknowledge it when the changes up to now are written.
func (s *State) Result(now time.Time, ses *Session, r *Result) (durable bool) {
	a := s.held(ses, r.Token)
	if a == nil {
		e := s.byID[r.TaskID]
		durable = e.isUnsettled()
		s.answerLate(now, ses, e, r)
		return durable
	}
	e := a.entry
	durable = a.durable() && (e != nil || s.byID[r.TaskID].isUnsettled())
	current, attempt, started := e != nil && e.current == a, int(a.attempt), a.started()
	s.release(a)
	ses.done++
	switch {
	case current:
		e.current = nil
		e.fn.answered(now, now.Sub(started))
		s.settle(now, ses, e, attempt, r)
	case e != nil:
		e.forgetLate(a)
		s.answerLate(now, ses, e, r)
	default: // claimed while another session had it, which may be gone by now
		s.answerLate(now, ses, s.byID[r.TaskID], r)
	}
	s.serve(now, ses)
	return durable
}

// isUnsettled reports whether e is a durable task whose outcome, if it has one,
// is not known to be on disk.
func (e *entry) isUnsettled() bool { return e != nil && e.d != nil && e.keptUntil().IsZero() }

// held finds the assignment that the session holds under a token.
func (s *State) held(ses *Session, token uint64) *assignment {
	if i := int(uint32(token)); i < len(s.assignments) {
		if a := s.assignments[i]; a.token == token && a.session == ses {
			return a
		}
	}
	return ses.adopted[token]
}

func (e *entry) forgetLate(a *assignment) {
	if e.earlier != nil {
		e.earlier.late = slices.DeleteFunc(e.earlier.late, func(l *assignment) bool { return l == a })
	}
}

// answerLate takes the answer of an attempt that has gone by.
func (s *State) answerLate(now time.Time, ses *Session, e *entry, r *Result) {
	if e == nil || e.state.Terminal() || r.Failure != nil || e.ran(r.Token, r.Attempt) == nil {
		return
	}
	e.ended(now, r.Token, nil)
	s.succeed(now, ses, e, r.Attempt, r)
}

func (s *State) succeed(now time.Time, ses *Session, e *entry, attempt int, r *Result) {
	s.finish(now, e, task.Outcome{
		State: task.Succeeded, Result: r.Output, Attempt: attempt, WorkerID: ses.WorkerID,
	}, task.CancelSuperseded)
}

// settle takes the answer of the attempt that runs. Its number is the one that
// was given out, whatever the worker says.
func (s *State) settle(now time.Time, ses *Session, e *entry, attempt int, r *Result) {
	f := r.Failure
	switch {
	case f == nil:
		e.ended(now, r.Token, nil)
		s.succeed(now, ses, e, attempt, r)
	case f.Reason == task.ReasonWorkerLost, f.Reason == task.ReasonCancelled:
		// Nobody asked it to stop: the worker gives the task back.
		s.goneBy(e, r.Token, attempt, true)
		e.ended(now, r.Token, f)
		fn := e.fn
		s.lose(now, e, attempt, ses.WorkerID)
		s.pump(now, fn)
	default:
		e.ended(now, r.Token, f)
		s.fail(now, e, attempt, ses.WorkerID, f)
	}
}

// fail ends an attempt with a failure, and the task too unless it may be tried
// again in time.
func (s *State) fail(now time.Time, e *entry, attempt int, workerID string, f *task.Failure) {
	e.failed++
	at := now.Add(s.backoff(e, f.RetryAfter))
	if !f.Retry || int(e.failed) >= e.task.MaxAttempts || !at.Before(e.task.Deadline) {
		s.finish(now, e, task.Outcome{
			State: task.Failed, Failure: f, Attempt: attempt, WorkerID: workerID,
		}, task.CancelSuperseded)
		return
	}
	if s.draining && e.d == nil {
		s.giveUp(now, e)
		return
	}
	s.schedule(e, at)
}

// backoff is the wait after the last failed attempt, unless the worker named one.
func (s *State) backoff(e *entry, asked time.Duration) time.Duration {
	if asked > 0 {
		return asked
	}
	b := task.Backoff{}
	if e.d != nil {
		b = e.task.Durable.Backoff
	}
	wait, most := cmp.Or(b.Initial, s.opt.Backoff), cmp.Or(b.Maximum, s.opt.MaxBackoff)
	times := cmp.Or(b.Multiplier, 2)
	for i := 1; i < int(e.failed) && wait < most; i++ {
		wait = time.Duration(min(float64(wait)*times, float64(most)))
	}
	wait = min(wait, most)
	// Chance comes from what differs between tasks, so that a schedule of facts
	// always leads to the same state.
	if b.Jitter > 0 {
		chance := float64(mix(e.seq<<8+uint64(e.failed))>>11) / (1 << 53) // 0 to 1
		wait += time.Duration(float64(wait) * b.Jitter * (2*chance - 1))
	}
	return wait
}

// mix spreads a number over 64 bits (the finalizer of MurmurHash3).
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// due queues a task whose backoff has passed.
func (s *State) due(now time.Time, e *entry) {
	if e.d != nil && e.d.awaited {
		s.giveUpWaiting(now, e)
		return
	}
	s.leaveState(e)
	e.due = now
	s.enqueue(e, false)
	s.pump(now, e.fn)
}

// timeOut ends an attempt that has run out of time. It keeps its slot, and may
// still bring the result, until the worker lets go of it.
func (s *State) timeOut(now time.Time, e *entry) {
	a := e.current
	worker, attempt := a.session.WorkerID, int(a.attempt)
	s.goneBy(e, a.token, attempt, false)
	e.addLate(a)
	e.current = nil
	s.stop(a, task.CancelAttemptTimeout)
	f := &task.Failure{
		Reason:  task.ReasonAttemptTimeout,
		Message: fmt.Sprintf("attempt %d took longer than its %v at worker %s", attempt, e.task.AttemptTimeout, worker),
		Retry:   true,
	}
	e.ended(now, a.token, f)
	s.fail(now, e, attempt, worker, f)
}

// lose takes back a task whose worker is gone: to the head of its queue, unless
// it has cost too many workers already.
func (s *State) lose(now time.Time, e *entry, attempt int, workerID string) {
	e.current = nil
	e.lost++
	switch {
	case s.draining && e.d == nil:
		s.giveUp(now, e)
	case s.draining: // the next start asks for its worker
		e.lost--
		e.d.awaited = true
		s.schedule(e, e.task.Deadline)
	case int(e.lost) >= s.opt.MaxLost:
		s.finish(now, e, task.Outcome{
			State: task.Failed, Attempt: attempt, WorkerID: workerID,
			Failure: &task.Failure{
				Reason:  task.ReasonWorkerLost,
				Message: fmt.Sprintf("%d workers were lost while they ran it, the last was %s; not tried again", e.lost, workerID),
			},
		}, task.CancelSuperseded)
	default:
		s.leaveState(e)
		s.enqueue(e, true)
	}
}

// Progress remembers how far a worker says it is. An unknown token is ignored.
func (s *State) Progress(ses *Session, token uint64, p Progress) {
	if a := s.held(ses, token); a != nil {
		a.rarities().progress = p
	}
}
