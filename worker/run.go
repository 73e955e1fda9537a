package worker

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
)

// Waits between two dials. The longest is what the backoff may reach with its
// jitter; when the worker is leaving, a shorter one holds.
const (
	firstWait    = 100 * time.Millisecond
	longestWait  = 10 * time.Second
	leavingWait  = time.Second
	connectPause = 250 * time.Millisecond
	// steadyAfter is how long a session has lasted that makes the backoff start
	// anew.
	steadyAfter = time.Second
)

// runner is one Run.
type runner struct {
	conn    grpc.ClientConnInterface
	opt     Options
	log     *slog.Logger
	pool    *pool
	address string
	// functions are the names of what the worker offers.
	functions []string
	// maxMessage is what the balancer took last time, in bytes.
	maxMessage int
	// leave ends the Run as the end of its ctx does.
	leave context.CancelFunc
}

func (o Options) run(ctx context.Context, conn grpc.ClientConnInterface, h Handlers) error {
	o.Log = o.Log.With("worker_id", o.ID)
	// base outlives ctx, so that the worker can finish what it holds, and ends
	// when it must not go on. Handlers end when they are told to.
	values := context.WithoutCancel(ctx)
	base, giveUp := context.WithCancelCause(values)
	r := &runner{
		conn: conn, opt: o, log: o.Log, pool: newPool(values, maps.Clone(h), &o, giveUp),
		functions: slices.Sorted(maps.Keys(h)), maxMessage: defaultMaxMessage,
	}
	ctx, r.leave = context.WithCancel(ctx)
	defer r.leave()
	if c, ok := conn.(interface{ Target() string }); ok {
		r.address = c.Target()
	}
	var clock sync.WaitGroup
	if o.DrainTimeout > 0 {
		clock.Go(func() { r.limitDrain(ctx, base, giveUp) })
	}
	err := r.serve(ctx, base)
	giveUp(nil)
	clock.Wait()
	return r.finish(err)
}

// serve has one session after another, until there must not be a next one. It
// returns nil when ctx has ended and nothing is left to be answered.
func (r *runner) serve(ctx, base context.Context) error {
	wait := backoff.ExponentialBackOff{
		InitialInterval: firstWait, Multiplier: 2,
		RandomizationFactor: 0.5, MaxInterval: longestWait * 2 / 3, // and a half of that on top
	}
	var deliverBy time.Time // the end of patience without a connection, once set
	for {
		if deliverBy.IsZero() && r.onlyDelivers(ctx) {
			deliverBy = time.Now().Add(deliveryTimeout)
		}
		end := r.session(ctx, base, deliverBy)
		if base.Err() != nil {
			return context.Cause(base)
		}
		if r.done(ctx) {
			return nil
		}
		if incurable(end.err) {
			return fmt.Errorf("worker %s: dialling again can't help: %w", r.opt.ID, end.err)
		}
		if end.drained || end.lasted >= steadyAfter {
			wait.Reset()
		}
		if end.registered {
			deliverBy = time.Time{}
		}
		if !deliverBy.IsZero() && !time.Now().Before(deliverBy) {
			return fmt.Errorf("%w for %v: %w", errUndeliverable, deliveryTimeout, end.err)
		}
		r.pause(ctx, base, end, wait.NextBackOff())
		if base.Err() != nil {
			return context.Cause(base)
		}
		if r.done(ctx) {
			return nil
		}
	}
}

// pause waits before the next dial. When ctx ends, it does not wait longer.
func (r *runner) pause(ctx, base context.Context, end ending, wait time.Duration) {
	leaving := ctx.Done()
	if ctx.Err() != nil {
		wait, leaving = min(wait, leavingWait), nil
	}
	wait += end.reconnectAfter
	switch {
	case end.drained:
		r.log.Info("the balancer is stopping", "retry_in", wait)
	case end.registered:
		r.log.Warn("connection lost", "error", end.err, "retry_in", wait)
	default:
		r.log.Warn("no connection", "error", end.err, "retry_in", wait)
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		r.wake(base)
	case <-leaving:
	case <-base.Done():
	}
}

// wake makes a connection that waits for its own backoff try at once: ours has
// passed. Until it has tried, every call on it fails.
func (r *runner) wake(base context.Context) {
	c, ok := r.conn.(interface {
		GetState() connectivity.State
		WaitForStateChange(context.Context, connectivity.State) bool
		ResetConnectBackoff()
	})
	if !ok || c.GetState() != connectivity.TransientFailure {
		return
	}
	c.ResetConnectBackoff()
	ctx, cancel := context.WithTimeout(base, connectPause)
	defer cancel()
	c.WaitForStateChange(ctx, connectivity.TransientFailure)
}

// incurable says that the balancer's word will be the same next time.
func incurable(err error) bool {
	s, ok := status.FromError(err)
	if !ok {
		return false
	}
	switch s.Code() {
	case codes.InvalidArgument, codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented:
		return true
	case codes.Aborted:
		for _, d := range s.Details() {
			if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == "reparto" && info.GetReason() == "SESSION_REPLACED" {
				return true
			}
		}
	}
	return false
}
