package balance

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"reparto/internal/task"
)

// Registration is what a worker says of itself when it joins.
type Registration struct {
	WorkerID  string
	SessionID string
	Functions []string
	Slots     int
	Labels    map[string]string
	Build     string
	Address   string
	// Principal is who the worker is; empty where nobody is told apart.
	Principal string
	// Running is what the worker still runs from an earlier session.
	Running []Claim
}

// Claim is an assignment of an earlier session.
type Claim struct {
	TaskID  string
	Attempt int
	Token   uint64
	// Finished says that its result follows; it takes no slot.
	Finished bool
}

// Session is one worker's time with the balancer.
type Session struct {
	Registration
	// Owner is the owner's own; nothing here looks at it.
	Owner any

	index    int // in State.sessions; -1 once it has left
	joined   time.Time
	offers   []offer
	held     []*assignment
	owed     []*assignment          // finished before it joined; their results follow
	adopted  map[uint64]*assignment // held under a token of an earlier session
	draining bool
	shown    bool // to the rings, as free
	done     int64
	gaveBack []*function // of the tasks that it held when it left
}

// offer is a session's place among those that offer a function.
type offer struct {
	fn  *function
	pos int
}

// free is computed from what the session holds, never counted beside it.
func (ses *Session) free() int { return ses.Slots - len(ses.held) }

// listOf is where the session keeps an assignment.
func (ses *Session) listOf(a *assignment) *[]*assignment {
	if a.owed {
		return &ses.owed
	}
	return &ses.held
}

// showFree tells every ring that the session is in whether it may get a task.
func (ses *Session) showFree(free bool) {
	if ses.shown == free {
		return
	}
	ses.shown = free
	for i := range ses.offers {
		ses.offers[i].fn.ring.setFree(ses.offers[i].pos, free)
	}
}

// took moves the turn of f past this session.
func (ses *Session) took(f *function) {
	for i := range ses.offers {
		if ses.offers[i].fn == f {
			f.ring.took(ses.offers[i].pos)
			return
		}
	}
}

// Join registers a worker, which must be valid (see Registration.Check). A live
// session of the same worker leaves, with effect Replaced. What the worker still
// runs stays with it where the task still waits; the rest it is told to cancel.
func (s *State) Join(now time.Time, r Registration) *Session {
	ses := &Session{Registration: r, joined: now}
	if n := len(s.freeIndices); n > 0 {
		ses.index = s.freeIndices[n-1]
		s.freeIndices = s.freeIndices[:n-1]
		s.sessions[ses.index] = ses
	} else {
		ses.index = len(s.sessions)
		s.sessions = append(s.sessions, ses)
	}
	old := s.byWorker[r.WorkerID]
	if old != nil {
		s.remove(now, old)
		s.effects = append(s.effects, Effect{Kind: Replaced, Session: old})
	}
	s.byWorker[r.WorkerID] = ses
	for _, name := range r.Functions {
		f := s.function(name)
		f.sessions++
		ses.offers = append(ses.offers, offer{f, f.ring.join(ses)})
	}
	ses.showFree(true)
	s.claim(now, ses)
	ses.Running = nil
	if old != nil {
		s.pumpAll(now, old)
	}
	s.serve(now, ses)
	return ses
}

// maxClaims is how many assignments of earlier sessions a worker may list.
const maxClaims = 2 * task.MaxSlots

// Check returns a *task.InvalidError unless the registration is one that Join
// can take.
func (r *Registration) Check() error {
	if err := task.CheckWorkerID(r.WorkerID); err != nil {
		return err
	}
	if n := len(r.Functions); n == 0 || n > task.MaxWorkerFuncs {
		return &task.InvalidError{Field: "functions", Problem: fmt.Sprintf("has %d names; offer 1 to %d functions", n, task.MaxWorkerFuncs)}
	}
	seen := make(map[string]bool, len(r.Functions))
	for _, name := range r.Functions {
		if err := task.CheckFunction(name); err != nil {
			return &task.InvalidError{Field: "functions", Problem: err.Error()}
		}
		if seen[name] {
			return &task.InvalidError{Field: "functions", Problem: fmt.Sprintf("names %q twice", name)}
		}
		seen[name] = true
	}
	if r.Slots < 1 || r.Slots > task.MaxSlots {
		return &task.InvalidError{Field: "slots", Problem: fmt.Sprintf("is %d; offer 1 to %d slots", r.Slots, task.MaxSlots)}
	}
	if len(r.Running) > maxClaims {
		return &task.InvalidError{Field: "running", Problem: fmt.Sprintf("lists %d tasks; at most %d are allowed", len(r.Running), maxClaims)}
	}
	running := 0
	for i := range r.Running {
		if !r.Running[i].Finished {
			running++
		}
	}
	if running > r.Slots {
		return &task.InvalidError{Field: "running", Problem: fmt.Sprintf("lists %d tasks that run, more than the %d slots", running, r.Slots)}
	}
	return task.CheckMetadata("labels", r.Labels)
}

// claim takes over what the session's worker still runs.
func (s *State) claim(now time.Time, ses *Session) {
	for _, c := range ses.Running {
		if ses.adopted[c.Token] != nil {
			continue // listed twice
		}
		if ses.adopted == nil {
			ses.adopted = map[uint64]*assignment{}
		}
		a := s.newAssignment(ses, c.Attempt, now, c.Finished)
		a.token, a.rarities().taskID = c.Token, c.TaskID
		ses.adopted[c.Token] = a
		e := s.byID[c.TaskID]
		past := e.ran(c.Token, c.Attempt)
		switch {
		case past == nil || e.state.Terminal():
			s.stop(a, task.CancelSuperseded)
		case past.lost && (e.state == task.Queued || e.state == task.Scheduled):
			if past.counted {
				e.lost-- // it was not
			}
			past.lost, past.counted = false, false
			e.resumed(c.Token)
			s.leaveState(e)
			s.run(e, a)
		default: // a later attempt is due or runs; this one may still be faster
			a.entry = e
			e.addLate(a)
			s.stop(a, task.CancelSuperseded)
		}
	}
}

// goneBy remembers an attempt that no longer runs for e. One that was claimed
// back goes by a second time and is still the same attempt.
func (s *State) goneBy(e *entry, token uint64, attempt int, lost bool) {
	if p := e.ran(token, attempt); p != nil {
		p.lost, p.counted = lost, lost
		return
	}
	s.addPast(e, pastAttempt{token, attempt, lost, lost})
}

// ran finds an attempt of e that has gone by, or nil.
func (e *entry) ran(token uint64, attempt int) *pastAttempt {
	past := e.past()
	for i := range past {
		if p := &past[i]; p.token == token && p.attempt == attempt {
			return p
		}
	}
	return nil
}

// Leave takes a session out, whose stream has ended. What it held goes back to
// the head of its queue, in order. A session that has left already is ignored.
func (s *State) Leave(now time.Time, ses *Session) {
	if ses.index < 0 {
		return
	}
	s.remove(now, ses)
	s.pumpAll(now, ses)
}

// Drain gives the session no more tasks. It goes on answering what it holds.
func (s *State) Drain(ses *Session) {
	if ses.draining {
		return
	}
	ses.draining = true
	ses.showFree(false)
	for i := range ses.offers {
		ses.offers[i].fn.ring.active--
	}
}

// remove takes a session out without giving its tasks to others yet.
func (s *State) remove(now time.Time, ses *Session) {
	s.Drain(ses)
	held := append(ses.held, ses.owed...)
	ses.held, ses.owed, ses.adopted = nil, nil, nil
	// The youngest first, since each is put in front of the one before.
	slices.SortFunc(held, func(a, b *assignment) int { return cmp.Compare(b.seq(), a.seq()) })
	for _, a := range held {
		e, token, attempt := a.entry, a.token, int(a.attempt)
		s.recycle(a)
		switch {
		case e == nil: // nobody waits for it
		case e.current != a:
			e.forgetLate(a)
		default:
			s.goneBy(e, token, attempt, true)
			if !s.draining {
				e.ended(now, token, &task.Failure{
					Reason: task.ReasonWorkerLost, Message: "worker " + ses.WorkerID + " was lost while it ran it", Retry: true,
				})
			}
			fn := e.fn
			s.lose(now, e, attempt, ses.WorkerID)
			if !slices.Contains(ses.gaveBack, fn) {
				ses.gaveBack = append(ses.gaveBack, fn)
			}
		}
	}
	for _, o := range ses.offers {
		o.fn.ring.leave(o.pos)
		o.fn.sessions--
	}
	s.sessions[ses.index] = nil
	s.freeIndices = append(s.freeIndices, ses.index)
	ses.index = -1
	if s.byWorker[ses.WorkerID] == ses {
		delete(s.byWorker, ses.WorkerID)
	}
}

// pumpAll serves the functions that the session offers or did, and those of the
// tasks that it gave back, which it may have offered in an earlier session only.
func (s *State) pumpAll(now time.Time, ses *Session) {
	for _, o := range ses.offers {
		s.pump(now, o.fn)
		s.forget(o.fn)
	}
	for _, fn := range ses.gaveBack {
		s.pump(now, fn)
	}
	ses.gaveBack = nil
}
