package client

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ask makes one call that may be made twice without harm. It tries again, for as
// long as the connect timeout, while there is no balancer that answers.
func (c *Client) ask(ctx context.Context, id string, call func(context.Context) error) error {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return c.errClosed(id)
	}
	wait := backoff.ExponentialBackOff{InitialInterval: 20 * time.Millisecond, Multiplier: 2, RandomizationFactor: 0.5, MaxInterval: time.Second}
	since := time.Now()
	for {
		began := time.Now()
		limited, cancel := context.WithTimeout(ctx, longPoll+c.opt.connectTimeout)
		err := call(limited)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return errContext(ctx, id)
		}
		e := fromStatus(err)
		e.TaskID = id
		lost := e.Reason == "" && status.Code(err) == codes.Unavailable
		if time.Since(began) > time.Second {
			since = time.Now() // it had been answered to
		}
		if !lost && e.Reason != "DRAINING" {
			return e
		}
		if time.Since(since) >= c.opt.connectTimeout {
			return c.errNoConnection(id, err)
		}
		if !pause(ctx, wait.NextBackOff()) {
			return errContext(ctx, id)
		}
	}
}

// pause reports whether d passed before ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// unsure marks an error whose task may be there or not.
func unsure(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		c := *e
		c.cause = errors.Join(e.cause, ErrFateUnknown)
		return &c
	}
	return err
}
