package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"reparto/client"
)

// openSlots bounds what an open loop has under way; what is due beyond is not
// offered.
const openSlots = 1 << 20

// openLoop hands over tasks when its schedule says so. A latency counts from then,
// not from when there was time for it.
type openLoop struct {
	way       way
	fail      context.CancelCauseFunc
	latencies *latencies
	start     time.Time
	window    time.Duration // of the schedule: what was due before counts not
	warmup    time.Duration

	mu   sync.Mutex
	free []int
	due  []time.Duration // by slot

	offered, done, refused, failed atomic.Uint64 // due within the window
	inTime                         atomic.Uint64 // results that came within it
}

func runOpen(ctx context.Context, c config, tell say) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	o := &openLoop{
		fail: cancel, latencies: newLatencies(), window: c.Window, warmup: c.Warmup,
		free: make([]int, openSlots), due: make([]time.Duration, openSlots),
	}
	for i := range o.free {
		o.free[i] = openSlots - 1 - i
	}
	var err error
	if o.way, err = ways[c.Kind](ctx, c, o.told); err != nil {
		return err
	}
	defer o.way.close()
	if o.way.send == nil {
		return fmt.Errorf("%s blocks: an open loop must not", c.Kind)
	}
	return o.run(ctx, c, tell)
}

func (o *openLoop) run(ctx context.Context, c config, tell say) error {
	payload := []byte(strings.Repeat("1,2,", c.Size/4+1))[:c.Size]
	s := newSchedule(c.Rate, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))
	o.start = time.Now()
	going := false
	for ctx.Err() == nil {
		elapsed := time.Since(o.start)
		if !going && elapsed >= o.warmup {
			going = true
			tell("go", nil)
		}
		if elapsed >= o.warmup+o.window {
			break
		}
		at, ok := s.due(elapsed)
		if !ok {
			spend(ctx, s.next-elapsed)
			continue
		}
		if err := o.offer(at, payload); err != nil {
			return err
		}
	}
	tell("end", nil)
	seconds := o.window.Seconds()
	r := report{Asked: c.Rate, Offered: float64(o.offered.Load()) / seconds}
	r.Lost = o.settle(ctx)
	if err := context.Cause(ctx); err != nil {
		return err
	}
	_, r.quantiles = o.latencies.sum()
	r.Tasks, r.Rate = o.inTime.Load(), float64(o.inTime.Load())/seconds
	r.Refused, r.Failed = float64(o.refused.Load())/seconds, o.failed.Load()
	tell("report", r)
	return nil
}

// settle waits for the rest, and returns how many have no result.
func (o *openLoop) settle(ctx context.Context) uint64 {
	for limit := time.Now().Add(patience); ; spend(ctx, 10*time.Millisecond) {
		left := o.offered.Load() - o.done.Load() - o.refused.Load() - o.failed.Load()
		if left == 0 || time.Now().After(limit) || ctx.Err() != nil {
			return left
		}
	}
}

// offer hands over a task that was due.
func (o *openLoop) offer(at time.Duration, payload []byte) error {
	o.mu.Lock()
	n := len(o.free)
	if n == 0 {
		o.mu.Unlock()
		return nil
	}
	slot := o.free[n-1]
	o.free = o.free[:n-1]
	o.due[slot] = at
	o.mu.Unlock()
	if at >= o.warmup {
		o.offered.Add(1)
	}
	return o.way.send(slot, payload)
}

func (o *openLoop) told(slot int, _ []byte, err error) {
	if slot < 0 {
		o.fail(err)
		return
	}
	now := time.Since(o.start)
	o.mu.Lock()
	at := o.due[slot]
	o.free = append(o.free, slot)
	o.mu.Unlock()
	if err == nil && now >= o.warmup && now < o.warmup+o.window {
		o.inTime.Add(1)
	}
	switch {
	case at < o.warmup:
	case err == nil:
		o.latencies.record(slot, now-at)
		o.done.Add(1)
	case refused(err):
		o.refused.Add(1)
	default:
		o.failed.Add(1)
	}
}

func refused(err error) bool {
	e, ok := errors.AsType[*client.Error](err)
	return ok && e.Code == codes.ResourceExhausted
}
