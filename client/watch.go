package client

import "context"

// watch has the end of a context settle calls: those of SubmitFunc, which has nobody
// who waits, and those of Submit that would wait with others for one and the same
// channel, whose lock they then pass on from core to core. Calls in a row mostly have
// the same context: they share a watch, since another function on a context costs more
// than all else that a call does here. It belongs to Client.mu.
type watch struct {
	ctx   context.Context
	done  <-chan struct{} // the context's
	halt  func() bool
	first *call // of those that have no end yet; when there is none, the watch is over
}

// watch has the end of ctx settle the call. The caller holds c.mu, of a Client that is
// not closed.
func (c *Client) watch(ctx context.Context, k *call) {
	end := ctx.Done()
	if end == nil {
		return
	}
	// Contexts need not be comparable. Those with the same channel end together.
	if w := c.latest; w == nil || w.done != end {
		w := &watch{ctx: ctx, done: end}
		c.watches.Add(1)
		w.halt = context.AfterFunc(ctx, func() {
			defer c.watches.Done()
			c.contextEnded(w)
		})
		c.latest = w
	}
	c.latest.add(k)
}

func (w *watch) add(k *call) {
	k.watch, k.next = w, w.first
	if w.first != nil {
		w.first.prev = k
	}
	w.first = k
}

// unwatch is for a call that has its end. The caller holds c.mu.
func (c *Client) unwatch(k *call) {
	w := k.watch
	if w == nil {
		return
	}
	if k.prev != nil {
		k.prev.next = k.next
	} else {
		w.first = k.next
	}
	if k.next != nil {
		k.next.prev = k.prev
	}
	k.watch, k.prev, k.next = nil, nil, nil
	if w.first != nil {
		return
	}
	if c.latest == w { // so that a Client keeps no context
		c.latest = nil
	}
	if w.halt() {
		c.watches.Done()
	}
}

// contextEnded settles all that a watch has, those who join meanwhile included, one
// by one: they may be many, and others want c.mu too.
func (c *Client) contextEnded(w *watch) {
	for {
		c.mu.Lock()
		k := w.first
		if k == nil {
			c.mu.Unlock()
			return
		}
		waits := k.fn == nil // afterwards the call is somebody else's
		c.abandonLocked(k, errContext(w.ctx, k.task.ID))
		c.mu.Unlock()
		if waits {
			k.done <- struct{}{}
		}
	}
}
