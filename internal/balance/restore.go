package balance

import (
	"cmp"
	"time"

	"reparto/internal/task"
)

// Restore brings a task back that was stored without an outcome, or that is to
// be tried again after one; records come in the order of Due, then Seq. One that
// was RUNNING waits until the time given for its worker to come back and claim
// it. Nothing is given out before somebody joins.
func (s *State) Restore(now time.Time, r *task.Record, claimUntil time.Time) Ref {
	e := s.newEntry()
	e.task, e.bytes = r.Task, r.Task.Bytes()
	if e.task.Priority == 0 {
		e.task.Priority = task.DefaultPriority
	}
	e.fn = s.function(r.Function)
	e.task.Function = e.fn.name // one string for all
	e.fn.tasks++
	s.hold(e)
	e.accepted, e.seq = r.Enqueued, r.Seq
	s.lastSeq = max(s.lastSeq, r.Seq)
	e.rank = s.rankOf(&e.task, later(r.Enqueued, r.Durable.RunAt))
	e.failed, e.lost = int32(r.FailedAttempts), int32(r.LostAttempts)
	e.d = &durable{attempts: r.Attempts, stored: r.State, absent: r.Payload == nil}
	s.resident += e.residentBytes()
	for _, a := range r.Attempts {
		e.attempt = max(e.attempt, int32(a.Number))
		s.addPast(e, pastAttempt{token: a.Token, attempt: a.Number})
	}
	s.index(e)
	s.durables++
	e.due = r.Due
	switch r.State {
	case task.Scheduled:
		s.schedule(e, r.Due)
	case task.Running:
		e.d.awaited = true
		if past := e.past(); len(past) > 0 {
			past[len(past)-1].lost = true
		}
		s.schedule(e, claimUntil)
	default:
		s.enqueue(e, false)
	}
	e.d.changed = false
	return e.ref
}

// Restored says that all records were told. It puts the queues in order: as the
// tasks were waiting.
func (s *State) Restored() {
	clear(s.changed)
	s.changed = s.changed[:0]
	for _, f := range s.functions {
		f.waitsFor.sort(func(a, b *entry) int {
			return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.seq, b.seq))
		})
	}
}

// Revive queues a task again that had no success, as its record from the store
// says, with all its attempts before it. It must not be in the tables.
func (s *State) Revive(now time.Time, r *task.Record) Ref {
	was := r.State
	c := *r
	c.State, c.Due, c.FailedAttempts, c.LostAttempts = task.Queued, now, 0, 0
	c.Outcome = task.Outcome{}
	c.Deadline = now.Add(r.Durable.TTL)
	ref := s.Restore(now, &c, now)
	e := s.entry(ref)
	e.d.stored = was
	e.rank = s.rankOf(&e.task, now)
	e.fn.totals.Submitted++
	s.measures.all.Submitted++
	e.fn.submitted.add(now)
	s.touch(e)
	s.pump(now, e.fn)
	return ref
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// giveUpWaiting queues a task whose worker has not come back after a restart.
func (s *State) giveUpWaiting(now time.Time, e *entry) {
	e.d.awaited = false
	if n := len(e.d.attempts); n > 0 {
		last := e.d.attempts[n-1]
		e.ended(now, last.Token, &task.Failure{
			Reason: task.ReasonWorkerLost, Message: "the balancer was restarted, and worker " + last.WorkerID + " did not come back for it", Retry: true,
		})
	}
	s.leaveState(e)
	s.become(e, task.Queued)
	s.queued++
	e.due = now
	e.fn.waitsFor.insert(e)
	s.setTimer(e)
	s.pump(now, e.fn)
}

// mayRunSince is when e could first have run.
func (e *entry) mayRunSince() time.Time {
	if e.task.Durable == nil {
		return e.accepted
	}
	return later(e.accepted, e.task.Durable.RunAt)
}
