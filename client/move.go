package client

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/connectivity"

	pb "reparto/gen/reparto/v1"
)

// A proxy that is reloaded, or a server that limits the age of connections, says
// GOAWAY: no new stream, please; those that are open may end in their time. A
// client's stream never ends, so it would be cut one day, with tasks under way. So
// the Client goes on with another stream, and leaves the old one when that has
// brought what it owes.

// errMoved is why a stream takes no more tasks.
var errMoved = errors.New("the connection is to end")

const (
	// moveAfter is how long a stream lasts at least, so that connections that are
	// never wanted for long don't keep the Client busy with dialling.
	moveAfter = 250 * time.Millisecond
	// breakTime is how much later than its connection a broken stream may tell.
	breakTime = 20 * time.Millisecond
)

// states is a connection that tells its state, as a grpc.ClientConn does. It is no
// longer READY when it was told GOAWAY, until a call needs it.
type states interface {
	GetState() connectivity.State
	WaitForStateChange(context.Context, connectivity.State) bool
}

// toldToGo is closed when the connection under a stream is to end, though the stream
// goes on; never, when the stream breaks or ctx ends before.
func (c *Client) toldToGo(ctx context.Context, s *session) <-chan struct{} {
	told := make(chan struct{})
	if c.conn == nil {
		return told
	}
	c.running.Go(func() {
		state := c.conn.GetState()
		for state == connectivity.Connecting { // not told yet that it is connected
			if !c.conn.WaitForStateChange(ctx, state) {
				return
			}
			state = c.conn.GetState()
		}
		if state == connectivity.Ready && !c.conn.WaitForStateChange(ctx, state) {
			return
		}
		timer := time.NewTimer(max(time.Until(s.began.Add(moveAfter)), breakTime))
		defer timer.Stop()
		select {
		case <-timer.C:
			close(told)
		case <-ctx.Done():
		}
	})
	return told
}

// move has a stream take no more tasks. It reports false for one whose balancer is
// stopping: that ends it by itself.
func (c *Client) move(s *session) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.accepting {
		return false
	}
	s.moved = true
	s.cancels, c.cancels = append(s.cancels, c.cancels...), c.cancels[:0]
	c.accepting, c.lastErr = false, nil
	now := time.Now()
	for _, k := range c.pending {
		k.since = now // they had a stream until now
	}
	signal(c.hurry)
	signal(s.nudge)
	return true
}

// seeOut goes on with a stream that takes no more tasks until it has brought what it
// owes, or breaks. Only it sends there now.
func (c *Client) seeOut(life context.Context, s *session, broke <-chan error, cancel context.CancelFunc) {
	defer cancel()
	var err error
	for owes := true; owes && err == nil; {
		select {
		case err = <-broke:
		case <-s.nudge:
			owes = s.cancelOwed()
		}
	}
	if err == nil {
		cancel()
		c.opt.log.Debug("the old connection is left", "address", c.target, "end", <-broke)
		return
	}
	c.opt.log.Info("connection lost", "address", c.target, "error", err)
	if life.Err() == nil { // else Close has its own word for what is left
		c.afterBreak(s, err)
	}
}

// cancelOwed cancels what nobody wants any more, and reports whether the stream
// owes anything.
func (s *session) cancelOwed() bool {
	for {
		s.c.mu.Lock()
		n := min(len(s.cancels), maxFrameCancels)
		numbers := s.cancels[:n:n]
		s.cancels = s.cancels[n:]
		owes := s.inFlight > 0
		s.c.mu.Unlock()
		if !owes || n == 0 {
			return owes
		}
		if err := s.stream.Send(&pb.SubmitStreamRequest{CancelNumbers: numbers}); err != nil {
			return true // the reader learns why
		}
	}
}

// cancelSent cancels a task at its balancer. The caller holds c.mu.
func (c *Client) cancelSent(k *call) {
	if k.on.moved {
		k.on.cancels = append(k.on.cancels, k.number)
		signal(k.on.nudge)
		return
	}
	c.cancels = append(c.cancels, k.number)
	c.rouse()
}
