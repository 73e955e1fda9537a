package client

import "slices"

// tellAtOnce is how many functions are called before their tasks no longer count as
// under way: small beside a usual bound, large beside the price of a lock.
const tellAtOnce = 64

// tell calls the functions that SubmitFunc was given, one after the other, away
// from the goroutines that keep the stream going: so a function that waits for
// room waits for something that goes on.
func (c *Client) tell() {
	c.mu.Lock()
	c.teller = goroutine()
	c.mu.Unlock()
	var batch []*call
	for {
		c.mu.Lock()
		batch, c.finished = c.finished, batch[:0]
		drained := c.drained
		c.mu.Unlock()
		if len(batch) == 0 {
			if drained {
				return
			}
			<-c.finish
			continue
		}
		for some := range slices.Chunk(batch, tellAtOnce) {
			again := some[:0]
			for _, k := range some {
				fn, out, err := k.fn, k.out, k.err
				if k.sent { // else it may still be among the pending
					*k = call{}
					again = append(again, k)
				}
				fn(out, err)
			}
			c.mu.Lock()
			c.room.told(len(some))
			c.spares = append(c.spares, again[:min(len(again), maxSpare-len(c.spares))]...)
			c.mu.Unlock()
		}
		clear(batch)
	}
}
