package client

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// Slow functions hold up those who submit, not those who are told.
func TestSlowFunctionsHoldUpThoseWhoSubmit(t *testing.T) {
	const bound = 4
	c := newTestClient(t, echoing(t), WithMaxInFlight(bound))
	block, told := make(chan struct{}), make(chan struct{}, bound+1)
	var submitted atomic.Int64
	var feeding sync.WaitGroup
	feeding.Go(func() {
		for range bound + 1 {
			c.SubmitFunc(t.Context(), Task{Function: "echo"}, func(Outcome, error) { <-block; told <- struct{}{} })
			submitted.Add(1)
		}
	})
	eventually(t, "all have an outcome", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.room.untold == bound })
	waitingForRoom(t, c, 1)
	if n := submitted.Load(); n != bound {
		t.Errorf("%d went in while nothing came out", n)
	}
	close(block)
	feeding.Wait()
	for range bound + 1 {
		<-told
	}
}

// A function that submits must not wait for functions, itself among them.
func TestAFunctionThatSubmitsGoesFirst(t *testing.T) {
	c := newTestClient(t, echoing(t), WithMaxInFlight(1))
	inside, told := make(chan struct{}), make(chan struct{})
	c.SubmitFunc(t.Context(), Task{Function: "echo"}, func(Outcome, error) {
		<-inside // others wait for room by now
		for range 3 {
			c.SubmitFunc(t.Context(), Task{Function: "echo"}, func(Outcome, error) { told <- struct{}{} })
		}
	})
	var others sync.WaitGroup
	for range 4 {
		others.Go(func() {
			if _, err := c.Submit(t.Context(), Task{Function: "echo"}); err != nil {
				t.Error(err)
			}
		})
	}
	waitingForRoom(t, c, 4)
	close(inside)
	for range 3 {
		<-told
	}
	others.Wait()
}

// They are never called side by side, nor from within SubmitFunc.
func TestFunctionsAreCalledOneByOne(t *testing.T) {
	c := newTestClient(t, echoing(t))
	var mu, submitting sync.Mutex
	var done sync.WaitGroup
	told := 0
	for i := range 500 {
		ctx, cancel := context.WithCancel(t.Context())
		if i%3 == 0 {
			cancel()
		}
		done.Add(1)
		submitting.Lock()
		c.SubmitFunc(ctx, Task{Function: "echo"}, func(Outcome, error) {
			submitting.Lock() // a caller may hold a lock that its function takes
			told++
			submitting.Unlock()
			if !mu.TryLock() {
				t.Error("two at a time")
				done.Done()
				return
			}
			runtime.Gosched()
			mu.Unlock()
			done.Done()
		})
		submitting.Unlock()
		if i%3 == 1 {
			cancel()
		}
		t.Cleanup(cancel)
	}
	done.Wait()
	if told != 500 {
		t.Errorf("%d of 500 were told", told)
	}
}
