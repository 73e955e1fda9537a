package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	pb "reparto/gen/reparto/v1"
)

type key struct{}

// ends submits n tasks under a context and returns their errors, as they come.
func ends(ctx context.Context, c *Client, n int) <-chan ended {
	done := make(chan ended, n)
	for range n {
		c.SubmitFunc(ctx, Task{Function: "f"}, func(out Outcome, err error) { done <- ended{out, err} })
	}
	return done
}

// The end of a context ends all tasks under it, sent or not, and no others.
func TestTheEndOfAContextIsThatOfItsTasksOnly(t *testing.T) {
	b := newBalancer(t)
	c := newTestClient(t, b)
	over, cancel := context.WithCancel(t.Context())
	alive, done := context.WithCancel(t.Context())
	defer done()
	first := ends(over, c, 3)
	other := ends(alive, c, 2)
	valued := ends(context.WithValue(over, key{}, 1), c, 2) // ends together with over
	s := b.stream()
	numbers := s.tasks(7)
	more := ends(over, c, 1)
	cancel()
	for _, of := range []<-chan ended{first, valued, more} {
		for range cap(of) {
			if e := wait(t, of); !errors.Is(e.err, context.Canceled) {
				t.Errorf("got %v", e.err)
			}
		}
	}
	for range 20 {
		if e := wait(t, ends(over, c, 1)); !errors.Is(e.err, context.Canceled) {
			t.Errorf("under a context that has ended: %v", e.err)
		}
	}
	for _, n := range numbers { // who is told of these, if not the two
		s.answer(&pb.StreamOutcome{Number: n.GetNumber(), Result: []byte("r")})
	}
	for range 2 {
		if e := wait(t, other); e.err != nil || string(e.out.Result) != "r" {
			t.Errorf("under a context that goes on: %+v", e)
		}
	}
}

// observed is a context that tells how many functions wait for its end.
type observed struct {
	context.Context
	waiting atomic.Int64
	most    atomic.Int64
}

func (o *observed) AfterFunc(f func()) func() bool {
	if n := o.waiting.Add(1); n > o.most.Load() {
		o.most.Store(n)
	}
	stop := context.AfterFunc(o.Context, f)
	return func() bool { o.waiting.Add(-1); return stop() }
}

// Value hides the context within, or else that one would be asked.
func (o *observed) Value(any) any { return nil }

// A Client keeps nothing of a context whose tasks are over.
func TestAContextIsLetGoOf(t *testing.T) {
	c := newTestClient(t, echoing(t))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := &observed{Context: ctx}
	for e := range 100 {
		if e := wait(t, ends(o, c, 1+e%3)); e.err != nil {
			t.Fatal(e.err)
		}
		var calls [3]<-chan ended
		for i := range calls {
			calls[i] = submitting(o, c, Task{Function: "echo"})
		}
		for _, call := range calls {
			if e := wait(t, call); e.err != nil {
				t.Fatal(e.err)
			}
		}
	}
	c.Close()
	if n := o.waiting.Load(); n != 0 {
		t.Errorf("%d functions still wait for the end of a context", n)
	}
	if n := o.most.Load(); n > 1 {
		t.Errorf("%d functions waited for the end of one context; one is enough", n)
	}
}

// Calls of Submit under one context end with it, and others go on.
func TestTheEndOfAContextIsThatOfItsCallsOnly(t *testing.T) {
	b := newBalancer(t)
	c := newTestClient(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := &observed{Context: ctx}
	var over []<-chan ended
	for range 5 {
		over = append(over, submitting(o, c, Task{Function: "over"}))
	}
	s := b.stream()
	numbers := map[uint64]bool{}
	for _, n := range s.tasks(5) {
		numbers[n.GetNumber()] = true
	}
	other := submitting(t.Context(), c, Task{Function: "f"})
	goesOn := s.tasks(1)[0].GetNumber()
	if n := o.most.Load(); n != 1 {
		t.Errorf("%d functions wait for the end of a context that calls share; want 1", n)
	}
	cancel()
	for _, of := range over {
		if e := wait(t, of); !errors.Is(e.err, context.Canceled) {
			t.Errorf("got %v", e.err)
		}
	}
	for len(numbers) > 0 {
		for _, n := range s.frame().GetCancelNumbers() {
			if !numbers[n] {
				t.Fatalf("%d was cancelled, and is none of those that ended, or again", n)
			}
			delete(numbers, n)
		}
	}
	s.answer(&pb.StreamOutcome{Number: goesOn, Result: []byte("r")})
	if e := wait(t, other); e.err != nil || string(e.out.Result) != "r" {
		t.Errorf("under a context that goes on: %+v", e)
	}
}

// Who has a context to himself needs no function that waits for its end.
func TestACallAloneWaitsForItsContextItself(t *testing.T) {
	c := newTestClient(t, echoing(t))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := &observed{Context: ctx}
	for range 3 {
		if _, err := c.Submit(o, Task{Function: "echo"}); err != nil {
			t.Fatal(err)
		}
	}
	if n := o.most.Load(); n != 0 {
		t.Errorf("%d functions waited for the end of a context", n)
	}
}

// A function is told of its own task, whatever memory tasks share.
func TestFunctionsAreToldOfTheirOwnTask(t *testing.T) {
	c := newTestClient(t, echoing(t), WithMaxInFlight(32))
	var done sync.WaitGroup
	for g := range 4 {
		done.Go(func() {
			for i := range 300 {
				want := fmt.Sprint(g, i)
				done.Add(1)
				c.SubmitFunc(t.Context(), Task{Function: "echo", Payload: []byte(want)}, func(out Outcome, err error) {
					if string(out.Result) != want || err != nil {
						t.Errorf("%s got %q, %v", want, out.Result, err)
					}
					done.Done()
				})
			}
		})
	}
	done.Wait()
}
