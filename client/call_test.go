package client

import (
	"context"
	"math"
	"reflect"
	"testing"

	pb "reparto/gen/reparto/v1"
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

// What a Client keeps to use again holds nothing of anybody's, and is not much.
func TestSpareCallsAreFewAndEmpty(t *testing.T) {
	b := newBalancer(t)
	c := newTestClient(t, b)
	done := ends(t.Context(), c, 2*maxSpare)
	s := b.stream()
	for _, task := range s.tasks(2 * maxSpare) {
		s.answer(&pb.StreamOutcome{Number: task.GetNumber(), Result: []byte("r")})
	}
	for range 2 * maxSpare {
		if e := wait(t, done); e.err != nil {
			t.Fatal(e.err)
		}
	}
	eventually(t, "all are told", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.room.untold == 0 })
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.spares) != maxSpare {
		t.Errorf("%d are kept, want %d", len(c.spares), maxSpare)
	}
	for _, k := range c.spares {
		if !reflect.ValueOf(k).Elem().IsZero() {
			t.Fatalf("kept %+v", k)
		}
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
