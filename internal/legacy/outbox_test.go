package legacy

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestOutboxBoundsTasksAndBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newOutbox(&Options{MaxInFlight: 3, MaxInFlightBytes: 100})
		ctx := t.Context()
		if !b.reserve(ctx, 1000) { // one may always pass
			t.Fatal("refused")
		}
		passed := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			for _, size := range []int{60, 40, 0, 1} {
				b.reserve(ctx, size)
				passed++
			}
		}()
		settle := func(size, want int) {
			t.Helper()
			synctest.Wait()
			if passed != want {
				t.Fatalf("%d passed, want %d", passed, want)
			}
			b.settle(&reply{size: size})
		}
		settle(1000, 0) // full of bytes
		settle(60, 3)   // 60 + 40 + 0: full of tasks, and of bytes to the last
		<-done
		if !b.pipelined() {
			t.Error("several were under way")
		}
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		if b.reserve(ctx, 0) {
			t.Error("reserved after the end")
		}
	})
}

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waited := func(p *pace, pipelined bool) time.Duration {
			began := time.Now()
			p.wait(t.Context(), pipelined)
			p.wrote()
			return time.Since(began)
		}
		p := &pace{gap: time.Millisecond}
		for _, want := range []time.Duration{0, time.Millisecond, time.Millisecond} {
			if d := waited(p, true); d != want {
				t.Errorf("waited %v, want %v", d, want)
			}
		}
		if d := waited(p, false); d != 0 {
			t.Errorf("a client with one task at a time waited %v", d)
		}
		if d := waited(&pace{gap: -1, last: time.Now()}, true); d != 0 {
			t.Errorf("waited %v for no gap", d)
		}
	})
}
