package worker

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Why a Run gives up what it still holds.
var (
	errDrainTimeout  = errors.New("the worker was told to stop and its DrainTimeout has passed")
	errUndeliverable = errors.New("no connection to deliver results on")
	errStopping      = errors.New("the worker is stopping")
)

// limitDrain cancels the handlers when DrainTimeout has passed since the end of
// ctx, and gives up a little later.
func (r *runner) limitDrain(ctx, base context.Context, giveUp context.CancelCauseFunc) {
	select {
	case <-ctx.Done():
	case <-base.Done():
		return
	}
	if !sleep(base, r.opt.DrainTimeout) {
		return
	}
	r.pool.cancelAll(errDrainTimeout)
	if sleep(base, grace) {
		giveUp(errDrainTimeout)
	}
}

// done says that the worker may go.
func (r *runner) done(ctx context.Context) bool {
	if ctx.Err() == nil {
		return false
	}
	held, _ := r.pool.count()
	return held == 0
}

// onlyDelivers says that the worker stays only for results to be delivered, and
// nothing else sets a limit to that.
func (r *runner) onlyDelivers(ctx context.Context) bool {
	if ctx.Err() == nil || r.opt.DrainTimeout > 0 {
		return false
	}
	_, unfinished := r.pool.count()
	return unfinished == 0
}

// finish ends what still runs, and waits for it.
func (r *runner) finish(err error) error {
	var limit <-chan time.Time
	switch {
	case errors.Is(err, errDrainTimeout):
		limit = time.After(0) // handlers have had their time
	case r.opt.DrainTimeout > 0:
		limit = time.After(r.opt.DrainTimeout)
	}
	unanswered, _ := r.pool.count()
	r.pool.cancelAll(errStopping)
	r.pool.close()
	stuck := r.pool.wait(limit)
	r.log.Info("disconnected")
	switch {
	case errors.Is(err, errDrainTimeout) && unanswered == 0:
		return nil
	case errors.Is(err, errDrainTimeout), errors.Is(err, errUndeliverable):
		err = fmt.Errorf("worker %s: %w; %d tasks were left unanswered", r.opt.ID, err, unanswered)
	}
	if stuck > 0 {
		err = fmt.Errorf("%w; %d handlers did not stop, their goroutines are left behind", err, stuck)
	}
	return err
}

// sleep reports whether d passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
