package dispatch

import (
	"context"
	"time"

	"reparto/internal/balance"
	"reparto/internal/task"
)

// Task returns all that is known of a durable task: ErrTaskNotFound or a
// *StoreError otherwise.
func (d *Dispatcher) Task(ctx context.Context, id string) (*task.Record, error) {
	d.mu.Lock()
	var live *task.Record
	if ref, ok := d.state.Find(id); ok {
		live = d.state.Record(ref)
	}
	storeErr := d.storeErr
	d.mu.Unlock()
	switch {
	case live == nil:
		return d.stored(ctx, id)
	case live.State.Terminal() && storeErr != nil:
		return nil, &StoreError{storeErr}
	case live.State.Terminal(): // not on disk yet, so nobody has been told
		return d.WaitTask(ctx, id)
	case live.Payload == nil && live.Metadata == nil:
		if r, err := d.opt.Store.Get(ctx, id); err == nil && r != nil {
			live.Payload, live.Metadata = r.Payload, r.Metadata
		}
	}
	return live, nil
}

// outcomeWaiter waits for one outcome.
type outcomeWaiter chan struct{}

// Done implements Waiter.
func (w outcomeWaiter) Done([]Finished) { close(w) }

// WaitTask returns the task once it has its outcome, or as it is when ctx ends.
func (d *Dispatcher) WaitTask(ctx context.Context, id string) (*task.Record, error) {
	w := make(outcomeWaiter)
	d.mu.Lock()
	ref, ok := d.state.Find(id)
	t := Ticket{ref: ref}
	if ok {
		d.wait(w, t)
	}
	d.mu.Unlock()
	if !ok {
		return d.stored(ctx, id)
	}
	select {
	case <-w: // the effect is carried out with the commit, after which the store has it
		return d.stored(context.WithoutCancel(ctx), id)
	case <-ctx.Done():
	}
	d.Abandon(w, t)
	d.mu.Lock()
	r := d.state.Record(ref)
	d.mu.Unlock()
	if r == nil || r.State.Terminal() {
		return d.stored(context.WithoutCancel(ctx), id)
	}
	return r, nil
}

// ListTasks returns a page; see Store.List.
func (d *Dispatcher) ListTasks(ctx context.Context, q task.Query) (page []task.Record, next string, err error) {
	if d.opt.Store == nil {
		return nil, "", nil
	}
	page, next, err = d.opt.Store.List(ctx, q)
	if err != nil {
		return nil, "", &StoreError{err}
	}
	return page, next, nil
}

// CancelTask ends a durable task and returns it once that is on disk; one that
// has its outcome already is returned as it is.
func (d *Dispatcher) CancelTask(ctx context.Context, id string) (*task.Record, error) {
	d.mu.Lock()
	ref, ok := d.state.Find(id)
	if !ok {
		d.mu.Unlock()
		return d.stored(ctx, id)
	}
	if d.storeErr != nil {
		defer d.mu.Unlock()
		return nil, &StoreError{d.storeErr}
	}
	d.state.Cancel(time.Now(), ref, task.ReasonCancelled)
	d.settle()
	g := d.join()
	d.mu.Unlock()
	if err := d.await(ctx, g); err != nil {
		return nil, err
	}
	return d.stored(ctx, id)
}

// RetryTask queues a FAILED, CANCELLED or EXPIRED task again and returns it once
// that is on disk; ErrNotFinished for any other.
func (d *Dispatcher) RetryTask(ctx context.Context, id string) (*task.Record, error) {
	if _, ok := d.find(id); ok {
		r, err := d.Task(ctx, id)
		if err != nil || !r.State.Terminal() {
			return nil, orError(err, ErrNotFinished)
		}
	}
	r, err := d.stored(ctx, id)
	if err != nil {
		return nil, err
	}
	if r.State != task.Failed && r.State != task.Cancelled && r.State != task.Expired {
		return nil, ErrNotFinished
	}
	d.mu.Lock()
	if d.storeErr != nil {
		defer d.mu.Unlock()
		return nil, &StoreError{d.storeErr}
	}
	d.state.ForgetKept(id)
	if !d.state.Knows(id) { // else somebody was faster
		now := time.Now()
		d.state.Revive(now, r)
		if d.trails != nil {
			d.trails.follow(&r.Task, now)
		}
		d.settle()
	}
	g := d.join()
	d.mu.Unlock()
	if err := d.await(ctx, g); err != nil {
		return nil, err
	}
	return d.Task(ctx, id)
}

func orError(err, or error) error {
	if err != nil {
		return err
	}
	return or
}

// ExplainTask tells why a durable task is where it is.
func (d *Dispatcher) ExplainTask(ctx context.Context, id string) (*Explanation, error) {
	now := time.Now()
	d.mu.Lock()
	ref, ok := d.state.Find(id)
	var core balance.Explanation
	if ok {
		core, ok = d.state.Explain(ref)
	}
	storeErr := d.storeErr
	d.mu.Unlock()
	if !ok || core.Record.State.Terminal() {
		r, err := d.Task(ctx, id)
		if err != nil {
			return nil, err
		}
		return &Explanation{Record: r, LastHeard: -1}, nil
	}
	x := &Explanation{
		Record: core.Record, Workers: core.Workers, Slots: core.Slots, FreeSlots: core.FreeSlots, Paused: core.Paused,
		StoreDown: storeErr, Position: core.Position, Awaited: core.Awaited, LastHeard: -1,
	}
	if n := len(core.Record.Attempts); n > 0 && core.Record.State == task.Running {
		last := core.Record.Attempts[n-1]
		x.WorkerID, x.Attempt, x.Running = last.WorkerID, last.Number, now.Sub(last.Started)
	}
	if core.Session != nil {
		ses := core.Session.Owner.(*Session)
		x.WorkerID, x.LastHeard, x.Running = ses.workerID, now.Sub(ses.heard()), now.Sub(core.Started)
	}
	return x, nil
}

// PauseFunction gives out no more tasks of a function, or does so again, and
// tells whether it was paused. It returns once that is on disk.
func (d *Dispatcher) PauseFunction(ctx context.Context, name string, paused bool) (was bool, err error) {
	d.mu.Lock()
	if d.storeErr != nil {
		defer d.mu.Unlock()
		return false, &StoreError{d.storeErr}
	}
	was = d.state.Pause(time.Now(), name, paused)
	d.settle()
	if d.opt.Store == nil || was == paused {
		d.mu.Unlock()
		return was, nil
	}
	d.owed = append(d.owed, task.Change{Function: name, Paused: paused})
	g := d.join()
	d.mu.Unlock()
	return was, d.await(ctx, g)
}

// DrainWorker gives a worker no more tasks and tells it to leave; false when
// there is none of that id.
func (d *Dispatcher) DrainWorker(workerID string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	core := d.state.FindSession(workerID)
	if core == nil {
		return false
	}
	d.state.Drain(core)
	core.Owner.(*Session).putLeave()
	d.log.Info("worker is asked to leave", "worker_id", workerID)
	return true
}
