package client

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/wire"
)

// run keeps a stream open while there are tasks, until Close.
func (c *Client) run(ctx context.Context) {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 50*time.Millisecond, 2*time.Second
	wait.Reset()
	for c.waitForTask(ctx) {
		held, pause, err := c.serve(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == errMoved {
			c.opt.log.Info("the connection is to end: going on with another", "address", c.target)
			wait.Reset()
			continue
		}
		c.opt.log.Info("connection lost", "address", c.target, "error", err)
		if held {
			wait.Reset()
		}
		if e := fromStatus(err); e.hopeless() {
			c.failAll(func(k *call) error {
				if k.sent { // on an older stream
					return nil
				}
				own := *e
				own.TaskID = k.task.ID
				return &own
			})
			continue
		}
		pause = min(max(wait.NextBackOff(), pause), c.opt.connectTimeout)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// waitForTask blocks until a task is pending; false when the Client is closed.
func (c *Client) waitForTask(ctx context.Context) bool {
	for ctx.Err() == nil {
		c.mu.Lock()
		c.cancels = c.cancels[:0] // of a stream that is gone, which cancels all it had
		c.compact()
		c.asleep = len(c.pending) == 0
		asleep := c.asleep
		c.mu.Unlock()
		if !asleep {
			return true
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
		}
	}
	return false
}

// serve opens a stream and works on it until it breaks. It reports whether the
// stream was of use, why it ended, and how long the balancer wants to be left
// alone.
func (c *Client) serve(life context.Context) (held bool, pause time.Duration, err error) {
	ctx, cancel := context.WithCancel(life)
	leave := cancel
	defer func() { leave() }()
	stream, limits, err := c.open(ctx, cancel)
	if err != nil {
		c.mu.Lock()
		c.lastErr = err
		c.mu.Unlock()
		return false, fromStatus(err).RetryAfter, err
	}
	c.opt.log.Info("connected", "address", c.target, "server_id", limits.GetServerId())
	s := newSession(c, stream, limits)
	written, broke := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(written)
		s.write()
	}()
	go func() { broke <- s.read() }()
	select {
	case err = <-broke:
	case <-c.toldToGo(ctx, s):
		if c.move(s) {
			close(s.over)
			<-written
			leave = func() {} // seeOut needs it
			c.running.Go(func() { c.seeOut(life, s, broke, cancel) })
			return true, 0, errMoved
		}
		err = <-broke
	}
	close(s.over)
	cancel()
	<-written
	if life.Err() != nil {
		return false, 0, err // Close has its own word for what is left
	}
	held = c.afterBreak(s, err)
	return held, max(fromStatus(err).RetryAfter, s.retryAfter), err
}

// open returns a stream whose balancer has told its limits. A balancer that
// accepts and says nothing is given up after the connect timeout.
func (c *Client) open(ctx context.Context, cancel context.CancelFunc) (pb.TaskService_SubmitStreamClient, *pb.ClientLimits, error) {
	opening := time.AfterFunc(c.opt.connectTimeout, cancel)
	stream, err := c.stub.SubmitStream(ctx, grpc.ForceCodecV2(wire.Codec{}))
	var first *pb.SubmitStreamResponse
	if err == nil {
		first, err = stream.Recv()
	}
	switch {
	case !opening.Stop():
		return nil, nil, &Error{Code: codes.Unavailable, Message: fmt.Sprintf("it did not answer within %v", c.opt.connectTimeout)}
	case err != nil:
		return nil, nil, err
	case first.GetLimits() == nil:
		return nil, nil, &Error{Code: codes.Unavailable, Message: "it did not begin with its limits: no balancer of this protocol"}
	}
	return stream, first.GetLimits(), nil
}

// afterBreak decides what becomes of the tasks under way, and reports whether
// the stream was of use: else they count as waiting since before it, so that
// streams that break again and again don't keep a task for ever.
func (c *Client) afterBreak(s *session, err error) (held bool) {
	// A balancer that ends a stream because it stops has answered everything
	// that it took.
	untaken := fromStatus(err).Reason == "DRAINING"
	now := time.Now()
	var again []*call
	c.mu.Lock()
	held = s.held(now)
	if !s.moved {
		c.lose(err, now)
	}
	over := c.failLocked(func(k *call) error {
		if k.sent && k.on != s || s.moved && !k.sent {
			return nil // it is not about them
		}
		if k.sent && !k.task.Idempotent && !untaken {
			return errFateUnknown(k.task.ID, err)
		}
		if held && !k.refused || k.since.IsZero() {
			k.since = now
		}
		k.refused = false
		if k.sent {
			k.sent = false
			again = append(again, k)
		}
		return nil
	})
	c.pending = append(again, c.pending...)
	if s.moved && len(again) > 0 {
		c.rouse()
	}
	c.mu.Unlock()
	signal(c.hurry)
	release(over)
	return held
}
