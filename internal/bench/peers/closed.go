package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// report is what a client saw.
type report struct {
	quantiles
	Rate  float64 // results a second within the window
	Tasks uint64  // results within the window
	Lost  uint64  // tasks without a result, long after the window

	// Of an open loop: tasks a second that its clock asked for, that were handed
	// over, that were refused at once; and those that failed otherwise.
	Asked, Offered, Refused float64 `json:",omitempty"`
	Failed                  uint64  `json:",omitempty"`
}

// patience is how long after the window a result may come.
const patience = 10 * time.Second

// runClient says "go" when the warm-up is over, "end" when the window is, and
// then its report.
func runClient(ctx context.Context, c config, tell say) error {
	if c.Rate > 0 {
		return runOpen(ctx, c, tell)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l := &closed{
		payload: []byte(strings.Repeat("1,2,", c.Size/4+1))[:c.Size], fail: cancel,
		latencies: newLatencies(), began: make([]time.Time, c.InFlight), idle: make(chan struct{}, c.InFlight),
	}
	var err error
	if l.way, err = ways[c.Kind](ctx, c, l.told); err != nil {
		return err
	}
	defer l.way.close()
	return l.run(ctx, c, tell)
}

// closed keeps so many tasks in flight: each slot hands over its next task once
// it has the result of the one before.
type closed struct {
	way       way
	payload   []byte
	fail      context.CancelCauseFunc
	latencies *latencies
	began     []time.Time   // by slot
	idle      chan struct{} // one for each slot that has stopped

	measuring, stopped atomic.Bool
	lost               atomic.Uint64 // tasks within the window whose client went on without a result
}

func (l *closed) run(ctx context.Context, c config, tell say) error {
	var wg sync.WaitGroup
	for slot := range c.InFlight {
		if l.way.send != nil {
			l.send(slot)
			continue
		}
		wg.Go(func() { l.calls(ctx, slot) })
	}
	spend(ctx, c.Warmup)
	tell("go", nil)
	began := time.Now()
	l.measuring.Store(true)
	spend(ctx, c.Window)
	l.measuring.Store(false)
	took := time.Since(began)
	tell("end", nil)
	l.stopped.Store(true)
	r := report{Lost: uint64(c.InFlight)}
	for limit := time.After(patience); r.Lost > 0; r.Lost-- {
		select {
		case <-l.idle:
			continue
		case <-limit:
		case <-ctx.Done():
		}
		break
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	l.fail(nil) // ends calls that have no result
	if r.Lost == 0 {
		wg.Wait()
	}
	r.Tasks, r.quantiles = l.latencies.sum()
	r.Lost += l.lost.Load()
	r.Rate = float64(r.Tasks) / took.Seconds()
	tell("report", r)
	return nil
}

func (l *closed) calls(ctx context.Context, slot int) {
	for !l.stopped.Load() {
		began := time.Now()
		result, err := l.way.call(ctx, slot, l.payload)
		if errors.Is(err, errLost) {
			if l.measuring.Load() {
				l.lost.Add(1)
			}
			continue
		}
		if !l.over(slot, began, result, err) {
			return
		}
	}
	l.idle <- struct{}{}
}

func (l *closed) send(slot int) {
	l.began[slot] = time.Now()
	if err := l.way.send(slot, l.payload); err != nil {
		l.fail(err)
	}
}

func (l *closed) told(slot int, result []byte, err error) {
	if slot < 0 {
		l.fail(err)
		return
	}
	if !l.over(slot, l.began[slot], result, err) {
		return
	}
	if l.stopped.Load() {
		l.idle <- struct{}{}
		return
	}
	l.send(slot)
}

// over reports whether a slot may go on.
func (l *closed) over(slot int, began time.Time, result []byte, err error) bool {
	if err == nil && !bytes.Equal(result, l.payload) {
		err = fmt.Errorf("a result of %d bytes is not the payload of %d", len(result), len(l.payload))
	}
	if err != nil {
		l.fail(err)
		return false
	}
	if l.measuring.Load() {
		l.latencies.record(slot, time.Since(began))
	}
	return true
}
