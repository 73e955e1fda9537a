package client

import (
	"context"
	"math"
	"testing"
)

// Else it would fill memory while there is no connection.
func TestWhatWasGivenUpIsForgotten(t *testing.T) {
	b := newBalancer(t)
	b.limits = nil
	c := newTestClient(t, b)
	for range 20000 {
		ctx, cancel := context.WithCancel(t.Context())
		c.SubmitFunc(ctx, Task{Function: "f"}, func(Outcome, error) {})
		cancel()
	}
	eventually(t, "given up", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.room.taken == 0 })
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) > 4096 {
		t.Errorf("%d are kept", len(c.pending))
	}
}

// Number 0 means that a call has no place.
func TestNoNumberIsZero(t *testing.T) {
	var table table
	first := &call{}
	table.put(first)
	table.remove(first)
	table.slots[0].generation = math.MaxUint32
	k := &call{}
	table.put(k)
	if k.number == 0 || table.get(k.number) != k || table.get(first.number) == first {
		t.Errorf("number %x", k.number)
	}
}
