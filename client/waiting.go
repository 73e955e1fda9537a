package client

import (
	"context"
	"time"
)

// coalesce bounds how often the expirer looks through all tasks.
const coalesce = 5 * time.Millisecond

// expireLate gives up tasks that have waited too long for a stream, or whose
// time limit passed meanwhile, until ctx ends.
func (c *Client) expireLate(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var alarm <-chan time.Time
		if next := c.expire(); !next.IsZero() {
			timer.Reset(max(time.Until(next), coalesce))
			alarm = timer.C
		}
		select {
		case <-alarm:
		case <-c.hurry:
		case <-ctx.Done():
			return
		}
	}
}

// expire gives up what is due, and returns when to look again; zero for when
// there is a stream, or no task without one.
func (c *Client) expire() time.Time {
	now := time.Now()
	c.mu.Lock()
	c.nextExpiry = time.Time{}
	if c.accepting {
		c.mu.Unlock()
		return time.Time{}
	}
	over := c.failLocked(func(k *call) error {
		if k.sent { // on a stream that takes no more, but brings what it owes
			return nil
		}
		end := c.endOfPatience(k)
		if now.Before(end) {
			if c.nextExpiry.IsZero() || end.Before(c.nextExpiry) {
				c.nextExpiry = end
			}
			return nil
		}
		if end.Equal(k.deadline) {
			return c.errExpired(k.task.ID, c.lastErr)
		}
		return c.errNoConnection(k.task.ID, c.lastErr)
	})
	next := c.nextExpiry
	c.mu.Unlock()
	release(over)
	return next
}

// lose notes that no stream takes tasks any more: those which had one so far begin to
// wait. The caller holds c.mu.
func (c *Client) lose(why error, now time.Time) {
	had := c.accepting
	c.accepting, c.lastErr = false, why
	if !had {
		return
	}
	for _, k := range c.pending {
		if k.since.IsZero() {
			k.since = now
		}
	}
}

// endOfPatience is when a task that waits for a stream is given up.
func (c *Client) endOfPatience(k *call) time.Time {
	end := k.since.Add(c.opt.connectTimeout)
	if !k.deadline.IsZero() && k.deadline.Before(end) {
		return k.deadline
	}
	return end
}

// expect has the expirer look in time for a task that waits for a stream. The
// caller holds c.mu.
func (c *Client) expect(k *call) {
	if c.accepting {
		return
	}
	if k.since.IsZero() {
		k.since = time.Now()
	}
	if end := c.endOfPatience(k); c.nextExpiry.IsZero() || end.Before(c.nextExpiry) {
		c.nextExpiry = end
		signal(c.hurry)
	}
}
