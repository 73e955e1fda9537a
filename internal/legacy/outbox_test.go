package legacy

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reparto/worker"
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
			b.put(reply{size: size})
			p, _, _ := b.take()
			b.settle(&p)
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

func TestOutboxTellsOneTaskAtATimeFromSeveral(t *testing.T) {
	b := newOutbox(&Options{MaxInFlight: 3, MaxInFlightBytes: 100})
	b.reserve(t.Context(), 1)
	b.put(reply{size: 1})
	p, _, _ := b.take()
	// The result has been written, and the client's next task is here first.
	b.reserve(t.Context(), 1)
	if b.pipelined() {
		t.Error("a client that waited for its result counts as one that did not")
	}
	b.settle(&p)
	b.reserve(t.Context(), 1)
	if !b.pipelined() {
		t.Error("a client with two tasks under way counts as one that waits for its results")
	}
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

func TestClientPipelinesMoreThanMaxInFlight(t *testing.T) {
	const tasks = 3000
	h := open(t, Options{MaxInFlight: 10, ResultGap: -1})
	var mu sync.Mutex
	running, most := 0, 0
	h.grpcWorker(func(ctx context.Context, t worker.Task) ([]byte, error) {
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		defer func() { mu.Lock(); running--; mu.Unlock() }()
		return sum(ctx, t)
	})
	h.pipeline(tasks)
	if most > 10 {
		t.Errorf("%d tasks of one client at a time; MaxInFlight is 10", most)
	}
}

func TestClientPipelinesAtFullSpeed(t *testing.T) {
	// At one per ResultGap these took 100 s, far over a peer's patience.
	h := open(t, Options{ResultGap: 5 * time.Millisecond})
	h.grpcWorker(sum)
	h.pipeline(20_000)
}

// pipeline sends many tasks in one go, closes its writing side, and reads lines.
func (h *house) pipeline(tasks int) {
	h.t.Helper()
	c := h.client()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		w := bufio.NewWriter(c)
		for i := range tasks {
			fmt.Fprintf(w, "TASK|t%d|%d,1\n", i, i)
		}
		_ = w.Flush()
		_ = c.Conn.(*net.TCPConn).CloseWrite()
	}()
	seen := map[string]bool{}
	for line := range strings.Lines(c.all()) {
		seen[line] = true
	}
	<-sent
	for i := range tasks {
		if want := fmt.Sprintf("RESULT|t%d|%d\n", i, i+1); !seen[want] {
			for line := range seen {
				if strings.HasPrefix(line, fmt.Sprintf("RESULT|t%d|", i)) {
					h.t.Fatalf("got %q, want %q", line, want)
				}
			}
			h.t.Fatalf("no %q among %d lines", want, len(seen))
		}
	}
}

func TestClientThatDoesNotReadIsCutOff(t *testing.T) {
	h := open(t, Options{WriteTimeout: 100 * time.Millisecond, MaxInFlight: 64})
	h.grpcWorker(func(_ context.Context, t worker.Task) ([]byte, error) { return make([]byte, 1<<20), nil })
	c, other := h.client(), h.client()
	for i := range 64 {
		if _, err := fmt.Fprintf(c, "TASK|t%d|1\n", i); err != nil {
			break // cut off already
		}
	}
	until(t, "the cut", func() bool { return h.a.Counters().Blocked == 1 })
	other.send("TASK|t1|1\n")
	if got := other.recv(); !strings.HasPrefix(got, "RESULT|t1|") {
		t.Errorf("got %.80q", got)
	}
}
