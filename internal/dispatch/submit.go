package dispatch

import (
	"slices"
	"time"

	"reparto/internal/balance"
	"reparto/internal/task"
)

// Waiter wants to know how tasks end.
type Waiter interface {
	// Done is told the outcomes of tasks, all that came together: each task's
	// exactly once, and possibly before Submit has returned. It must neither block
	// nor call the Dispatcher. The slice is the Dispatcher's, what it holds is not.
	Done(finished []Finished)
}

// Finished is the outcome of the task that was submitted under the number.
type Finished struct {
	Number  uint64
	TaskID  string
	Outcome task.Outcome
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
	number uint64
}

// crowd are all who wait for one task, when they are more than one: it was submitted
// again under the client's own id.
type crowd struct{ waiters []balance.Waiter }

// Done implements Waiter.
func (c *crowd) Done(finished []Finished) {
	for _, f := range finished {
		for _, w := range c.waiters {
			f.Number = w.Number
			w.Who.(Waiter).Done([]Finished{f})
		}
	}
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
		b.Ticket = Ticket{ref, b.Number}
		d.wait(w, b.Ticket)
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

// wait notes that somebody waits for a task in the tables. The caller holds d.mu.
func (d *Dispatcher) wait(w Waiter, t Ticket) {
	at, next := d.state.Waiter(t.ref), balance.Waiter{Who: w, Number: t.number}
	switch who := at.Who.(type) {
	case nil:
		*at = next
	case *crowd:
		who.waiters = append(who.waiters, next)
	default:
		*at = balance.Waiter{Who: &crowd{[]balance.Waiter{*at, next}}}
	}
}

// Abandon says that w is gone, which had these tickets. A task that nobody waits
// for any more is cancelled, unless it is durable. Tickets whose task is over are
// ignored.
func (d *Dispatcher) Abandon(w Waiter, tickets ...Ticket) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range tickets {
		at, gone := d.state.Waiter(t.ref), balance.Waiter{Who: w, Number: t.number}
		if at == nil {
			continue
		}
		if c, many := at.Who.(*crowd); many {
			c.waiters = slices.DeleteFunc(c.waiters, func(one balance.Waiter) bool { return one == gone })
			if len(c.waiters) == 1 {
				*at = c.waiters[0]
			}
		} else if *at == gone {
			*at = balance.Waiter{}
			d.state.Abandon(now, t.ref, task.CancelClientGone)
			d.settle()
		}
	}
}

// finish gathers an outcome for who waits for it. The caller holds d.mu.
func (d *Dispatcher) finish(e *balance.Effect) {
	if d.logTasks {
		d.log.Debug("task finished", "task_id", e.TaskID, "state", e.Outcome.State.String())
	}
	if d.trails != nil {
		d.trails.finished(e)
	}
	w := e.Waiter
	if w.Who == nil { // the task is in the tables still
		at := d.state.Waiter(e.Ref)
		if at == nil || at.Who == nil {
			return
		}
		w, *at = *at, balance.Waiter{}
	}
	if who := w.Who.(Waiter); who != d.who {
		d.tell()
		d.who = who
	}
	d.finished = append(d.finished, Finished{w.Number, e.TaskID, e.Outcome})
}

// handOver gives waiters and sessions what they got, all of it at once: so each of
// their locks is taken once, and none of their writers is woken by the first of many.
// The caller holds d.mu.
func (d *Dispatcher) handOver() {
	d.tell()
	for _, s := range d.given {
		s.given = false
		s.putAssignments()
		s.signal()
	}
	clear(d.given)
	d.given = d.given[:0]
}

// tell gives the outcomes gathered to who waits for them. The caller holds d.mu.
func (d *Dispatcher) tell() {
	who, finished := d.who, d.finished
	d.who, d.finished = nil, nil // before the call: should it panic, nobody is told twice
	if len(finished) > 0 {
		who.Done(finished)
	}
	if cap(finished) <= maxGathered { // so that one long list is not remembered for ever
		clear(finished)
		d.finished = finished[:0]
	}
}

// maxGathered is for how many outcomes memory is kept.
const maxGathered = 4096
