package dispatch

import (
	"context"
	"runtime"
	"slices"
	"time"

	"reparto/internal/balance"
	"reparto/internal/task"
)

// group is what waits for one write to the store: remember first, then speak.
type group struct {
	effects []balance.Effect // to be carried out once it is written
	acks    []ack            // likewise
	done    chan struct{}    // closed after err is set
	err     error
}

// ack is a result whose worker need not keep it any more.
type ack struct {
	ses   *Session
	token uint64
	bytes int
}

// How long to wait before the store is tried again, at first and at most.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 2 * time.Second
)

// join returns the group that is written next, and makes sure that it will be.
// The caller holds d.mu.
func (d *Dispatcher) join() *group {
	if d.open == nil {
		d.open = &group{done: make(chan struct{})}
		if d.stopped { // nobody writes any more
			d.open.err = ErrClosed
			close(d.open.done)
		}
		select {
		case d.dirty <- struct{}{}:
		default:
		}
	}
	return d.open
}

// await waits until the group is written: a *StoreError when it could not be, or
// ctx's error when that ends first.
func (d *Dispatcher) await(ctx context.Context, g *group) error {
	select {
	case <-g.done:
		if g.err != nil {
			return &StoreError{g.err}
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// runCommitter writes groups, one at a time. While one is being written the next
// gathers, and shares its write; nobody waits for company.
func (d *Dispatcher) runCommitter() {
	var changes []task.Change
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	pause := firstRetry
	for stopping := false; ; {
		select {
		case <-d.dirty:
		case <-retry.C:
		case <-d.stopCommit:
			stopping = true
		}
		runtime.Gosched() // those who are about to come travel along
		var err error
		if changes, err = d.commit(changes[:0]); err != nil {
			retry.Reset(pause)
			pause = min(2*pause, lastRetry)
		} else {
			pause = firstRetry
		}
		clear(changes)
		if stopping {
			d.stopCommitting()
			return
		}
	}
}

// stopCommitting fails what could not be written any more. The next start finds
// the store as it was before.
func (d *Dispatcher) stopCommitting() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped = true
	if g := d.open; g != nil {
		g.err = ErrClosed
		close(g.done)
	}
}

// commit writes the open group, if there is anything to write, and carries out
// what waits for that.
func (d *Dispatcher) commit(changes []task.Change) ([]task.Change, error) {
	d.mu.Lock()
	g := d.open
	d.open = nil
	owed := len(d.owed)
	changes = append(changes, d.owed...)
	changes = d.state.Changes(changes)
	down := d.storeErr != nil
	d.mu.Unlock()
	if g == nil && len(changes) == 0 && !down {
		return changes, nil
	}
	var err error
	if len(changes) > 0 || down {
		err = d.opt.Store.Write(changes)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if g == nil {
		g = &group{done: make(chan struct{})}
	}
	if err != nil {
		d.uncommitted(g, err)
		return changes, err
	}
	d.owed = slices.Delete(d.owed, 0, owed)
	d.committed(g)
	return changes, nil
}

// committed carries out what waited for the group. The caller holds d.mu.
func (d *Dispatcher) committed(g *group) {
	now := time.Now()
	for i := range g.effects {
		if e := &g.effects[i]; e.Kind == balance.Assign {
			e.Session.Owner.(*Session).kept++
		}
		d.carryOut(&g.effects[i])
	}
	for _, a := range g.acks {
		a.ses.acked = append(a.ses.acked, a.token)
		a.ses.bytes += a.bytes
	}
	for _, a := range g.acks {
		a.ses.putAllAcked()
	}
	d.state.Written(now)
	close(g.done)
	if d.storeErr != nil {
		d.log.Info("the store works again", "store", d.opt.StoreName)
		d.storeErr = nil
		d.opt.OnStore(nil)
		d.state.StoreUp(now)
	}
	d.settle()
}

// uncommitted undoes what was promised to nobody yet, and keeps the rest for the
// next write: results are not lost, nor acknowledged. The caller holds d.mu.
func (d *Dispatcher) uncommitted(g *group, err error) {
	if d.storeErr == nil {
		d.log.Error("the store fails; durable tasks are refused and not given out until it works again", "store", d.opt.StoreName, "error", err)
		d.opt.OnStore(err)
	}
	d.storeErr = err
	now := time.Now()
	d.state.StoreDown()
	failed := []*group{g}
	if d.open != nil { // what came meanwhile shares the fate
		failed = append(failed, d.open)
	}
	d.open = nil
	next := &group{done: make(chan struct{})}
	for _, f := range slices.Backward(failed) {
		d.undo(now, f)
	}
	for _, f := range failed {
		for i := range f.effects {
			if f.effects[i].Kind != balance.Assign {
				next.effects = append(next.effects, f.effects[i])
			}
		}
		next.acks = append(next.acks, f.acks...)
	}
	for _, id := range d.state.Unwritten(now) {
		d.owed = append(d.owed, task.Change{Forget: id})
	}
	if len(failed) > 1 {
		d.state.Changes(nil)
		d.state.Unwritten(now) // never written: there is nothing to forget
	}
	next.effects = slices.DeleteFunc(next.effects, func(e balance.Effect) bool {
		return e.Kind == balance.Finish && !d.state.Live(e.Ref)
	})
	for _, f := range failed {
		f.err = err
		close(f.done)
	}
	if len(next.effects)+len(next.acks) > 0 {
		d.open = next // the retry takes it
	}
	d.settle()
}

// undo takes back the assignments that were not sent, the youngest first.
func (d *Dispatcher) undo(now time.Time, g *group) {
	for _, e := range slices.Backward(g.effects) {
		if e.Kind == balance.Assign {
			ses := e.Session.Owner.(*Session)
			ses.breakPromise()
			d.state.Unassign(now, e.Session, e.Token, 0)
		}
	}
}

// sweepStep is how many tasks are forgotten in one write, so that nobody notices.
const sweepStep = 200

// runRetention forgets tasks whose retention has passed, in small steps.
func (d *Dispatcher) runRetention(ctx context.Context) {
	timer := time.NewTimer(retentionPause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		pause := retentionPause
		if n := d.forget(ctx); n == sweepStep {
			pause = retentionPause / 50 // there is more
		}
		timer.Reset(pause)
	}
}

const retentionPause = time.Second

// forget has one step of tasks deleted, and tells how many.
func (d *Dispatcher) forget(ctx context.Context) int {
	page, _, err := d.opt.Store.List(ctx, task.Query{ForgettableAt: time.Now(), Limit: sweepStep})
	if err != nil || len(page) == 0 {
		return 0 // if the store fails, a write will tell
	}
	d.mu.Lock()
	for i := range page {
		if !d.state.Knows(page[i].ID) {
			d.owed = append(d.owed, task.Change{Forget: page[i].ID})
		}
	}
	g := d.join()
	d.mu.Unlock()
	if d.await(ctx, g) != nil {
		return 0
	}
	return len(page)
}
