package client

import (
	"context"
	"slices"
	"sync"
	"time"
)

// call is a task under way. Its fields belong to Client.mu from its admission
// until it is settled; then they belong to whoever waits for it.
type call struct {
	task     Task
	number   uint64 // 0 until it is admitted
	deadline time.Time
	since    time.Time // when it began to wait for a stream that keeps it; zero while it never had to
	sent     bool      // on a stream that is open; then it is not pending
	on       *session  // that stream
	refused  bool      // by a stopping balancer, whose stream is still open
	settled  bool

	out  Outcome
	err  error
	done chan struct{}        // of Submit: holds a token once settled
	fn   func(Outcome, error) // of SubmitFunc

	watch      *watch // for the end of the context, if the caller does not wait for that
	prev, next *call  // there
}

// calls are those of Submit. SubmitFunc's come and go under c.mu, which both ways take
// anyhow: see spare.
var calls = sync.Pool{New: func() any { return &call{done: make(chan struct{}, 1)} }}

func (k *call) start(ctx context.Context, t *Task) {
	k.deadline = t.begin(ctx)
	k.task = *t
}

// begin gives the task the id that it needs, and returns its deadline; zero for none.
func (t *Task) begin(ctx context.Context) time.Time {
	if t.Idempotent && t.ID == "" {
		t.ID = newID()
	}
	deadline, _ := ctx.Deadline()
	if t.Timeout > 0 {
		if end := time.Now().Add(t.Timeout); deadline.IsZero() || end.Before(deadline) {
			deadline = end
		}
	}
	return deadline
}

func (k *call) recycle() {
	*k = call{done: k.done}
	calls.Put(k)
}

// maxSpare is how many calls a Client keeps to be used again, some 300 bytes each.
const maxSpare = 1024

// spare returns a call for SubmitFunc. The caller holds c.mu.
func (c *Client) spare() *call {
	n := len(c.spares)
	if n == 0 {
		return &call{}
	}
	k := c.spares[n-1]
	c.spares = c.spares[:n-1]
	return k
}

// table holds the calls under way by number. The low half of a number is a slot,
// the high half the slot's generation: so a late outcome never meets the slot's
// next user.
type table struct {
	slots []slot
	free  []uint32
}

type slot struct {
	call       *call
	generation uint32
}

// put gives the call a slot and a number, which is never 0.
func (t *table) put(k *call) {
	var i uint32
	if n := len(t.free); n > 0 {
		i = t.free[n-1]
		t.free = t.free[:n-1]
	} else {
		i = uint32(len(t.slots))
		t.slots = append(t.slots, slot{})
	}
	s := &t.slots[i]
	s.generation = max(s.generation+1, 1) // it wraps after four thousand million tasks
	s.call = k
	k.number = uint64(s.generation)<<32 | uint64(i)
}

// get finds the call that bears a number; nil when there is none any more.
func (t *table) get(number uint64) *call {
	if i := int(uint32(number)); i < len(t.slots) {
		if k := t.slots[i].call; k != nil && k.number == number {
			return k
		}
	}
	return nil
}

func (t *table) remove(k *call) {
	i := uint32(k.number)
	t.slots[i].call = nil
	t.free = append(t.free, i)
}

// settle gives a call its end, and its place to the next. The caller holds c.mu.
// Who waits in Submit is to be woken after that: see release.
func (c *Client) settle(k *call, out Outcome, err error) {
	k.settled, k.out, k.err = true, out, err
	c.unwatch(k)
	if k.fn != nil {
		c.finished = append(c.finished, k)
		c.room.untold++
		signal(c.finish)
	}
	if k.number == 0 {
		return
	}
	if !k.sent {
		c.stale++
	}
	c.table.remove(k)
	c.room.leave()
}

// release wakes those who wait in Submit for calls that are settled, none of
// them SubmitFunc's. The caller does not hold c.mu, which they will soon want.
func release(over []*call) {
	for _, k := range over {
		k.done <- struct{}{}
	}
}

// abandon settles a call whose context has ended, and reports whether it had no
// end yet. Nobody needs to be released then: it is the caller who waits.
func (c *Client) abandon(k *call, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.abandonLocked(k, err)
}

func (c *Client) abandonLocked(k *call, err error) bool {
	if k.settled {
		return false
	}
	if k.sent {
		c.cancelSent(k)
	}
	c.settle(k, Outcome{}, err)
	if c.stale > 1024 && c.stale > len(c.pending)/2 {
		c.compact()
	}
	return true
}

// compact forgets pending calls that are settled. Without it they would pile up
// while there is no stream. The caller holds c.mu.
func (c *Client) compact() {
	c.pending = slices.DeleteFunc(c.pending, func(k *call) bool { return k.settled })
	c.stale = 0
}

// rouse wakes the runner or the writer, whichever sleeps. The caller holds c.mu.
func (c *Client) rouse() {
	if c.asleep {
		c.asleep = false
		signal(c.wake)
	}
}

// failAll ends every call under way with the error that why gives it; those for
// which it gives nil stay.
func (c *Client) failAll(why func(*call) error) {
	c.mu.Lock()
	over := c.failLocked(why)
	if c.closed {
		c.room.open()
	}
	c.mu.Unlock()
	release(over)
}

// failLocked returns those who are to be released. The caller holds c.mu.
func (c *Client) failLocked(why func(*call) error) (over []*call) {
	for i := range c.table.slots {
		k := c.table.slots[i].call
		if k == nil {
			continue
		}
		if err := why(k); err != nil {
			c.settle(k, Outcome{}, err)
			if k.fn == nil {
				over = append(over, k)
			}
		}
	}
	return over
}
