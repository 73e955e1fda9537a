package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// errLost is what a call that goes on without its result returns.
var errLost = errors.New("lost")

// way is how a client hands over tasks. call blocks for the result; send returns
// at once, and the result is told later. Each way has one of the two.
type way struct {
	call  func(ctx context.Context, slot int, payload []byte) ([]byte, error)
	send  func(slot int, payload []byte) error
	close func()
}

// told gets the result of a slot's task that was sent. It may send the next.
type told func(slot int, result []byte, err error)

// ways are the clients by name. They end by close; an error that comes later than
// opening is told for slot -1.
var ways = map[string]func(ctx context.Context, c config, tell told) (way, error){
	"gearman-blocking":  openGearmanBlocking,
	"gearman-pipelined": openGearmanPipelined,
	"nats-blocking":     openNATSBlocking,
	"nats-async":        openNATSAsync,
	"rabbitmq":          openRabbit,
	"unary":             openUnary,
	"framed":            openFramed,
	"framed-blocking":   openBlocking,
	"sdk":               openSDK,
	"sdk-func":          openSDKFunc,
	"text":              openText,
	lossy:               openLossyText,
}

// crafts are the workers by name: each is one worker until ctx ends.
var crafts = map[string]func(ctx context.Context, c config, ready func()) error{
	"gearman-1":  func(ctx context.Context, c config, ready func()) error { return workGearman(ctx, c, 1, ready) },
	"gearman-64": func(ctx context.Context, c config, ready func()) error { return workGearman(ctx, c, 64, ready) },
	"nats":       workNATS,
	"rabbitmq":   workRabbit,
	"sdk":        workSDK,
	"text":       workText,
}

const function = "echo"

// runWorker is a process of one or more workers, each with a connection of its
// own.
func runWorker(ctx context.Context, c config, tell say) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ready := make(chan struct{}, c.Workers)
	var wg sync.WaitGroup
	for range c.Workers {
		wg.Go(func() {
			var once sync.Once // a worker that dials again is ready again
			err := crafts[c.Kind](ctx, c, func() { once.Do(func() { ready <- struct{}{} }) })
			if ctx.Err() == nil {
				cancel(fmt.Errorf("a worker has ended: %w", err))
			}
		})
	}
	for range c.Workers {
		select {
		case <-ready:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	tell("ready", nil)
	wg.Wait()
	return context.Cause(ctx)
}

// queue is what waits for one writer.
type queue[T any] struct {
	ready chan struct{}
	mu    sync.Mutex
	items []T
}

func newQueue[T any]() *queue[T] { return &queue[T]{ready: make(chan struct{}, 1)} }

func (q *queue[T]) put(item T) {
	q.mu.Lock()
	q.items = append(q.items, item)
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// drain sends what waits, at most so many at a time, until ctx ends.
func (q *queue[T]) drain(ctx context.Context, most int, send func([]T) error) error {
	var items []T
	for {
		select {
		case <-q.ready:
		case <-ctx.Done():
			return nil
		}
		q.mu.Lock()
		items, q.items = q.items, items[:0]
		q.mu.Unlock()
		for rest := items; len(rest) > 0; {
			n := min(len(rest), most)
			if err := send(rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
		clear(items)
	}
}

// spend is what a task takes.
func spend(ctx context.Context, d time.Duration) {
	if d == 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
