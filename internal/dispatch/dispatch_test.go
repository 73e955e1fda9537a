package dispatch

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reparto/internal/balance"
	"reparto/internal/task"
)

func TestOptionsAtTheirEdges(t *testing.T) {
	for _, c := range []struct {
		what string
		o    Options
		want string // in the error; "" when it is good
	}{
		{"zero", Options{}, ""},
		{"shortest timeout", Options{DefaultTimeout: time.Millisecond}, ""},
		{"timeout too short", Options{DefaultTimeout: time.Millisecond - 1}, "default timeout"},
		{"timeout at the maximum", Options{DefaultTimeout: time.Hour, MaxTimeout: time.Hour}, ""},
		{"timeout over the maximum", Options{DefaultTimeout: time.Hour + 1, MaxTimeout: time.Hour}, "1h0m0s"},
		{"maximum negative", Options{MaxTimeout: -1}, "default timeout"},
		{"shortest heartbeat", Options{Heartbeat: 10 * time.Millisecond}, ""},
		{"heartbeat too short", Options{Heartbeat: 10*time.Millisecond - 1}, "heartbeat"},
		{"heartbeat negative", Options{Heartbeat: -1}, "heartbeat"},
		{"send limit negative", Options{SendLimit: -1}, "negative"},
		{"reconnect negative", Options{ReconnectAfter: -1}, "negative"},
		{"payload negative", Options{MaxPayload: -1}, "negative"},
		{"queue negative", Options{Balance: balance.Options{MaxQueuedTasks: -1}}, "negative"},
		{"kept negative", Options{Balance: balance.Options{MaxKeptBytes: -1}}, "negative"},
		{"backoff negative", Options{Balance: balance.Options{Backoff: -1}}, "negative"},
		{"most attempts", Options{DefaultMaxAttempts: task.MaxMaxAttempts}, ""},
		{"too many attempts", Options{DefaultMaxAttempts: task.MaxMaxAttempts + 1}, "max attempts 101"},
		{"attempts negative", Options{DefaultMaxAttempts: -1}, "max attempts -1"},
		{"lost negative", Options{Balance: balance.Options{MaxLost: -1}}, "max lost -1"},
	} {
		d, err := Open(c.o)
		if err == nil {
			d.Close()
		}
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v, want none", c.what, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v, want one with %q", c.what, err, c.want)
		}
	}
}

func TestOptionsInForce(t *testing.T) {
	o := open(t, Options{Balance: balance.Options{MaxLost: 7}}).Options()
	if o.DefaultTimeout != 5*time.Minute || o.MaxPayload != 4<<20 || o.Heartbeat != 10*time.Second {
		t.Errorf("own options %+v, want the documented defaults", o)
	}
	if b := o.Balance; b.MaxQueuedTasks != 1_000_000 || b.MaxFunctionQueuedTasks != 100_000 ||
		b.MaxFunctionQueuedBytes != 256<<20 || b.MaxBytes != 1<<30 || b.MaxLost != 7 {
		t.Errorf("the core's options %+v, want the documented defaults and 7 lost attempts", b)
	}
}

func TestDrainWaitsForWhatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, Options{ReconnectAfter: 3 * time.Second, Heartbeat: time.Hour})
		c, ses := newClient(), attach(t, d, "w1", 1, "sum")
		submit(t, d, c, 1, newTask("sum", "1"))
		submit(t, d, c, 2, newTask("sum", "2"))
		drained := make(chan error, 1)
		go func() { drained <- d.Drain(t.Context()) }()
		synctest.Wait()
		o := c.outcome(t, 2)
		if o.State != task.Cancelled || o.Failure == nil || o.Failure.Reason != task.CancelShutdown || o.WasRunning {
			t.Fatalf("the queued task ended %+v, want CANCELLED for SHUTDOWN", o)
		}
		c.untold(t, 1)
		batch := []Submission{{Number: 3, Task: newTask("sum", "3")}}
		if d.Submit(c, batch); !errors.Is(batch[0].Err, ErrDraining) {
			t.Fatalf("a new task: %v, want ErrDraining", batch[0].Err)
		}
		if _, err := d.Attach(Registration{Slots: 1, Functions: []string{"sum"}}); !errors.Is(err, ErrDraining) {
			t.Fatalf("a new worker: %v, want ErrDraining", err)
		}
		f := next(t, ses)
		if len(f.Assign) != 1 || !f.Drain || f.ReconnectAfter != 3*time.Second || !d.Info().Draining {
			t.Fatalf("frame %+v, want the running task and the notice to dial again after 3s", f)
		}
		passes(t, 20*time.Second)
		select {
		case err := <-drained:
			t.Fatalf("Drain returned %v while a task runs", err)
		default:
		}
		answer(ses, f.Assign[0], "1")
		if err := <-drained; err != nil {
			t.Fatal(err)
		}
		succeeded(t, c.outcome(t, 1), "1")
		if err := d.Drain(t.Context()); err != nil {
			t.Fatalf("a second Drain: %v", err)
		}
	})
}

func TestDrainEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, Options{Heartbeat: time.Hour})
		c := newClient()
		attach(t, d, "w1", 1, "sum")
		submit(t, d, c, 1, newTask("sum", "1"))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		if err := d.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Fatalf("Drain: %v after %v, want the context's end after 5s", err, time.Since(start))
		}
		c.untold(t, 1)
	})
}

func TestRetryAndLossDuringDrainEndTheTask(t *testing.T) {
	for what, end := range map[string]func(*Session, Assignment){
		"retry": func(s *Session, a Assignment) { fail(s, a, task.Failure{Reason: "BUSY", Retry: true}) },
		"loss":  func(s *Session, _ Assignment) { s.Detach() },
	} {
		d := open(t, Options{})
		c, ses := newClient(), attach(t, d, "w1", 1, "sum")
		submit(t, d, c, 1, newTask("sum", "1"))
		a := assigned(t, ses)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := d.Drain(ctx); err == nil {
			t.Fatalf("%s: Drain returned while a task ran", what)
		}
		end(ses, a)
		if o := c.outcome(t, 1); o.State != task.Cancelled || o.Failure.Reason != task.CancelShutdown || o.Attempt != 1 {
			t.Fatalf("%s: outcome %+v, want CANCELLED for SHUTDOWN after attempt 1", what, o)
		}
		if err := d.Drain(t.Context()); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

func TestCloseEndsEverything(t *testing.T) {
	d := open(t, Options{})
	c, ses := newClient(), attach(t, d, "w1", 1, "sum")
	submit(t, d, c, 1, newTask("sum", "1"))
	submit(t, d, c, 2, newTask("sum", "2"))
	a := assigned(t, ses)
	drained := make(chan error, 1)
	go func() { drained <- d.Drain(t.Context()) }()
	d.Close()
	d.Close()
	if err := <-drained; err != nil {
		t.Fatalf("Drain beside Close: %v", err)
	}
	for n := range uint64(2) {
		if o := c.outcome(t, n+1); o.State != task.Cancelled || o.Failure.Reason != task.CancelShutdown {
			t.Fatalf("task %d ended %+v, want CANCELLED for SHUTDOWN", n+1, o)
		}
	}
	var f Frame
	if err := ses.Next(&f); !errors.Is(err, ErrClosed) {
		t.Fatalf("Next: %v, want ErrClosed", err)
	}
	answer(ses, a, "late")
	ses.Detach()
	if batch := []Submission{{Task: newTask("sum", "3")}}; true {
		if d.Submit(c, batch); !errors.Is(batch[0].Err, ErrDraining) {
			t.Fatalf("a task after Close: %v, want ErrDraining", batch[0].Err)
		}
	}
	if _, err := d.Attach(Registration{Slots: 1, Functions: []string{"sum"}}); !errors.Is(err, ErrDraining) {
		t.Fatalf("a worker after Close: %v, want ErrDraining", err)
	}
	empty(t, d)
}

func TestTwoRunsHaveTwoNames(t *testing.T) {
	a, b := open(t, Options{}), open(t, Options{})
	if a.ID() == b.ID() || len(a.ID()) != 36 {
		t.Fatalf("runs are called %q and %q", a.ID(), b.ID())
	}
}
