package client

import (
	"context"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
)

// Submit hands over a task and blocks until its outcome is there or ctx ends.
// ctx's end cancels the task, and its deadline goes along as the task's time
// limit if it is sooner than Timeout.
//
// The error is a *TaskError when the task failed, else an *Error that says why
// there is no verdict. errors.Is finds context.DeadlineExceeded where a time
// limit passed, and context.Canceled where ctx was cancelled.
//
// A task that has not been sent waits for a connection, at most the connect
// timeout. One that had been sent when the connection broke is submitted again
// if it is Idempotent or the balancer says that it never ran; otherwise its
// error is ErrFateUnknown. While MaxInFlight tasks are under way, Submit waits
// for room.
func (c *Client) Submit(ctx context.Context, t Task) (Outcome, error) {
	if ctx.Err() != nil {
		return Outcome{}, errContext(ctx, t.ID)
	}
	k := calls.Get().(*call)
	k.start(ctx, &t)
	if c.opt.tracer != nil {
		return c.submitTraced(ctx, k)
	}
	return c.submit(ctx, k)
}

func (c *Client) submit(ctx context.Context, k *call) (Outcome, error) {
	end, err := c.admit(ctx, k)
	if err != nil {
		k.recycle()
		return Outcome{}, err
	}
	select {
	case <-k.done:
	case <-end:
		if err := errContext(ctx, k.task.ID); c.abandon(k, err) {
			return Outcome{}, err
		}
		<-k.done
	}
	out, err := k.out, k.err
	if k.sent { // else it may still be among the pending
		k.recycle()
	}
	return out, err
}

// SubmitFunc hands over a task and returns; done is called exactly once with
// what Submit would have returned. A nil done drops it.
//
// One goroutine calls the done functions of a Client, one after the other: done
// must not block, nor call Close. It may call SubmitFunc; its own task no longer
// counts as under way then. SubmitFunc blocks only while MaxInFlight tasks are,
// until there is room or ctx ends. Once the Client is closed, done is called
// before SubmitFunc returns.
func (c *Client) SubmitFunc(ctx context.Context, t Task, done func(Outcome, error)) {
	if done == nil {
		done = func(Outcome, error) {}
	}
	deadline := t.begin(ctx)
	if c.opt.tracer != nil {
		done = t.trace(ctx, &c.opt, done)
	}
	if !c.admitFunc(ctx, &t, deadline, done) {
		done(Outcome{}, c.errClosed(t.ID))
	}
}

// admitFunc admits a call of SubmitFunc: what keeps it out is its outcome, and so is
// the end of ctx later. It starts the teller, and reports false when the Client is
// closed.
func (c *Client) admitFunc(ctx context.Context, t *Task, deadline time.Time, done func(Outcome, error)) bool {
	err := t.check()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	if !c.told {
		c.told = true
		c.telling.Go(c.tell)
	}
	k := c.spare()
	k.task, k.deadline, k.fn = *t, deadline, done
	if err == nil {
		err = c.admitLocked(ctx, k)
	}
	if err != nil {
		c.settle(k, Outcome{}, err)
		return true
	}
	c.watch(ctx, k)
	return true
}

// admit puts the call among the pending, once there is room. It returns what tells its
// caller of the end of ctx; nil where that settles the call by itself.
func (c *Client) admit(ctx context.Context, k *call) (end <-chan struct{}, err error) {
	if err := k.task.check(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.admitLocked(ctx, k); err != nil {
		return nil, err
	}
	end = ctx.Done()
	again := end == c.before
	c.before = end
	if !again || c.room.taken == 1 { // a watch would be for this call alone
		return end, nil
	}
	c.watch(ctx, k)
	return nil, nil
}

// admitLocked lets go of c.mu while there is no room.
func (c *Client) admitLocked(ctx context.Context, k *call) error {
	if turn := c.room.enter(c.inTeller); turn != nil {
		if err := c.await(ctx, k, turn); err != nil {
			return err
		}
	}
	if c.closed {
		c.room.leave()
		return c.errClosed(k.task.ID)
	}
	c.table.put(k)
	c.pending = append(c.pending, k)
	c.launch()
	c.rouse()
	c.expect(k)
	return nil
}

// await waits for the call's turn to have a place. Close waits meanwhile, so that the
// teller tells of a call of SubmitFunc what became of it. The caller holds c.mu.
func (c *Client) await(ctx context.Context, k *call, turn chan struct{}) (err error) {
	k.since = time.Now() // others may wait for a stream
	c.watches.Add(1)
	c.mu.Unlock()
	select {
	case <-turn:
	case <-ctx.Done():
		err = errContext(ctx, k.task.ID)
	}
	c.mu.Lock()
	c.watches.Done()
	if err != nil {
		c.room.withdraw(turn)
	}
	return err
}

// inTeller reports whether it is called from within a done function. The caller
// holds c.mu.
func (c *Client) inTeller() bool { return c.teller != 0 && c.teller == goroutine() }

// check refuses what would harm the stream that others share; the rest is the
// balancer's to judge.
func (t *Task) check() error {
	switch {
	case !utf8.ValidString(t.Function):
		return t.invalid("FUNCTION", "the function is not UTF-8")
	case !utf8.ValidString(t.ID):
		return t.invalid("TASK_ID", "the task's id is not UTF-8")
	}
	if len(t.Metadata) == 0 { // which costs less than to range over nothing
		return nil
	}
	for k, v := range t.Metadata {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return t.invalid("METADATA", "the metadata are not UTF-8")
		}
	}
	return nil
}

func (t *Task) invalid(reason, message string) error {
	return &Error{Code: codes.InvalidArgument, Reason: reason, Message: message, TaskID: t.ID}
}
