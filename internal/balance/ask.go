package balance

import (
	"time"

	"reparto/internal/task"
)

// Find returns the Ref of a durable task that is in the tables.
func (s *State) Find(id string) (Ref, bool) {
	if e := s.byID[id]; e.isUnsettled() {
		return e.ref, true
	}
	return Ref{}, false
}

// Accepted counts the tasks that were ever accepted; one that joins another does
// not count.
func (s *State) Accepted() uint64 { return s.lastSeq }

// Live reports whether ref names a task that is in the tables.
func (s *State) Live(ref Ref) bool { return s.entry(ref) != nil }

// Knows reports whether any task of that id is in the tables.
func (s *State) Knows(id string) bool { return s.byID[id] != nil }

// Record returns what is known of a durable task in the tables, its payload only
// if that is in memory.
func (s *State) Record(ref Ref) *task.Record {
	if e := s.entry(ref); e != nil && e.d != nil {
		r := &task.Record{}
		e.record(r)
		return r
	}
	return nil
}

// ForgetKept drops the outcome that is kept for a client that repeats a task, so
// that the task may be brought back from the store.
func (s *State) ForgetKept(id string) {
	if e := s.byID[id]; e != nil && !e.keptUntil().IsZero() {
		s.unkeep(e)
	}
}

// Pause gives out no more tasks of a function, or does so again. It reports
// whether the function was paused.
func (s *State) Pause(now time.Time, name string, paused bool) (was bool) {
	f := s.functions[name]
	if f == nil && !paused {
		return false
	}
	f = s.function(name)
	was, f.paused = f.paused, paused
	s.pump(now, f)
	s.forget(f)
	return was
}

// FindSession returns the live session of a worker, or nil.
func (s *State) FindSession(workerID string) *Session { return s.byWorker[workerID] }

// Explanation tells why a durable task is where it is.
type Explanation struct {
	Record                    *task.Record
	Workers, Slots, FreeSlots int
	Paused                    bool
	// Position is how many tasks of its queue are before it, counted up to
	// maxPosition.
	Position int
	// Session runs it; nil when none does. Started is since when.
	Session *Session
	Started time.Time
	// Awaited says that it ran before a restart, and its worker may come back.
	Awaited bool
}

// maxPosition bounds what an explanation may cost.
const maxPosition = 10_000

// Explain tells why a durable task in the tables is where it is.
func (s *State) Explain(ref Ref) (x Explanation, ok bool) {
	e := s.entry(ref)
	if e == nil || e.d == nil {
		return x, false
	}
	x = Explanation{Record: s.Record(ref), Awaited: e.d.awaited}
	if e.state.Terminal() {
		return x, true
	}
	x.Paused = e.fn.paused
	for _, ses := range e.fn.ring.members {
		if ses != nil && !ses.draining {
			x.Workers++
			x.Slots += ses.Slots
			x.FreeSlots += ses.free()
		}
	}
	if e.state == task.Queued {
		for p := e.prev; p != nil && x.Position < maxPosition; p = p.prev {
			x.Position++
		}
		x.Position = min(x.Position*e.fn.waitsFor.owners(), maxPosition) // each has a turn
	}
	if e.current != nil {
		x.Session, x.Started = e.current.session, e.current.started()
	}
	return x, true
}
