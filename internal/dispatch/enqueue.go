package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"reparto/internal/balance"
	"reparto/internal/task"
)

var errNoStore = errors.New("the balancer was started without a store")

// Enqueue accepts a batch of valid durable tasks and returns once they are on
// disk, or refused; when ctx ends first, those that were under way have ctx's
// error, and may be there or not.
func (d *Dispatcher) Enqueue(ctx context.Context, batch []Enqueuing) {
	for i := range batch {
		b := &batch[i]
		if b.Task.ID == "" {
			b.Task.ID = d.ids.New()
		}
		if b.Task.OwnID && !b.Task.FreshID && d.opt.Store != nil {
			d.lookUp(ctx, b)
		}
	}
	g, underWay := d.accept(batch)
	if len(underWay) == 0 {
		return
	}
	if err := d.await(ctx, g); err != nil {
		for _, i := range underWay {
			batch[i].Err = err
		}
	}
}

// lookUp finds out whether a task is stored already under its own id.
func (d *Dispatcher) lookUp(ctx context.Context, b *Enqueuing) {
	r, err := d.opt.Store.Get(ctx, b.Task.ID)
	switch {
	case err != nil:
		b.Err = &StoreError{err}
	case r == nil || !r.State.Terminal(): // it is in the tables, if anywhere
	case !r.ForgetAt.After(time.Now()):
		d.mu.Lock()
		d.owed = append(d.owed, task.Change{Forget: b.Task.ID})
		d.mu.Unlock()
	case !r.OwnID || r.Owner != b.Task.Owner || r.Fingerprint != b.Task.Fingerprint:
		b.Err = ErrIDConflict
	default:
		b.Existed = true
	}
}

// accept puts the batch into the tables, and tells which of its tasks the group
// is about.
func (d *Dispatcher) accept(batch []Enqueuing) (g *group, underWay []int) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	storeErr := d.storeErr
	if d.opt.Store == nil {
		storeErr = errNoStore
	}
	for i := range batch {
		b := &batch[i]
		if b.Err != nil || b.Existed {
			continue
		}
		if storeErr != nil {
			b.Err = &StoreError{storeErr}
			continue
		}
		before := d.state.Accepted()
		if _, err := d.state.Submit(now, &b.Task); err != nil {
			b.Err = err
			continue
		}
		b.Existed = d.state.Accepted() == before // it joined what was there
		if d.trails != nil && !b.Existed {
			d.trails.follow(&b.Task, now)
		}
		underWay = append(underWay, i)
	}
	d.settle()
	if len(underWay) > 0 {
		g = d.join()
	}
	return g, underWay
}

// load brings back what the store remembers, and starts what writes to it.
func (d *Dispatcher) load() error {
	if d.opt.Store == nil {
		return nil
	}
	began, n := time.Now(), 0
	claimUntil := began.Add(d.opt.ClaimWindow)
	var last *task.Durable
	paused, err := d.opt.Store.Load(d.life, func(r *task.Record) error {
		if last != nil && *last == *r.Durable {
			r.Durable = last // most tasks agree, and share it
		}
		last = r.Durable
		d.state.Restore(began, r, claimUntil)
		n++
		return nil
	})
	if err != nil {
		return fmt.Errorf("load: %w", &StoreError{err})
	}
	d.state.Restored()
	for _, name := range paused {
		d.state.Pause(began, name, true)
	}
	d.state.Take()
	if n > 0 || len(paused) > 0 {
		d.log.Info("durable tasks loaded", "store", d.opt.StoreName, "tasks", n, "paused", len(paused), "took", time.Since(began))
	}
	d.committer.Go(d.runCommitter)
	d.committer.Go(func() { d.runRetention(d.life) })
	return nil
}

// unreadablePause is how long a task waits whose payload could not be read.
const unreadablePause = time.Second

// fetch reads the payloads that are in the store alone, and reports whether there
// is still anything to send. What can't be read goes back to its queue.
func (d *Dispatcher) fetch(s *Session, f *Frame) bool {
	if !anyAbsent(f.Assign) {
		return true
	}
	kept := f.Assign[:0]
	for _, a := range f.Assign {
		if a.absent {
			r, err := d.opt.Store.Get(d.life, a.TaskID)
			if err == nil && r == nil {
				err = errors.New("the store does not have it")
			}
			if err != nil {
				d.unreadable(s, &a, err)
				continue
			}
			a.Payload, a.Metadata = r.Payload, r.Metadata
			if d.trails != nil {
				d.traceFetched(s, &a, r)
			}
		}
		kept = append(kept, a)
	}
	clear(f.Assign[len(kept):])
	f.Assign = kept
	return len(f.Assign) > 0 || len(f.Cancel) > 0 || len(f.Acked) > 0 || f.Heartbeat || f.Drain
}

func anyAbsent(assign []Assignment) bool {
	for i := range assign {
		if assign[i].absent {
			return true
		}
	}
	return false
}

func (d *Dispatcher) unreadable(s *Session, a *Assignment, err error) {
	d.log.Error("a durable task can't be read; it waits", "task_id", a.TaskID, "error", err, "for", unreadablePause)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.trails != nil {
		d.trails.ended(s, a.Token, Ending{Kind: NotSent, Reason: err.Error()})
	}
	d.state.Unassign(time.Now(), s.core, a.Token, unreadablePause)
	d.settle()
}

// find tells whether a durable task is in the tables.
func (d *Dispatcher) find(id string) (balance.Ref, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state.Find(id)
}

// stored returns a task that is remembered and not in the tables.
func (d *Dispatcher) stored(ctx context.Context, id string) (*task.Record, error) {
	if d.opt.Store == nil {
		return nil, ErrTaskNotFound
	}
	r, err := d.opt.Store.Get(ctx, id)
	switch {
	case err != nil:
		return nil, &StoreError{err}
	case r == nil || r.State.Terminal() && !r.ForgetAt.After(time.Now()):
		return nil, ErrTaskNotFound
	}
	return r, nil
}
