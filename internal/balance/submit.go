package balance

import (
	"time"

	"reparto/internal/task"
)

// Submit accepts a task, or says why not: ErrDraining, ErrNoWorker,
// ErrIDConflict or a *QueueFullError. The task must be valid and its ID new,
// unless it is the client's own or the task is durable: then the same content
// joins the task that is there and returns its Ref, and if that has its outcome already, Finish follows
// at once. A task with an own id that is fresh joins none, and its outcome is not kept.
func (s *State) Submit(now time.Time, t *task.Task) (Ref, error) {
	named := t.OwnID || t.Durable != nil
	if named {
		if e := s.byID[t.ID]; e != nil {
			return s.join(e, t)
		}
	}
	if s.draining {
		return Ref{}, ErrDraining
	}
	f := s.functions[t.Function]
	if t.FailFast && !s.Offered(t.Function) {
		return Ref{}, ErrNoWorker
	}
	bytes := t.Bytes()
	free := s.idle(f)
	if err := s.room(t, f, bytes, free); err != nil {
		return Ref{}, err
	}
	if f == nil {
		f = s.function(t.Function)
	}
	e := s.newEntry()
	e.task, e.fn, e.bytes, e.accepted = *t, f, bytes, now
	e.task.Function = f.name // one string for all
	if t.Priority == 0 {
		e.task.Priority = task.DefaultPriority
	}
	e.rank = s.rankOf(&e.task, now)
	s.lastSeq++
	e.seq = s.lastSeq
	if named {
		s.byID[t.ID], e.indexed = e, true
	}
	s.hold(e)
	f.tasks++
	f.totals.Submitted++
	s.measures.all.Submitted++
	f.submitted.add(now)
	if t.Durable != nil {
		s.acceptDurable(now, e)
		s.pump(now, f)
		return e.ref, nil
	}
	s.bytes += bytes
	e.due = now
	if free != nil {
		s.pass(now, e, free)
		return e.ref, nil
	}
	s.enqueue(e, false)
	s.pump(now, f)
	return e.ref, nil
}

// idle returns the session that a new task of f need not wait for, or nil.
func (s *State) idle(f *function) *Session {
	if f == nil || f.paused || s.next(f) != nil {
		return nil
	}
	return f.ring.next()
}

// acceptDurable makes a durable task wait for its time, or for a worker.
func (s *State) acceptDurable(now time.Time, e *entry) {
	e.d = &durable{}
	s.durables++
	s.resident += len(e.task.Payload)
	if at := e.task.Durable.RunAt; at.After(now) {
		e.rank = s.rankOf(&e.task, at)
		s.schedule(e, at)
		return
	}
	e.due = now
	s.enqueue(e, false)
}

// join answers a task whose id is known.
func (s *State) join(e *entry, t *task.Task) (Ref, error) {
	if !t.OwnID || !e.task.OwnID || e.task.Owner != t.Owner || e.task.Fingerprint != t.Fingerprint {
		return Ref{}, ErrIDConflict
	}
	if t.Durable != nil && e.d == nil { // what was submitted is not on disk
		return Ref{}, ErrIDConflict
	}
	if t.Durable == nil && t.FreshID { // and yet it is here
		return Ref{}, ErrIDConflict
	}
	if e.state.Terminal() && !e.keptUntil().IsZero() {
		s.effects = append(s.effects, Effect{Kind: Finish, Ref: e.ref, TaskID: e.task.ID, Outcome: e.over.outcome})
	}
	return e.ref, nil
}

// room checks the limits. A task that a worker can take at once, who is free, does
// not count as waiting.
func (s *State) room(t *task.Task, f *function, bytes int, free *Session) error {
	name := t.Function
	if t.Owner != "" {
		if err := s.ownRoom(t.Owner, bytes); err != nil {
			return err
		}
	}
	if t.Durable != nil {
		if s.durables >= s.opt.MaxDurableTasks {
			return s.full("durable tasks without an outcome", "", s.opt.MaxDurableTasks)
		}
		return nil
	}
	if s.bytes+bytes > s.opt.MaxBytes {
		return s.full("bytes in all tasks that wait or run", "", s.opt.MaxBytes)
	}
	if free != nil {
		return nil
	}
	var all, own load
	if f != nil {
		all = f.waitsFor.load
		if h := f.waitsFor.of(t.Owner); h != nil {
			own = h.load
		}
	}
	if s.queued+s.scheduled-s.waitingDurables() >= s.opt.MaxQueuedTasks {
		return s.full("tasks waiting", "", s.opt.MaxQueuedTasks)
	}
	tasks, size := s.opt.MaxFunctionQueuedTasks, s.opt.MaxFunctionQueuedBytes
	switch {
	case all.live >= tasks:
		return s.full("tasks waiting for function ", name, tasks)
	case all.liveBytes+bytes > size:
		return s.full("bytes waiting for function ", name, size)
	case greedy(t.Owner, own.live, all.live, tasks):
		return s.full("tasks, the last for principals with few, waiting for function ", name, tasks)
	case greedy(t.Owner, own.liveBytes, all.liveBytes+bytes, size):
		return s.full("bytes, the last for principals with few, waiting for function ", name, size)
	}
	return nil
}

// full is the refusal of a task. The one before is given again when it says the
// same: whoever is refused all the time shall cost little.
func (s *State) full(limit, name string, most int) *QueueFullError {
	e := s.lastFull
	if e == nil || e.Max != most || len(e.Limit) != len(limit)+len(name) || e.Limit[:len(limit)] != limit || e.Limit[len(limit):] != name {
		e = &QueueFullError{Limit: limit + name, Max: most}
		s.lastFull = e
	}
	return e
}

// waitingDurables counts the durable tasks that wait.
func (s *State) waitingDurables() int { return s.durables - s.unsettled - s.runningDurables }

// Waiter returns the place of a task's waiter, for the owner to write to, or nil
// when the task is not in the tables. It is good until the next fact.
func (s *State) Waiter(ref Ref) *Waiter {
	if e := s.entry(ref); e != nil {
		return &e.waiter
	}
	return nil
}

// Abandon says that nobody waits for a task any more. A durable one goes on.
func (s *State) Abandon(now time.Time, ref Ref, reason string) {
	if e := s.entry(ref); e != nil && e.d == nil {
		s.Cancel(now, ref, reason)
	}
}

// Cancel ends a task that nobody wants any more. A Ref that is no longer good is
// ignored: the outcome was faster.
func (s *State) Cancel(now time.Time, ref Ref, reason string) {
	if e := s.entry(ref); e != nil && !e.state.Terminal() {
		s.finish(now, e, task.Outcome{State: task.Cancelled, Attempt: int(e.attempt)}, reason)
	}
}

// Empty reports whether every task has its outcome, on disk where it belongs
// there.
func (s *State) Empty() bool { return s.queued+s.scheduled+s.running+s.unsettled == 0 }

// Running returns the number of tasks that a worker has.
func (s *State) Running() int { return s.running }

// Shutdown refuses tasks from now on and gives up those that wait and are not
// durable: they end CANCELLED with a failure of reason SHUTDOWN, and the number of their attempts
// tells whether a worker ever had them. What runs goes on.
func (s *State) Shutdown(now time.Time) {
	s.draining = true
	for _, e := range s.entries {
		if e != nil && e.d == nil && (e.state == task.Queued || e.state == task.Scheduled) {
			s.giveUp(now, e)
		}
	}
}

func (s *State) giveUp(now time.Time, e *entry) {
	s.finish(now, e, task.Outcome{
		State:   task.Cancelled,
		Attempt: int(e.attempt),
		Failure: &task.Failure{Reason: task.CancelShutdown, Message: ErrDraining.Error()},
	}, task.CancelShutdown)
}

// entry returns the live entry that ref names, or nil.
func (s *State) entry(ref Ref) *entry {
	if int(ref.Index) >= len(s.entries) {
		return nil
	}
	if e := s.entries[ref.Index]; e != nil && e.ref == ref {
		return e
	}
	return nil
}

func (s *State) newEntry() *entry {
	var e *entry
	if n := len(s.pool); n > 0 {
		e = s.pool[n-1]
		s.pool = s.pool[:n-1]
	} else {
		e = &entry{}
	}
	if n := len(s.unused); n > 0 {
		e.ref.Index = s.unused[n-1]
		s.unused = s.unused[:n-1]
	} else {
		e.ref.Index = uint32(len(s.entries))
		s.entries = append(s.entries, nil)
	}
	s.generation++
	e.ref.generation = s.generation
	s.entries[e.ref.Index] = e
	return e
}

// maxPool is how many empty entries are held for later; more than that is left
// to the garbage collector, so that one long queue is not remembered for ever.
const maxPool = 4096

// free takes a finished entry out of the tables.
func (s *State) free(e *entry) {
	if e.indexed {
		delete(s.byID, e.task.ID)
	}
	if len(s.entries) > maxPool && len(s.unused) == len(s.entries)-1 {
		// It is the last one, and nothing shrinks by itself. Old Refs stay no good:
		// generations go on.
		s.byID = map[string]*entry{}
		s.entries, s.unused, s.timers = nil, nil, timers{}
	} else {
		s.entries[e.ref.Index] = nil
		s.unused = append(s.unused, e.ref.Index)
	}
	if len(s.pool) < maxPool {
		h := e.earlier
		if h != nil {
			clear(h.late[:cap(h.late)])
			*h = earlier{h.late[:0], h.past[:0]}
		}
		*e = entry{earlier: h}
		s.pool = append(s.pool, e)
	}
}

// finish gives a task its outcome. Whoever still works on it is told to stop for
// the reason given.
func (s *State) finish(now time.Time, e *entry, o task.Outcome, reason string) {
	o.WasRunning = e.state == task.Running
	if e.d != nil {
		s.overDurable(now, e, &o, reason)
	}
	s.leaveState(e)
	s.become(e, o.State)
	if e.current != nil {
		s.disown(e.current, reason)
		e.current = nil
	}
	for _, a := range e.late() {
		s.disown(a, task.CancelSuperseded)
	}
	if e.earlier != nil {
		e.earlier.late = e.earlier.late[:0]
	}
	s.timers.remove(e)
	if e.d == nil {
		s.bytes -= e.bytes
	}
	s.letGo(e)
	f := e.fn
	f.tasks--
	f.finished.add(now)
	f.totals.count(o.State)
	s.measures.all.count(o.State)
	s.effects = append(s.effects, Effect{Kind: Finish, Ref: e.ref, TaskID: e.task.ID, Outcome: o, Durable: e.d != nil})
	if e.d == nil {
		s.effects[len(s.effects)-1].Waiter, e.waiter = e.waiter, Waiter{}
	}
	s.forget(f)
	if e.d != nil {
		e.over = &closing{outcome: o, finished: now}
		s.unsettled++
		s.touch(e)
		return // it leaves the tables when that is written
	}
	if e.task.OwnID && !e.task.FreshID && (o.State == task.Succeeded || o.State == task.Failed) {
		s.keep(now, e, o)
	} else {
		s.free(e)
	}
}

// overDurable closes the book of a durable task's attempts.
func (s *State) overDurable(now time.Time, e *entry, o *task.Outcome, reason string) {
	if e.current != nil && o.State != task.Succeeded {
		f := o.Failure
		if f == nil {
			f = &task.Failure{Reason: reason, Message: "the task was ended while it ran"}
		}
		e.ended(now, e.current.token, f)
	}
	if e.d.awaited {
		e.d.awaited = false
		o.WasRunning = true
	}
}

func (t *Totals) count(state task.State) {
	switch state {
	case task.Succeeded:
		t.Succeeded++
	case task.Failed:
		t.Failed++
	case task.Cancelled:
		t.Cancelled++
	case task.Expired:
		t.Expired++
	}
}

// keep holds a finished entry for a client that repeats its task.
func (s *State) keep(now time.Time, e *entry, o task.Outcome) {
	e.over = &closing{outcome: o, finished: now, keptUntil: now.Add(s.opt.KeepFor)}
	e.task.Payload, e.task.Metadata, e.fn = nil, nil, nil
	e.bytes = o.Bytes()
	s.kept.pushBack(e)
	for s.kept.bytes > s.opt.MaxKeptBytes {
		s.unkeep(s.kept.head)
	}
}

func (s *State) unkeep(e *entry) {
	s.kept.remove(e)
	s.free(e)
}
