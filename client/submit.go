package client

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
)

// call is a task under way. Its fields belong to Client.mu until it is
// settled and taken out of its slot; then they belong to whoever waits.
type call struct {
	task     Task
	number   uint64 // 0 until it has a slot
	deadline time.Time
	since    time.Time // when it began to wait for a connection
	sent     bool
	settled  bool

	out  Outcome
	err  error
	done chan struct{}        // blocking calls: holds a token once settled
	fn   func(Outcome, error) // the others
	halt func()               // stops watching the context
}

// slot is a place for a call. Its generation is part of the call's number, so
// that a late outcome never meets the slot's next user.
type slot struct {
	call       *call
	generation uint32
}

var calls = sync.Pool{New: func() any { return &call{done: make(chan struct{}, 1)} }}

// Submit hands over a task and blocks until its outcome is there or ctx ends.
// ctx's end cancels the task.
//
// The error is a *TaskError when the task failed, else an *Error that says why
// there is no verdict. errors.Is finds context.DeadlineExceeded and
// context.Canceled where those are the reason.
//
// A task that has not been sent waits for a connection, at most the connect
// timeout. One that had been sent when the connection broke is submitted again
// if it is Idempotent or the balancer says that it never ran; otherwise its
// error is ErrFateUnknown.
func (c *Client) Submit(ctx context.Context, t Task) (Outcome, error) {
	if err := ctx.Err(); err != nil {
		return Outcome{}, errContext(ctx)
	}
	k := calls.Get().(*call)
	k.start(ctx, t)
	if err := c.admit(ctx, k); err != nil {
		k.recycle()
		return Outcome{}, err
	}
	select {
	case <-k.done:
	case <-ctx.Done():
		if c.abandon(k) {
			return Outcome{}, errContext(ctx)
		}
		<-k.done
	}
	out, err := k.out, k.err
	if k.sent { // else the list of the pending may know it a while longer
		k.recycle()
	}
	return out, err
}

// SubmitFunc hands over a task and returns; done is called exactly once with
// what Submit would have returned. One goroutine calls it for all tasks in turn,
// so it must not block; it may call SubmitFunc. SubmitFunc itself blocks only
// while MaxInFlight tasks are under way.
func (c *Client) SubmitFunc(ctx context.Context, t Task, done func(Outcome, error)) {
	if ctx.Err() != nil {
		done(Outcome{}, errContext(ctx))
		return
	}
	k := &call{fn: done}
	k.start(ctx, t)
	if !c.watch(ctx, k) {
		done(Outcome{}, errClosed())
		return
	}
	if err := c.admit(ctx, k); err != nil {
		if c.abandon(k) { // else ctx's end was faster, and has told
			k.unwatch()
			done(Outcome{}, err)
		}
	}
}

// watch has the end of ctx settle the call; false when the Client is closed.
func (c *Client) watch(ctx context.Context, k *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.teller.open()
	if ctx.Done() == nil {
		return true
	}
	c.watches.Add(1)
	halt := context.AfterFunc(ctx, func() {
		defer c.watches.Done()
		if c.abandon(k) {
			k.fn(Outcome{}, errContext(ctx))
		}
	})
	k.halt = func() {
		if halt() {
			c.watches.Done()
		}
	}
	return true
}

func (k *call) unwatch() {
	if k.halt != nil {
		k.halt()
	}
}

func (k *call) start(ctx context.Context, t Task) {
	k.task, k.since = t, time.Now()
	if t.Idempotent && t.ID == "" {
		k.task.ID = uuid.Must(uuid.NewV7()).String()
	}
	if end, ok := ctx.Deadline(); ok {
		k.deadline = end
	}
	if t.Timeout > 0 {
		if end := k.since.Add(t.Timeout); k.deadline.IsZero() || end.Before(k.deadline) {
			k.deadline = end
		}
	}
}

func (k *call) recycle() {
	*k = call{done: k.done}
	calls.Put(k)
}

// check refuses what would harm the stream that others share; the rest is the
// balancer's to judge.
func (t *Task) check() error {
	ok := utf8.ValidString(t.Function) && utf8.ValidString(t.ID)
	for k, v := range t.Metadata {
		ok = ok && utf8.ValidString(k) && utf8.ValidString(v)
	}
	if !ok {
		return &Error{Code: codes.InvalidArgument, Reason: "NOT_UTF8", Message: "the function, the id and the metadata of a task must be UTF-8"}
	}
	return nil
}

// admit puts the call among the pending, once there is room.
func (c *Client) admit(ctx context.Context, k *call) error {
	if err := k.task.check(); err != nil {
		return err
	}
	c.mu.Lock()
	for c.inFlight >= c.opt.maxInFlight && !c.closed && !k.settled {
		room := make(chan struct{})
		c.queue = append(c.queue, room)
		c.mu.Unlock()
		select {
		case <-room:
			c.mu.Lock()
		case <-ctx.Done():
			c.mu.Lock()
			c.leaveQueue(room)
			c.mu.Unlock()
			return errContext(ctx)
		}
	}
	defer c.mu.Unlock()
	if c.closed {
		c.passRoom()
		return errClosed()
	}
	if k.settled { // SubmitFunc's context ended meanwhile
		c.passRoom()
		return nil
	}
	c.place(k)
	c.pending = append(c.pending, k)
	c.launch()
	signal(c.wake)
	return nil
}

// leaveQueue withdraws a waiter; room that it was given already goes to the
// next.
func (c *Client) leaveQueue(room chan struct{}) {
	if i := slices.Index(c.queue, room); i >= 0 {
		c.queue = slices.Delete(c.queue, i, i+1)
		return
	}
	c.passRoom()
}

// passRoom wakes the next who waits for room.
func (c *Client) passRoom() {
	if len(c.queue) > 0 && (c.inFlight < c.opt.maxInFlight || c.closed) {
		close(c.queue[0])
		c.queue = c.queue[1:]
	}
}

// place gives the call a slot and a number.
func (c *Client) place(k *call) {
	var i uint32
	if n := len(c.free); n > 0 {
		i = c.free[n-1]
		c.free = c.free[:n-1]
	} else {
		i = uint32(len(c.slots))
		c.slots = append(c.slots, slot{})
	}
	s := &c.slots[i]
	s.generation++
	s.call = k
	k.number = uint64(s.generation)<<32 | uint64(i)
	c.inFlight++
}

// lookup finds the call that bears a number.
func (c *Client) lookup(number uint64) *call {
	if i := int(uint32(number)); i < len(c.slots) {
		if k := c.slots[i].call; k != nil && k.number == number {
			return k
		}
	}
	return nil
}

// settle gives a call its end and takes it out of its slot. A pending call stays
// in the list, where the writer passes over it. The caller holds c.mu and, when
// it has let go of it, tells whoever waits: see tell.
func (c *Client) settle(k *call, out Outcome, err error) {
	k.settled, k.out, k.err = true, out, err
	if k.number == 0 {
		return
	}
	i := uint32(k.number)
	c.slots[i].call = nil
	c.free = append(c.free, i)
	c.inFlight--
	c.passRoom()
}

// tell passes the ends of settled calls on. The caller does not hold c.mu.
func (c *Client) tell(over []*call) {
	for _, k := range over {
		if k.fn == nil {
			k.done <- struct{}{}
		} else {
			c.teller.put(k)
		}
	}
}

// abandon settles a call that nobody waits for any more, and reports whether it
// had no end yet.
func (c *Client) abandon(k *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.settled {
		return false
	}
	if k.sent {
		c.cancels = append(c.cancels, k.number)
		signal(c.wake)
	}
	c.settle(k, Outcome{}, nil)
	return true
}

// failAll ends every call with the error that why gives it; those for which it
// gives nil stay.
func (c *Client) failAll(why func(*call) error) {
	var over []*call
	c.mu.Lock()
	for i := range c.slots {
		k := c.slots[i].call
		if k == nil {
			continue
		}
		if err := why(k); err != nil {
			c.settle(k, Outcome{}, err)
			over = append(over, k)
		}
	}
	if c.closed {
		for len(c.queue) > 0 {
			c.passRoom()
		}
	}
	c.mu.Unlock()
	c.tell(over)
}

func tooLarge(what string, size, limit int64) error {
	return &Error{
		Code: codes.InvalidArgument, Reason: "PAYLOAD_TOO_LARGE",
		Message: fmt.Sprintf("%s has %d bytes; the balancer takes at most %d", what, size, limit),
	}
}
