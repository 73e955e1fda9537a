package balance

import (
	"errors"
	"fmt"
	"slices"

	"reparto/internal/task"
)

// Check returns an error unless every promise that can be read off the tables
// holds. It costs O(everything): tests and fuzzing call it after every fact.
func (s *State) Check() error {
	if s.illegal != "" {
		return errors.New(s.illegal)
	}
	var c Counts
	waiting := map[*function]int{}
	running := map[*function]int{}
	tasks := map[*function]int{}
	held := map[string]holding{}
	over, durables, unsettled, resident := 0, 0, 0, 0
	for i, e := range s.entries {
		if e == nil {
			continue
		}
		if err := s.checkEntry(uint32(i), e); err != nil {
			return fmt.Errorf("task %s (%v): %w", e.task.ID, e.state, err)
		}
		if e.d != nil && e.keptUntil().IsZero() {
			durables++
			resident += e.residentBytes()
		}
		if e.state.Terminal() {
			if e.keptUntil().IsZero() {
				unsettled++
			} else {
				over++
			}
			continue
		}
		tasks[e.fn]++
		if o := e.task.Owner; o != "" {
			held[o] = holding{o, held[o].tasks + 1, held[o].bytes + e.bytes}
		}
		if e.d == nil {
			c.Bytes += e.bytes
		}
		switch e.state {
		case task.Queued:
			c.Queued++
		case task.Scheduled:
			c.Scheduled++
			waiting[e.fn]++
		case task.Running:
			c.Running++
			running[e.fn]++
		}
	}
	if durables != s.durables || unsettled != s.unsettled || resident != s.resident {
		return fmt.Errorf("%d durable tasks, %d unsettled, %d bytes are counted; the tables hold %d, %d, %d",
			s.durables, s.unsettled, s.resident, durables, unsettled, resident)
	}
	for name, h := range s.owners {
		if held[name] != *h {
			return fmt.Errorf("%+v is counted; the tables hold %+v", *h, held[name])
		}
	}
	if len(held) != len(s.owners) {
		return fmt.Errorf("%d owners are known, %d have tasks", len(s.owners), len(held))
	}
	c.Sessions = len(s.byWorker)
	if got := s.Counts(); got != c {
		return fmt.Errorf("counts are %+v, the tables hold %+v", got, c)
	}
	for _, f := range s.functions {
		if f.tasks != tasks[f] || f.running != running[f] || f.waiting != waiting[f] {
			return fmt.Errorf("function %s counts %d tasks, %d running, %d scheduled; the tables hold %d, %d, %d",
				f.name, f.tasks, f.running, f.waiting, tasks[f], running[f], waiting[f])
		}
		if err := s.checkFunction(f); err != nil {
			return fmt.Errorf("function %s: %w", f.name, err)
		}
	}
	for _, ses := range s.sessions {
		if ses == nil {
			continue
		}
		if err := s.checkSession(ses); err != nil {
			return fmt.Errorf("session of %s: %w", ses.WorkerID, err)
		}
	}
	if err := s.kept.check(func(e *entry) bool { return e.state.Terminal() && s.byID[e.task.ID] == e }); err != nil {
		return fmt.Errorf("kept outcomes: %w", err)
	}
	if s.kept.len != over || s.kept.bytes > s.opt.MaxKeptBytes {
		return fmt.Errorf("%d outcomes are kept, %d tasks are over; %d bytes of at most %d",
			s.kept.len, over, s.kept.bytes, s.opt.MaxKeptBytes)
	}
	return s.checkTimers()
}

// check: the list holds what belongs there, and counts it right.
func (q *queue) check(belongs func(*entry) bool) error {
	n, bytes := 0, 0
	for e := q.head; e != nil; e = e.next {
		if n++; n > q.len || !belongs(e) {
			return fmt.Errorf("entry %d of %d does not belong in the list", n, q.len)
		}
		bytes += e.bytes
	}
	if n != q.len || bytes != q.bytes {
		return fmt.Errorf("the list counts %d entries with %d bytes; it holds %d with %d", q.len, q.bytes, n, bytes)
	}
	return nil
}

// checkEntry: each task is in exactly one place.
func (s *State) checkEntry(index uint32, e *entry) error {
	queued := 0
	if e.fn != nil {
		for h := e.fn.waitsFor.first; h != nil; h = h.next {
			for i := range h.queues {
				for q := h.queues[i].head; q != nil; q = q.next {
					queued += btoi(q == e)
				}
			}
		}
	}
	switch {
	case e.ref.Index != index || e.indexed && s.byID[e.task.ID] != e:
		return fmt.Errorf("the tables disagree on where it is")
	case (e.task.OwnID || e.d != nil || len(e.past()) > 0) && s.byID[e.task.ID] == nil:
		return fmt.Errorf("nobody would find it by its id")
	case queued != btoi(e.state == task.Queued):
		return fmt.Errorf("it stands %d times in its queue", queued)
	case (e.current != nil) != (e.state == task.Running):
		return fmt.Errorf("current assignment is %v", e.current)
	case e.current != nil && (e.current.entry != e || e.current.session.index < 0):
		return fmt.Errorf("its assignment belongs to another task or to a session that has left")
	case e.state.Terminal() && (e.timer != 0 || len(e.late()) > 0):
		return fmt.Errorf("it is over, but a timer or an attempt still knows it")
	case !e.state.Terminal() && e.timer == 0:
		return fmt.Errorf("nothing ends it: it has no timer")
	case e.state.Terminal() && e.d != nil && e.over == nil:
		return fmt.Errorf("it is over, and nobody will write that down")
	case !e.keptUntil().IsZero() && e.waiter.Who != nil && len(s.effects) == 0:
		return fmt.Errorf("it is over, and who waits for it was not told")
	case !e.state.Terminal() && s.functions[e.fn.name] != e.fn:
		return fmt.Errorf("its function was forgotten")
	}
	for _, a := range e.late() {
		if a.entry != e || a.session == nil || !a.told {
			return fmt.Errorf("late attempt %d is not its own", a.attempt)
		}
	}
	return nil
}

// check: nothing waits while somebody is free, and nobody else has a turn.
func (s *State) checkFunction(f *function) error {
	if err := f.checkShares(); err != nil {
		return err
	}
	sessions, active := 0, 0
	for pos, ses := range f.ring.members {
		free := f.ring.free.has(pos)
		if ses == nil {
			if free {
				return fmt.Errorf("hole %d of the ring has a turn", pos)
			}
			continue
		}
		sessions++
		active += btoi(!ses.draining)
		if free != (ses.free() > 0 && !ses.draining) {
			return fmt.Errorf("%s has %d free slots (draining %v), the ring says free=%v", ses.WorkerID, ses.free(), ses.draining, free)
		}
		if free && s.next(f) != nil {
			return fmt.Errorf("%d tasks wait while %s is free", f.waitsFor.len, ses.WorkerID)
		}
	}
	if sessions != f.sessions || active != f.ring.active {
		return fmt.Errorf("counts %d sessions, %d active; the ring holds %d, %d", f.sessions, f.ring.active, sessions, active)
	}
	return nil
}

// checkShares: each owner's tasks are counted, and it has a turn while any wait.
func (f *function) checkShares() error {
	var all load
	turns := 0
	for h := f.waitsFor.first; h != nil; h = h.next {
		if turns++; h.len == 0 || h.next != nil && h.next.tag < h.tag || f.waitsFor.byOwner[h.owner] != h || h.next != nil && h.next.prev != h || h.next == nil && f.waitsFor.final != h {
			return fmt.Errorf("owner %q does not belong where its turn is", h.owner)
		}
	}
	for _, h := range f.waitsFor.byOwner {
		var own load
		for i := range h.queues {
			q := &h.queues[i]
			if err := q.check(func(e *entry) bool {
				return e.state == task.Queued && e.fn == f && e.line() == i && e.share == h && e.task.Owner == h.owner
			}); err != nil {
				return err
			}
			for e := q.head; e != nil; e = e.next {
				own.add(e, 1)
				all.add(e, 1)
			}
			if (q.head != nil) != (h.occupied>>i&1 == 1) {
				return fmt.Errorf("queue %d is marked wrongly as occupied", i)
			}
		}
		if turns -= btoi(own.len > 0); own != h.load {
			return fmt.Errorf("owner %q counts %+v waiting; its queues hold %+v", h.owner, h.load, own)
		}
	}
	if all != f.waitsFor.load || turns != 0 {
		return fmt.Errorf("counts %+v waiting, its queues hold %+v; %d turns too many", f.waitsFor.load, all, turns)
	}
	return nil
}

// checkSession: no session holds more than its slots, and all of it is its own.
func (s *State) checkSession(ses *Session) error {
	if len(ses.held) > ses.Slots {
		return fmt.Errorf("holds %d assignments in %d slots", len(ses.held), ses.Slots)
	}
	for _, a := range append(slices.Clone(ses.held), ses.owed...) {
		taskID, _ := a.names()
		switch {
		case a.session != ses || (*ses.listOf(a))[a.pos] != a:
			return fmt.Errorf("assignment %d of %s is not its own", a.attempt, taskID)
		case s.held(ses, a.token) != a:
			return fmt.Errorf("token %x does not lead to the assignment of %s", a.token, taskID)
		case a.entry != nil && a.entry.current != a && !slices.Contains(a.entry.late(), a):
			return fmt.Errorf("its assignment of %s belongs to a task that does not know it", taskID)
		case a.entry == nil && !a.told:
			return fmt.Errorf("was never told that nobody wants %s any more", taskID)
		}
	}
	return nil
}

func (s *State) checkTimers() error {
	heap, empty := s.timers.heap, 0
	for i, t := range heap {
		if t.entry == nil {
			empty++
		} else if int(t.entry.timer) != i+1 {
			return fmt.Errorf("timer %d does not know its place", i)
		}
		if i > 0 && t.wake.Before(heap[(i-1)/2].wake) {
			return fmt.Errorf("timer %d is sooner than its parent", i)
		}
	}
	if empty != s.timers.empty || empty > 0 && empty > len(heap)/2 {
		return fmt.Errorf("%d of %d timers are empty, and %d are said to be", empty, len(heap), s.timers.empty)
	}
	return nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
