package rpc

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"reparto/internal/dispatch"
	"reparto/internal/task"
)

// shelf is an inside that keeps durable tasks in a map and runs none of them: a
// test says how they end.
type shelf struct {
	*dispatch.Dispatcher
	mu      sync.Mutex
	records map[string]*task.Record
	paused  map[string]bool
	batches [][]dispatch.Enqueuing
	changed chan struct{}    // closed, and replaced, when a record changes
	broken  error            // of everything that needs the store
	refuses map[string]error // by task_id
}

func serveShelf(t testing.TB, do dispatch.Options) (*house, *shelf) {
	k := &shelf{records: map[string]*task.Record{}, paused: map[string]bool{}, changed: make(chan struct{}), refuses: map[string]error{}}
	return serveInside(t, do, Options{}, func(d *dispatch.Dispatcher) Inside { k.Dispatcher = d; return k }), k
}

func (k *shelf) Options() dispatch.Options {
	o := k.Dispatcher.Options()
	o.Store = struct{ dispatch.Store }{}
	return o
}

func (k *shelf) Info() dispatch.Info {
	info := k.Dispatcher.Info()
	info.Store, info.StoreError = "shelf", k.breaks(nil)
	return info
}

// breaks makes everything fail with err from now on, unless err is nil, and
// returns what it fails with.
func (k *shelf) breaks(err error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		k.broken = err
	}
	return k.broken
}

func (k *shelf) Enqueue(ctx context.Context, batch []dispatch.Enqueuing) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range batch {
		b := &batch[i]
		if b.Task.ID == "" {
			b.Task.ID = "made-" + string(rune('a'+len(k.records)))
		}
		old := k.records[b.Task.ID]
		switch {
		case ctx.Err() != nil:
			b.Err = ctx.Err()
		case k.refuses[b.Task.ID] != nil:
			b.Err = k.refuses[b.Task.ID]
		case k.broken != nil:
			b.Err = k.broken
		case old != nil && old.Fingerprint != b.Task.Fingerprint:
			b.Err = dispatch.ErrIDConflict
		case old != nil:
			b.Existed = true
		default:
			k.records[b.Task.ID] = &task.Record{Task: b.Task, State: task.Queued, Enqueued: time.Now()}
		}
	}
	k.batches = append(k.batches, slices.Clone(batch))
}

// put puts a record there as it is.
func (k *shelf) put(r *task.Record) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.records[r.ID] = r
	close(k.changed)
	k.changed = make(chan struct{})
}

// get returns a record, and what is closed when any changes.
func (k *shelf) get(ctx context.Context, id string) (*task.Record, <-chan struct{}, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.records[id]
	switch {
	case k.broken != nil:
		return nil, nil, k.broken
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case r == nil:
		return nil, nil, dispatch.ErrTaskNotFound
	}
	return r, k.changed, nil
}

func (k *shelf) Task(ctx context.Context, id string) (*task.Record, error) {
	r, _, err := k.get(ctx, id)
	return r, err
}

func (k *shelf) WaitTask(ctx context.Context, id string) (*task.Record, error) {
	for {
		r, changed, err := k.get(ctx, id)
		if err != nil || r.State.Terminal() {
			return r, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return r, nil
		}
	}
}

func (k *shelf) CancelTask(ctx context.Context, id string) (*task.Record, error) {
	r, _, err := k.get(ctx, id)
	if err != nil || r.State.Terminal() {
		return r, err
	}
	c := r.Clone()
	c.State, c.Finished = task.Cancelled, time.Now()
	k.put(c)
	return c, nil
}

func (k *shelf) RetryTask(ctx context.Context, id string) (*task.Record, error) {
	r, _, err := k.get(ctx, id)
	if err != nil {
		return nil, err
	}
	if !r.State.Terminal() || r.State == task.Succeeded {
		return nil, dispatch.ErrNotFinished
	}
	c := r.Clone()
	c.State = task.Queued
	k.put(c)
	return c, nil
}

func (k *shelf) ListTasks(ctx context.Context, q task.Query) (page []task.Record, next string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.broken != nil {
		return nil, "", k.broken
	}
	for _, id := range slices.Backward(slices.Sorted(maps.Keys(k.records))) {
		r := k.records[id]
		if q.Before != "" && id >= q.Before || q.State != task.None && r.State != q.State || q.Function != "" && r.Function != q.Function {
			continue
		}
		if len(page) == q.Limit {
			return page, page[len(page)-1].ID, nil
		}
		page = append(page, *r)
	}
	return page, "", nil
}

func (k *shelf) ExplainTask(ctx context.Context, id string) (*dispatch.Explanation, error) {
	r, _, err := k.get(ctx, id)
	if err != nil {
		return nil, err
	}
	return &dispatch.Explanation{Record: r, Workers: 2, Slots: 8, FreeSlots: 0, Position: 3, LastHeard: -1}, nil
}

func (k *shelf) PauseFunction(_ context.Context, name string, paused bool) (was bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.broken != nil {
		return false, k.broken
	}
	was, k.paused[name] = k.paused[name], paused
	return was, nil
}

func (k *shelf) DrainWorker(workerID string) bool { return workerID == "w1" }
