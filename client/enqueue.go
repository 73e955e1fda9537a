package client

import (
	"context"
	"math"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "reparto/gen/reparto/v1"
)

// DurableTask is what is to be done even if this client and the balancer go away.
// For each field that is zero the balancer has a default.
type DurableTask struct {
	// Function names the kind of work, [A-Za-z0-9._/-]{1,128}.
	Function string
	// Payload is the input, at most the balancer's limit (4 MiB by default). It
	// must not be changed until Enqueue returns, nor afterwards if that was
	// because ctx ended.
	Payload []byte
	// ID is an idempotency key, [A-Za-z0-9._:-]{1,128}: the same id with the same
	// content is the same task for as long as it is remembered. Empty: the SDK
	// makes a UUIDv7.
	ID string
	// Metadata travels to the worker. At most 64 entries and 16 KiB. It must not
	// be changed, as Payload.
	Metadata map[string]string
	// RunAt is when the task may first run; or Delay, from when the balancer gets
	// it. Give one of them at most; neither: at once.
	RunAt time.Time
	Delay time.Duration
	// Priority is 1 (urgent) to 5 (idle); 0: 3.
	Priority int
	// MaxAttempts is how many attempts may fail and ask for a retry. 0: the
	// balancer's default (3); at most 100.
	MaxAttempts int
	// Backoff is the wait before the next attempt.
	Backoff Backoff
	// AttemptTimeout is how long one attempt may take. 0: no limit of its own.
	AttemptTimeout time.Duration
	// ExpireAt is when the task has expired if it has no outcome; or TTL, from
	// when it may run. Give one of them at most; neither: the balancer's default
	// (7 days).
	ExpireAt time.Time
	TTL      time.Duration
	// Retention is how long the outcome is kept. 0: the balancer's default (24 h).
	Retention time.Duration
}

// Backoff is the wait between a failed attempt and the next one. Each field that
// is 0 is the balancer's default.
type Backoff struct {
	// Initial is the wait after the first failed attempt; 100 ms by default.
	Initial time.Duration
	// Multiplier is how many times longer each further wait is, 1 to 100; 2 by
	// default.
	Multiplier float64
	// Maximum is the longest wait; 10 s by default.
	Maximum time.Duration
	// Jitter is the part of the wait that is left to chance, 0 to 1.
	Jitter float64
}

// Enqueued is what became of one task of EnqueueAll.
type Enqueued struct {
	// ID is the task's own, or the one that the SDK made.
	ID string
	// Existed says that the task was there already, with the same content.
	Existed bool
	// Err is an *Error when the task was refused, or its fate is unknown.
	Err error
}

// Enqueue hands over a task and blocks until the balancer has it on disk, or ctx
// ends; it returns the task's id. Calls that are made at the same time travel
// together.
//
// The error is an *Error. While there is no connection it tries again, as long as
// the connect timeout, under the same id: nothing is enqueued twice. Where the
// task may be there or not, because an answer was lost or ctx ended before it
// came, errors.Is finds ErrFateUnknown; the id, which is returned all the same,
// tells: ask Get, or enqueue the same task under that ID.
func (c *Client) Enqueue(ctx context.Context, t DurableTask) (id string, err error) {
	k, err := c.newEnqueuing(ctx, &t)
	if err != nil {
		return t.ID, err
	}
	c.batches.add(c, k)
	r := c.enqueued(ctx, k)
	return r.ID, r.Err
}

// EnqueueAll hands over any number of tasks, a few thousand at a time, and blocks
// until each is on disk or refused, or ctx ends. It tells what became of each, in
// their order; one that is refused harms no other. Errors are those of Enqueue.
func (c *Client) EnqueueAll(ctx context.Context, tasks []DurableTask) []Enqueued {
	const ahead = 4 * maxBatch // so many are on their way at most
	results := make([]Enqueued, len(tasks))
	calls := make([]*enqueuing, len(tasks))
	collect := func(from, to int) {
		for i := from; i < to; i++ {
			if calls[i] != nil {
				results[i] = c.enqueued(ctx, calls[i])
				calls[i] = nil
			}
		}
	}
	chunk := make([]*enqueuing, 0, min(len(tasks), maxBatch))
	collected := 0
	for from := 0; from < len(tasks); from += maxBatch {
		to := min(from+maxBatch, len(tasks))
		if to-collected > ahead {
			collect(collected, collected+maxBatch)
			collected += maxBatch
		}
		chunk = chunk[:0]
		for i := from; i < to; i++ {
			k, err := c.newEnqueuing(ctx, &tasks[i])
			if err != nil {
				results[i] = Enqueued{ID: tasks[i].ID, Err: err}
				continue
			}
			calls[i] = k
			chunk = append(chunk, k)
		}
		c.batches.add(c, chunk...)
	}
	collect(collected, len(tasks))
	return results
}

// enqueued waits for what becomes of a task.
func (c *Client) enqueued(ctx context.Context, k *enqueuing) Enqueued {
	id := k.wire.TaskId
	select {
	case <-k.done:
	case <-ctx.Done():
		select {
		case <-k.done:
		default:
			// It is left to the sender, and to the garbage collector.
			err := errContext(ctx, id)
			if !c.batches.leave(k) {
				err = unsure(err)
			}
			if k.span != nil {
				endSpan(k.span, err)
			}
			return Enqueued{ID: id, Err: err}
		}
	}
	r := Enqueued{ID: id, Existed: k.existed, Err: k.err}
	if k.span != nil {
		endSpan(k.span, r.Err)
	}
	k.recycle()
	return r
}

// newEnqueuing refuses what would make a whole request unsendable; the rest is
// the balancer's to judge.
func (c *Client) newEnqueuing(ctx context.Context, t *DurableTask) (*enqueuing, error) {
	if ctx.Err() != nil {
		return nil, errContext(ctx, t.ID)
	}
	if err := (&Task{Function: t.Function, ID: t.ID, Metadata: t.Metadata}).check(); err != nil {
		return nil, err
	}
	k := enqueuings.Get().(*enqueuing)
	w := &k.wire
	w.Function, w.Payload, w.TaskId, w.Metadata = t.Function, t.Payload, t.ID, t.Metadata
	w.RunAt, w.Delay = stamp(t.RunAt), some(t.Delay)
	w.Priority, w.MaxAttempts, w.AttemptTimeout = clamp(t.Priority), clamp(t.MaxAttempts), some(t.AttemptTimeout)
	w.ExpireTime, w.TimeToLive, w.Retention = stamp(t.ExpireAt), some(t.TTL), some(t.Retention)
	if t.ID == "" {
		w.TaskId, w.FreshId = newID(), true
	}
	if c.opt.tracer != nil {
		k.span, w.Metadata = c.opt.begin(ctx, "enqueue", producing, w.Function, w.TaskId, w.Metadata)
	}
	if b := t.Backoff; b != (Backoff{}) {
		w.Backoff = &pb.Backoff{Initial: some(b.Initial), Multiplier: b.Multiplier, Maximum: some(b.Maximum), Jitter: b.Jitter}
	}
	k.size = 2*taskOverhead + len(w.Payload) + len(w.Function) + len(w.TaskId)
	for key, v := range w.Metadata {
		k.size += len(key) + len(v) + entryOverhead
	}
	return k, nil
}

// clamp keeps what is out of bounds out of bounds on the wire, for the balancer
// to refuse.
func clamp(n int) int32 { return int32(min(max(n, math.MinInt32), math.MaxInt32)) }

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
