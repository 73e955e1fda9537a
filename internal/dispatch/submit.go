package dispatch

import (
	"slices"
	"time"

	"reparto/internal/balance"
	"reparto/internal/task"
)

// Waiter wants to know how tasks end.
type Waiter interface {
	// Done is told the outcome of the task that was submitted under the number,
	// exactly once for each, and possibly before Submit has returned. It must
	// neither block nor call the Dispatcher, and it may keep what it is given.
	Done(number uint64, taskID string, o task.Outcome)
}

// Submission is one task of a batch. Number is the waiter's own. Submit sets
// Ticket, or Err when the task was refused: ErrDraining, ErrNoWorker,
// ErrIDConflict or a *QueueFullError; Done is not called then.
type Submission struct {
	Number uint64
	Task   task.Task
	Ticket Ticket
	Err    error
}

// Ticket names a waiter's interest in a task.
type Ticket struct {
	ref    balance.Ref
	waiter Waiter
	number uint64
}

// waiting is who waits for one task. More than one wait when a task was
// submitted again under the client's own id.
type waiting struct {
	ref   balance.Ref
	first Ticket
	more  []Ticket
}

// Submit accepts a batch of valid tasks. A task without an ID gets a UUIDv7.
func (d *Dispatcher) Submit(w Waiter, batch []Submission) {
	now := time.Now()
	d.name(batch, now)
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range batch {
		b := &batch[i]
		before := d.state.Accepted()
		ref, err := d.state.Submit(now, &b.Task)
		if err != nil {
			b.Err = err
			continue
		}
		if d.trails != nil && d.state.Accepted() != before { // else it joined what was there
			d.trails.follow(&b.Task, now)
		}
		b.Ticket = Ticket{ref, w, b.Number}
		d.wait(b.Ticket)
		if d.logTasks && !d.state.Offered(b.Task.Function) {
			d.log.Debug("no worker available", "task_id", b.Task.ID, "function", b.Task.Function)
		}
	}
	d.settle()
}

// name gives an id to those that have none.
func (d *Dispatcher) name(batch []Submission, now time.Time) {
	unnamed := 0
	for i := range batch {
		if batch[i].Task.ID == "" {
			unnamed++
		}
	}
	next := 0
	for id := range d.ids.Many(now, unnamed) {
		for batch[next].Task.ID != "" {
			next++
		}
		batch[next].Task.ID = id
	}
}

func (d *Dispatcher) wait(t Ticket) {
	for int(t.ref.Index) >= len(d.waiting) {
		d.waiting = append(d.waiting, waiting{})
	}
	w := &d.waiting[t.ref.Index]
	if w.ref == t.ref && w.first.waiter != nil {
		w.more = append(w.more, t)
		return
	}
	*w = waiting{ref: t.ref, first: t}
}

// Abandon says that the waiters of these tickets are gone. A task that nobody
// waits for any more is cancelled, unless it is durable. Tickets whose task is over are ignored.
func (d *Dispatcher) Abandon(tickets ...Ticket) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range tickets {
		if int(t.ref.Index) >= len(d.waiting) {
			continue
		}
		w := &d.waiting[t.ref.Index]
		if w.ref != t.ref {
			continue
		}
		if w.first == t && len(w.more) > 0 {
			w.first, w.more = w.more[0], w.more[1:]
		} else if w.first == t {
			w.first = Ticket{}
			d.state.Abandon(now, t.ref, task.CancelClientGone)
			d.settle()
		} else {
			w.more = slices.DeleteFunc(w.more, func(m Ticket) bool { return m == t })
		}
	}
}

// finish tells everybody who waits. The caller holds d.mu.
func (d *Dispatcher) finish(e *balance.Effect) {
	if d.logTasks {
		d.log.Debug("task finished", "task_id", e.TaskID, "state", e.Outcome.State.String())
	}
	if d.trails != nil {
		d.trails.finished(e)
	}
	if int(e.Ref.Index) >= len(d.waiting) {
		return // nobody waits for a durable task
	}
	w := &d.waiting[e.Ref.Index]
	if w.ref != e.Ref {
		return
	}
	if w.first.waiter != nil {
		w.first.waiter.Done(w.first.number, e.TaskID, e.Outcome)
	}
	for _, t := range w.more {
		t.waiter.Done(t.number, e.TaskID, e.Outcome)
	}
	*w = waiting{}
}
