package balance

import (
	"math/bits"
	"time"

	"reparto/internal/task"
)

// lines are where the tasks of one function and owner wait: a queue for each priority, and
// apart from each other the submitted tasks and the durable ones, which can't be
// given out while the store fails.
//
// The task to go next is the head with the lowest rank. A rank is the time from
// which a task may run, moved by the aging for each step of priority: so an idle
// task goes before an urgent one that came four agings later, and nothing
// starves.
type lines struct {
	queues   [2 * priorities]queue
	occupied uint16 // a bit for each queue that is not empty
	load
}

// load counts tasks and their bytes; those that are not durable also apart.
type load struct{ len, bytes, live, liveBytes int }

func (l *load) add(e *entry, sign int) {
	l.len += sign
	l.bytes += sign * e.bytes
	if e.d == nil {
		l.live += sign
		l.liveBytes += sign * e.bytes
	}
}

const (
	priorities   = task.Idle - task.Urgent + 1
	durableLines = (1<<priorities - 1) << priorities
)

// line is the number of the queue of e.
func (e *entry) line() int {
	i := e.task.Priority - task.Urgent
	if e.d != nil {
		i += priorities
	}
	return i
}

func (l *lines) pushBack(e *entry) {
	l.queues[e.line()].pushBack(e)
	l.added(e)
}

func (l *lines) pushFront(e *entry) {
	l.queues[e.line()].pushFront(e)
	l.added(e)
}

// insert puts e before those of its queue that rank behind it. It looks from the
// head, for tasks that were waiting before most others.
func (l *lines) insert(e *entry) {
	q := &l.queues[e.line()]
	at := q.head
	for at != nil && at.before(e) {
		at = at.next
	}
	q.insertBefore(e, at)
	l.added(e)
}

func (l *lines) added(e *entry) {
	l.occupied |= 1 << e.line()
	l.add(e, 1)
}

func (l *lines) remove(e *entry) {
	i := e.line()
	l.queues[i].remove(e)
	if l.queues[i].head == nil {
		l.occupied &^= 1 << i
	}
	l.add(e, -1)
}

// head returns the task to go next, or nil; of the queues in the set alone.
func (l *lines) head(set uint16) *entry {
	var best *entry
	for m := l.occupied & set; m != 0; m &= m - 1 {
		if head := l.queues[bits.TrailingZeros16(m)].head; best == nil || head.before(best) {
			best = head
		}
	}
	return best
}

// before orders tasks by rank, then as they were accepted.
func (e *entry) before(other *entry) bool {
	return e.rank < other.rank || e.rank == other.rank && e.seq < other.seq
}

// rankOf is the place of a task that may run from the time on.
func (s *State) rankOf(t *task.Task, from time.Time) int64 {
	return from.UnixNano() + int64(t.Priority-task.DefaultPriority)*int64(s.opt.Aging)
}

// next returns the waiting task of f that may be given out now, or nil.
func (s *State) next(f *function) *entry {
	if f.waitsFor.first == nil || f.paused {
		return nil
	}
	set := ^uint16(0)
	if s.storeDown {
		set &^= durableLines
	}
	return f.waitsFor.head(set)
}
