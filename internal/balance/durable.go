package balance

import (
	"slices"
	"time"

	"reparto/internal/task"
)

// durable is what an entry has beside others when its task is to outlive the
// process. Its owner takes the changes, writes them, and tells how that went:
//
//	changes := s.Changes(now)      // what must be remembered
//	err := store.Write(changes)
//	s.Written(now)                 // or s.Unwritten(now)
//
// Effects of durable tasks (Effect.Durable) are carried out only after the
// changes that were taken with or after them are written.
type durable struct {
	attempts []task.Attempt
	stored   task.State // what the store holds; None before it holds anything
	changed  bool       // among State.changed
	absent   bool       // its payload is in the store alone
	// awaited says that it ran when the balancer stopped, and that its worker may
	// come back for it until it is due.
	awaited bool
}

// touch notes that e must be written.
func (s *State) touch(e *entry) {
	if e.d != nil && !e.d.changed {
		e.d.changed = true
		s.changed = append(s.changed, e)
	}
}

// Changed reports whether there is anything to write.
func (s *State) Changed() bool { return len(s.changed) > 0 }

// Changes appends what must be written to those given. Tell Written or Unwritten
// before the next call, which uses the records again.
func (s *State) Changes(changes []task.Change) []task.Change {
	clear(s.writing)
	s.writing = s.writing[:0]
	clear(s.records)
	if s.records = s.records[:0]; cap(s.records) < len(s.changed) {
		s.records = make([]task.Record, 0, len(s.changed)+len(s.changed)/4)
	}
	for _, e := range s.changed {
		if e.d == nil || !e.d.changed {
			continue // taken out before it was written
		}
		e.d.changed = false
		s.records = append(s.records, task.Record{})
		r := &s.records[len(s.records)-1]
		e.record(r)
		s.writing = append(s.writing, e)
		changes = append(changes, task.Change{Record: r, New: e.d.stored == task.None, Was: e.d.stored})
	}
	clear(s.changed)
	s.changed = s.changed[:0]
	if cap(s.changed) > maxPool {
		s.changed = nil
	}
	return changes
}

// record fills in e as it now is.
func (e *entry) record(r *task.Record) {
	*r = task.Record{
		Task: e.task, Seq: e.seq, Enqueued: e.accepted, State: e.state, Due: e.due,
		FailedAttempts: int(e.failed), LostAttempts: int(e.lost), Attempts: e.d.attempts,
	}
	if e.d.awaited {
		r.State = task.Running
	}
	if e.state.Terminal() {
		r.Outcome, r.Finished = e.over.outcome, e.over.finished
		r.ForgetAt = r.Finished.Add(e.task.Durable.Retention)
	}
}

// Written says that what Changes gave out last is on disk. Tasks that are over
// leave the tables.
func (s *State) Written(now time.Time) {
	for i, e := range s.writing {
		r := &s.records[i]
		if !e.is(r) {
			continue
		}
		isNew := e.d.stored == task.None
		e.d.stored = r.State
		if r.State.Terminal() {
			s.settled(now, e)
		} else if isNew {
			s.makeAbsent(e)
		}
	}
}

// is reports whether the entry still belongs to the durable task of the record.
func (e *entry) is(r *task.Record) bool { return e.d != nil && e.seq == r.Seq && e.task.ID == r.ID }

// settled lets go of a durable task whose outcome is on disk.
func (s *State) settled(now time.Time, e *entry) {
	s.unsettled--
	s.durables--
	if s.resident -= e.residentBytes(); e.task.OwnID && !e.task.FreshID {
		e.task.Payload = nil
		s.keep(now, e, e.over.outcome)
		return
	}
	s.free(e)
}

func (e *entry) residentBytes() int {
	if e.d.absent {
		return 0
	}
	return len(e.task.Payload)
}

// makeAbsent leaves a written task's payload to the store when memory holds
// enough of them.
func (s *State) makeAbsent(e *entry) {
	if s.resident > s.opt.MaxResident && e.state != task.Running && !e.d.absent {
		s.resident -= e.residentBytes()
		e.d.absent = true
		e.task.Payload, e.task.Metadata = nil, nil
	}
}

// StoreDown gives out no durable task until StoreUp.
func (s *State) StoreDown() { s.storeDown = true }

// Unwritten says that what Changes gave out last could not be written. New tasks are taken out as if
// they had never come: whoever waits for one is told by a Finish, any other
// Finish of it that is still held must be dropped (see Live), and what is to be
// forgotten of them in the store is returned; the changes of all others will be among the next ones.
func (s *State) Unwritten(now time.Time) (forget []string) {
	for i, e := range s.writing {
		r := &s.records[i]
		switch {
		case !e.is(r):
		case e.d.stored == task.None:
			forget = append(forget, r.ID)
			s.revoke(now, e)
		default:
			s.touch(e)
		}
	}
	return forget
}

// StoreUp gives out durable tasks again.
func (s *State) StoreUp(now time.Time) {
	s.storeDown = false
	for _, f := range s.functions {
		s.pump(now, f)
	}
}

// revoke takes a task out that nobody was promised anything about and no worker
// has heard of.
func (s *State) revoke(now time.Time, e *entry) {
	f, a := e.fn, e.current
	if e.state.Terminal() {
		s.unsettled--
	} else {
		s.leaveState(e)
		s.letGo(e)
		f.tasks--
	}
	e.current = nil
	for _, l := range e.late() {
		l.leave()
	}
	s.timers.remove(e)
	s.durables--
	s.resident -= e.residentBytes()
	e.state = task.None
	s.effects = append(s.effects, Effect{Kind: Finish, Ref: e.ref, TaskID: e.task.ID, Waiter: e.waiter, Outcome: task.Outcome{
		State: task.Cancelled, Failure: &task.Failure{Reason: task.CancelStore, Message: "it could not be written to disk"},
	}})
	s.free(e)
	if a != nil {
		ses := a.session
		s.release(a)
		s.serve(now, ses)
	}
	s.forget(f)
}

// Unassign takes an assignment back that was never sent: its task waits again as
// if it had not been given out, for the pause given first. A token that is not
// held any more is ignored.
func (s *State) Unassign(now time.Time, ses *Session, token uint64, pause time.Duration) {
	a := s.held(ses, token)
	if a == nil {
		return
	}
	e := a.entry
	s.release(a)
	if e != nil && e.current == a {
		e.current = nil
		e.attempt--
		if e.d != nil {
			e.d.attempts = e.d.attempts[:max(0, len(e.d.attempts)-1)]
		}
		if pause > 0 {
			s.schedule(e, now.Add(pause))
		} else {
			s.leaveState(e)
			s.enqueue(e, true)
		}
	} else if e != nil {
		e.forgetLate(a)
	}
	s.serve(now, ses)
}

// schedule makes e wait until the time.
func (s *State) schedule(e *entry, at time.Time) {
	s.leaveState(e)
	s.become(e, task.Scheduled)
	e.due = at
	s.scheduled++
	e.fn.waiting++
	s.setTimer(e)
}

// began and ended keep the list of a durable task's attempts. What Changes has
// given out is not written to.
func (e *entry) began(now time.Time, a *assignment) {
	if e.d == nil {
		return
	}
	list := e.d.attempts
	if over := len(list) + 1 - task.MaxAttemptsKept; over > 0 {
		list = list[over:]
	}
	e.d.attempts = append(slices.Clip(list), task.Attempt{
		Number: int(a.attempt), Token: a.token, WorkerID: a.session.WorkerID, Started: now,
	})
}

func (e *entry) ended(now time.Time, token uint64, f *task.Failure) {
	if e.d == nil {
		return
	}
	for i := len(e.d.attempts) - 1; i >= 0; i-- {
		if e.d.attempts[i].Token == token {
			e.d.attempts = slices.Clone(e.d.attempts)
			e.d.attempts[i].Ended, e.d.attempts[i].Failure = now, f
			return
		}
	}
}

// resumed undoes ended, for an attempt whose worker came back.
func (e *entry) resumed(token uint64) { e.ended(time.Time{}, token, nil) }
