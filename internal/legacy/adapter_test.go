package legacy

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

func TestListenOnePortOnly(t *testing.T) {
	a, err := Listen(Options{WorkerAddress: "localhost:0"})
	if err != nil {
		t.Fatal(err)
	}
	if a.ClientAddr() != nil || a.WorkerAddr() == nil {
		t.Errorf("addresses %v, %v", a.ClientAddr(), a.WorkerAddr())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Serve(ctx, balancer(t)); err != nil {
		t.Error(err)
	}
	if err := a.Serve(ctx, nil); err == nil {
		t.Error("served twice")
	}
	if _, err := net.Dial("tcp", a.WorkerAddr().String()); err == nil {
		t.Error("still listening")
	}
}

func TestCloseWithoutServe(t *testing.T) {
	a, err := Listen(Options{ClientAddress: "127.0.0.1:0", WorkerAddress: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.Close(), a.Close()); err != nil {
		t.Error(err)
	}
}

func TestDrainFinishesWhatRuns(t *testing.T) {
	h := open(t, Options{})
	w, busy, idle, unregistered := h.worker("worker_1"), h.client(), h.client(), h.dial(h.a.WorkerAddr())
	idleWorker := h.worker("worker_2")
	busy.send("TASK|t1|1\n")
	doer, other := w, idleWorker
	_ = doer.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	b := make([]byte, 1024)
	if _, err := doer.Read(b); err != nil {
		doer, other = other, doer
		doer.want("ASSIGN_TASK|t1|1\n")
	}
	_ = doer.SetReadDeadline(time.Now().Add(patience))
	_ = other.SetReadDeadline(time.Now().Add(patience))

	h.quit()
	idle.wantEnd()
	unregistered.wantEnd()
	other.wantEnd()
	busy.send("TASK|t2|2\n") // too late, and must not harm t1's result
	doer.send("TASK_RESULT|t1|done\n")
	busy.want("RESULT|t1|done\n")
	stopped := make(chan error)
	go func() { stopped <- h.stop() }()
	doer.wantEnd()
	if rest := busy.all(); rest != "" { // and no reset: that could have cost the result
		t.Errorf("got %q", rest)
	}
	_ = busy.Close()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestDrainTimeoutAnswersAndCutsOff(t *testing.T) {
	h := open(t, Options{DrainTimeout: 100 * time.Millisecond})
	w, c := h.worker("worker_1"), h.client()
	c.send("TASK|t1|1\nTASK|t2|1\n")
	if got := w.recv(); !strings.HasPrefix(got, "ASSIGN_TASK|") {
		t.Fatal(got)
	}
	began := time.Now()
	if err := h.stop(); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("stopped after %v", d)
	}
	got := c.all()
	for line := range strings.Lines(got) {
		if !strings.HasSuffix(line, "|ERROR: the text adapter is shutting down\n") {
			t.Errorf("got %q", line)
		}
	}
	if strings.Count(got, "\n") != 2 {
		t.Errorf("got %q for two tasks", got)
	}
	w.wantEnd()
}

func TestNoBalancer(t *testing.T) {
	h := open(t, Options{DrainTimeout: 200 * time.Millisecond, ConnectTimeout: 200 * time.Millisecond})
	c, w := h.client(), h.worker("worker_1") // the worker is acknowledged all the same
	_ = h.conn.Close()
	c.send("TASK|t1|1\n")
	if got := c.recv(); !strings.HasPrefix(got, "RESULT|t1|ERROR: ") {
		t.Errorf("got %q", got)
	}
	_ = w.Close()
	until(t, "the worker's end", func() bool { return h.a.Counters().OpenWorkers == 0 })
}
