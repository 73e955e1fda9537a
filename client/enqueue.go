package client

import (
	"context"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "reparto/gen/reparto/v1"
)

// DurableTask is what is to be done even if this client and the balancer go away.
// For each field that is zero the balancer has a default.
type DurableTask struct {
	// Function names the kind of work, [A-Za-z0-9._/-]{1,128}.
	Function string
	// Payload is the input, at most the balancer's limit (4 MiB by default).
	Payload []byte
	// ID is an idempotency key, [A-Za-z0-9._:-]{1,128}: the same id with the same
	// content is the same task for as long as it is remembered. Empty: the SDK
	// makes a UUIDv7.
	ID string
	// Metadata travels to the worker. At most 64 entries and 16 KiB.
	Metadata map[string]string
	// RunAt is when the task may first run; or Delay, from when the balancer gets
	// it. Give one of them at most.
	RunAt time.Time
	Delay time.Duration
	// Priority is 1 (urgent) to 5 (idle); 0: 3.
	Priority int
	// MaxAttempts is how many attempts may fail and ask for a retry, at most 100.
	MaxAttempts int
	Backoff     Backoff
	// AttemptTimeout is how long one attempt may take.
	AttemptTimeout time.Duration
	// ExpireAt is when the task has expired if it has no outcome; or TTL, from
	// when it may run. Give one of them at most.
	ExpireAt time.Time
	TTL      time.Duration
	// Retention is how long the outcome is kept.
	Retention time.Duration
}

// Backoff is the wait between a failed attempt and the next one.
type Backoff struct {
	Initial    time.Duration
	Multiplier float64 // 1 to 100
	Maximum    time.Duration
	Jitter     float64 // the part that is left to chance, 0 to 1
}

// Enqueued is what became of one task of EnqueueAll.
type Enqueued struct {
	ID string
	// Existed says that the task was there already, with the same content.
	Existed bool
	Err     error
}

// Enqueue hands over a task and blocks until the balancer has it on disk; it
// returns the task's id. Calls that are made at the same time travel together.
//
// The error is an *Error. While there is no connection it tries again, as long as
// the connect timeout, under the same id: nothing is enqueued twice. When it, or
// ctx, ends without an answer, errors.Is finds ErrFateUnknown: the task may be
// there or not, and the id, which is returned all the same, tells.
func (c *Client) Enqueue(ctx context.Context, t DurableTask) (id string, err error) {
	k, err := c.newEnqueuing(ctx, &t)
	if err != nil {
		return t.ID, err
	}
	c.batches.add(c, k)
	select {
	case <-k.done:
		id, err = k.result.ID, k.result.Err
		k.recycle()
		return id, err
	case <-ctx.Done(): // it is still on its way: not to be used again
		return k.wire.TaskId, unsure(errContext(ctx, k.wire.TaskId))
	}
}

// EnqueueAll hands over any number of tasks, and tells what became of each, in
// their order, once all are on disk or refused. A task that is refused harms no
// other. Errors are those of Enqueue.
func (c *Client) EnqueueAll(ctx context.Context, tasks []DurableTask) []Enqueued {
	results := make([]Enqueued, len(tasks))
	calls := make([]*enqueuing, len(tasks))
	for i := range tasks {
		k, err := c.newEnqueuing(ctx, &tasks[i])
		if err != nil {
			results[i] = Enqueued{ID: tasks[i].ID, Err: err}
			continue
		}
		calls[i] = k
	}
	c.batches.add(c, calls...)
	for i, k := range calls {
		if k == nil {
			continue
		}
		select {
		case <-k.done:
			results[i] = k.result
			k.recycle()
		case <-ctx.Done():
			results[i] = Enqueued{ID: k.wire.TaskId, Err: unsure(errContext(ctx, k.wire.TaskId))}
		}
	}
	return results
}

// enqueuing is a task on its way to the disk.
type enqueuing struct {
	wire   pb.EnqueueTask
	result Enqueued      // good once done holds a token
	done   chan struct{} // of one
}

var enqueuings = sync.Pool{New: func() any { return &enqueuing{done: make(chan struct{}, 1)} }}

func (k *enqueuing) recycle() {
	k.wire.Payload, k.wire.Metadata = nil, nil
	k.result = Enqueued{}
	enqueuings.Put(k)
}

func (c *Client) newEnqueuing(ctx context.Context, t *DurableTask) (*enqueuing, error) {
	if ctx.Err() != nil {
		return nil, errContext(ctx, t.ID)
	}
	// What is not UTF-8 would make the whole batch unsendable.
	if err := (&Task{Function: t.Function, ID: t.ID, Metadata: t.Metadata}).check(); err != nil {
		return nil, err
	}
	k := enqueuings.Get().(*enqueuing)
	w := &k.wire
	w.Function, w.Payload, w.TaskId, w.Metadata = t.Function, t.Payload, t.ID, t.Metadata
	w.RunAt, w.Delay, w.ExpireTime, w.TimeToLive = stamp(t.RunAt), some(t.Delay), stamp(t.ExpireAt), some(t.TTL)
	w.Priority, w.MaxAttempts, w.AttemptTimeout = int32(t.Priority), int32(t.MaxAttempts), some(t.AttemptTimeout)
	w.Retention, w.Backoff, w.FreshId = some(t.Retention), nil, false
	if t.ID == "" {
		w.TaskId, w.FreshId = newID(), true
	}
	if t.Backoff != (Backoff{}) {
		w.Backoff = &pb.Backoff{
			Initial: some(t.Backoff.Initial), Multiplier: t.Backoff.Multiplier, Maximum: some(t.Backoff.Maximum), Jitter: t.Backoff.Jitter,
		}
	}
	return k, nil
}

func some(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// Bounds of a request, and how many are under way at a time: while they are, the
// next batch gathers.
const (
	maxBatch      = 1000
	maxBatchBytes = 8 << 20
	maxRequests   = 2
)

// batches gathers the tasks of concurrent calls. A call that finds nothing under
// way goes at once.
type batches struct {
	mu      sync.Mutex
	pending []*enqueuing
	flying  int
	sending sync.WaitGroup
	ctx     context.Context // ends with the Client
	stop    context.CancelFunc
	closed  bool
}

// add takes calls; nil ones are passed over.
func (b *batches) add(c *Client, calls ...*enqueuing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range calls {
		switch {
		case k == nil:
		case b.closed:
			k.settle(Enqueued{ID: k.wire.TaskId, Err: c.errClosed(k.wire.TaskId)})
		default:
			b.pending = append(b.pending, k)
		}
	}
	if b.ctx == nil && !b.closed {
		// Requests carry the tasks of many calls: no call's context is theirs.
		b.ctx, b.stop = context.WithCancel(context.Background())
	}
	if len(b.pending) > 0 && b.flying < maxRequests {
		b.flying++
		b.sending.Go(func() { b.send(c) })
	}
}

func (k *enqueuing) settle(r Enqueued) {
	k.result = r
	k.done <- struct{}{}
}

// take gives out the next batch; nil when nothing waits.
func (b *batches) take() []*enqueuing {
	runtime.Gosched() // those who are about to come travel along
	b.mu.Lock()
	defer b.mu.Unlock()
	n, size := 0, 0
	for n < len(b.pending) && n < maxBatch {
		size += len(b.pending[n].wire.Payload)
		if n > 0 && size > maxBatchBytes {
			break
		}
		n++
	}
	if n == 0 {
		b.flying--
		return nil
	}
	batch := b.pending[:n:n]
	if b.pending = b.pending[n:]; len(b.pending) == 0 {
		b.pending = nil
	}
	return batch
}

// send makes requests until nothing waits.
func (b *batches) send(c *Client) {
	for batch := b.take(); batch != nil; batch = b.take() {
		req := &pb.EnqueueRequest{Tasks: make([]*pb.EnqueueTask, len(batch))}
		for i, k := range batch {
			req.Tasks[i] = &k.wire
		}
		var resp *pb.EnqueueResponse
		tries := 0
		err := c.ask(b.ctx, "", func(ctx context.Context) (err error) {
			if tries++; tries == 2 {
				for _, t := range req.Tasks {
					t.FreshId = false // it may have arrived the first time
				}
			}
			resp, err = c.stub.Enqueue(ctx, req, grpc.WaitForReady(true))
			return err
		})
		for i, k := range batch {
			k.settle(c.becameOf(k, resp, i, err))
		}
	}
}

// becameOf is what a request says of its task number i.
func (c *Client) becameOf(k *enqueuing, resp *pb.EnqueueResponse, i int, err error) Enqueued {
	id := k.wire.TaskId
	switch {
	case err != nil && c.batches.ctx.Err() != nil:
		return Enqueued{ID: id, Err: unsure(c.errClosed(id))}
	case err != nil:
		return Enqueued{ID: id, Err: unsure(err)}
	case i >= len(resp.GetResults()):
		return Enqueued{ID: id, Err: unsure(&Error{Reason: "INTERNAL", Message: "the balancer did not say what became of the task", TaskID: id})}
	}
	r := resp.GetResults()[i]
	if e := r.GetError(); e != nil {
		return Enqueued{ID: id, Err: fromFrame(e, id)}
	}
	return Enqueued{ID: id, Existed: r.GetExisted()}
}

// close ends what is under way and waits for it.
func (b *batches) close(c *Client) {
	b.mu.Lock()
	b.closed = true
	left := b.pending
	b.pending = nil
	if b.stop != nil {
		b.stop()
	}
	b.mu.Unlock()
	for _, k := range left {
		k.settle(Enqueued{ID: k.wire.TaskId, Err: c.errClosed(k.wire.TaskId)})
	}
	b.sending.Wait()
}
