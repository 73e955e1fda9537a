package balance

import (
	"fmt"
	"time"

	"reparto/internal/task"
)

// assignment is one handing of a task to a session. It occupies a slot from
// then until the worker answers or leaves, also when nobody wants the answer any
// more.
type assignment struct {
	token   uint64 // as the worker knows it
	session *Session
	entry   *entry        // nil once nobody wants the answer
	began   time.Duration // when, after its session did
	rare    *rare         // nil before there is anything in it
	index   uint32        // in State.assignments
	pos     uint32        // in session.held or session.owed
	attempt int32
	told    bool // the worker was told to stop
	owed    bool // finished already, its result follows: it takes no slot
}

// rare is what few assignments have: apart from them, since each is looked at twice
// for each task and fits in a cache line so.
type rare struct {
	// What the entry knew, once it is gone.
	taskID, function string
	durable          bool
	progress         Progress
}

// rarities returns where to write what few assignments have.
func (a *assignment) rarities() *rare {
	if a.rare == nil {
		a.rare = &rare{}
	}
	return a.rare
}

// leave notes that nobody wants the answer any more.
func (a *assignment) leave() {
	if e := a.entry; e != nil {
		r := a.rarities()
		r.taskID, r.function, r.durable = e.task.ID, e.fn.name, e.d != nil
		a.entry = nil
	}
}

// names tells whose task it is, also when the task is gone.
func (a *assignment) names() (taskID, function string) {
	switch {
	case a.entry != nil:
		return a.entry.task.ID, a.entry.fn.name
	case a.rare != nil:
		return a.rare.taskID, a.rare.function
	}
	return "", ""
}

// durable reports whether its task is, also when the task is gone.
func (a *assignment) durable() bool {
	if a.entry != nil {
		return a.entry.d != nil
	}
	return a.rare != nil && a.rare.durable
}

// started is when the task was handed over.
func (a *assignment) started() time.Time { return a.session.joined.Add(a.began) }

// Progress is how far a worker says it is.
type Progress struct {
	Percent float64
	Message string
}

// enqueue makes e wait: at the head of its queue, or at its end.
func (s *State) enqueue(e *entry, head bool) {
	s.become(e, task.Queued)
	s.queued++
	if head {
		e.fn.waitsFor.pushFront(e)
	} else {
		e.fn.waitsFor.pushBack(e)
	}
	s.setTimer(e)
}

// become moves e to another state. A move that the words do not allow is a bug,
// which Check tells of.
func (s *State) become(e *entry, next task.State) {
	if !e.state.MayBecome(next) && s.illegal == "" {
		s.illegal = fmt.Sprintf("task %s went from %v to %v", e.task.ID, e.state, next)
	}
	e.state = next
	s.touch(e)
}

// leaveState undoes what the entry's present state has put in the tables.
func (s *State) leaveState(e *entry) {
	switch e.state {
	case task.Queued:
		e.fn.waitsFor.remove(e)
		s.queued--
	case task.Scheduled:
		s.scheduled--
		e.fn.waiting--
	case task.Running:
		s.running--
		e.fn.running--
		if e.d != nil {
			s.runningDurables--
		}
	}
}

// pump assigns what waits for f while somebody is free.
func (s *State) pump(now time.Time, f *function) {
	for {
		e := s.next(f)
		if e == nil {
			return
		}
		ses := f.ring.next()
		if ses == nil {
			return
		}
		s.assign(now, e, ses)
	}
}

// serve gives a session that has just got a free slot what waits for it: the
// lowest rank first among the functions that it offers. Nobody else can be free, or
// nothing would be waiting. What is free after that is shown to the rings: so a
// worker that is busy all the time costs nothing for each function that it offers.
func (s *State) serve(now time.Time, ses *Session) {
	s.fill(now, ses)
	if ses.free() > 0 && !ses.draining {
		ses.showFree(true)
	}
}

func (s *State) fill(now time.Time, ses *Session) {
	for ses.free() > 0 && !ses.draining {
		var oldest *entry
		for i := range ses.offers {
			if head := s.next(ses.offers[i].fn); head != nil && (oldest == nil || head.before(oldest)) {
				oldest = head
			}
		}
		if oldest == nil {
			return
		}
		s.assign(now, oldest, ses)
	}
}

// assign hands a queued task to a session with a free slot.
func (s *State) assign(now time.Time, e *entry, ses *Session) {
	e.fn.waitsFor.took(e)
	s.leaveState(e)
	s.give(now, e, ses)
}

// pass hands a new task to a session with a free slot, for which it need not wait.
func (s *State) pass(now time.Time, e *entry, ses *Session) {
	s.become(e, task.Queued)
	e.fn.waitsFor.passed(e)
	s.give(now, e, ses)
}

// give hands a task that stands in no queue to a session with a free slot.
func (s *State) give(now time.Time, e *entry, ses *Session) {
	e.attempt++
	if e.attempt > 1 {
		e.fn.totals.Retried++
		s.measures.all.Retried++
	}
	e.fn.dispatched(now, now.Sub(e.due))
	a := s.newAssignment(ses, int(e.attempt), now, false)
	s.generation++
	a.token = uint64(s.generation)<<32 | uint64(a.index)
	s.run(e, a)
	e.began(now, a)
	ses.took(e.fn)
	s.effects = append(s.effects, Effect{
		Kind: Assign, Session: ses, Token: a.token, Attempt: int(a.attempt), TaskID: e.task.ID,
		Task:    Work{Function: e.task.Function, Payload: e.task.Payload, Metadata: e.task.Metadata, Deadline: e.task.Deadline},
		Durable: e.d != nil,
	})
	if e.d != nil && e.d.absent {
		s.effects[len(s.effects)-1].Task.Absent = true
	}
}

// run makes a the current assignment of e, which has left its state.
func (s *State) run(e *entry, a *assignment) {
	s.become(e, task.Running)
	e.current = a
	e.fn.running++
	s.running++
	if e.d != nil {
		s.runningDurables++
		e.d.awaited = false
	}
	a.entry = e
	s.setTimer(e)
}

// disown says that nobody waits for the assignment any more. It keeps its slot
// until the worker lets go of it.
func (s *State) disown(a *assignment, reason string) {
	a.leave()
	s.stop(a, reason)
}

func (s *State) stop(a *assignment, reason string) {
	if a.told {
		return
	}
	a.told = true
	id, _ := a.names()
	s.effects = append(s.effects, Effect{
		Kind: CancelAssignment, Session: a.session, Token: a.token, Reason: reason, TaskID: id, Durable: a.durable(),
	})
}

func (s *State) newAssignment(ses *Session, attempt int, now time.Time, owed bool) *assignment {
	var a *assignment
	if n := len(s.unusedSlots); n > 0 {
		a = s.assignments[s.unusedSlots[n-1]]
		s.unusedSlots = s.unusedSlots[:n-1]
	} else {
		a = &assignment{index: uint32(len(s.assignments))}
		s.assignments = append(s.assignments, a)
	}
	a.session, a.attempt, a.began, a.owed = ses, int32(attempt), now.Sub(ses.joined), owed
	list := ses.listOf(a)
	a.pos = uint32(len(*list))
	*list = append(*list, a)
	if !owed && ses.free() == 0 {
		ses.showFree(false)
	}
	return a
}

// release frees the slot of an assignment that the worker has let go of; serve
// must follow.
func (s *State) release(a *assignment) {
	ses := a.session
	list := ses.listOf(a)
	last := len(*list) - 1
	(*list)[a.pos] = (*list)[last]
	(*list)[a.pos].pos = a.pos
	(*list)[last] = nil
	*list = (*list)[:last]
	if ses.adopted != nil {
		delete(ses.adopted, a.token)
	}
	s.recycle(a)
}

func (s *State) recycle(a *assignment) {
	if a.rare != nil {
		*a.rare = rare{}
	}
	*a = assignment{index: a.index, rare: a.rare}
	s.unusedSlots = append(s.unusedSlots, a.index)
}

// seq orders assignments by when their task was accepted.
func (a *assignment) seq() uint64 {
	if a.entry == nil {
		return 0
	}
	return a.entry.seq
}
