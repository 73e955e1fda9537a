package dispatch

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reparto/internal/task"
)

func TestAttachChecksTheRegistration(t *testing.T) {
	d := open(t, Options{})
	for field, r := range map[string]Registration{
		"functions": {Slots: 1},
		"slots":     {Functions: []string{"sum"}},
		"worker_id": {WorkerID: "a b", Functions: []string{"sum"}, Slots: 1},
		"running":   {Functions: []string{"sum"}, Slots: 1, Running: make([]Claim, 2)},
	} {
		_, err := d.Attach(r)
		var bad *task.InvalidError
		if !errors.As(err, &bad) || bad.Field != field {
			t.Errorf("%+v: %v, want an error about %s", r, err, field)
		}
	}
	empty(t, d)
}

func TestAttachNamesTheNameless(t *testing.T) {
	d := open(t, Options{})
	a, b := attach(t, d, "", 1, "sum"), attach(t, d, "", 1, "sum")
	if len(a.WorkerID()) != 36 || a.WorkerID() == b.WorkerID() || a.ID() == b.ID() || a.ID() == a.WorkerID() {
		t.Fatalf("workers %s and %s in sessions %s and %s, want four names", a.WorkerID(), b.WorkerID(), a.ID(), b.ID())
	}
}

func TestSessionIsMadeToBeatWhenQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, Options{Heartbeat: time.Second})
		c, ses := newClient(), attach(t, d, "w1", 100, "sum")
		p := pull(ses)
		last := time.Now()
		for i := range 40 { // a worker that only beats stays
			passes(t, 250*time.Millisecond)
			ses.Heard()
			if i == 20 {
				submit(t, d, c, 1, newTask("sum", "1"))
				synctest.Wait()
			}
			for len(p.frames) > 0 {
				f := <-p.frames
				if gap := time.Since(last); gap > time.Second || (f.Heartbeat && gap < 500*time.Millisecond) {
					t.Fatalf("frame %+v came %v after the last, want a heartbeat within 1s and not at once", f, gap)
				}
				last = time.Now()
			}
			if time.Since(last) > time.Second {
				t.Fatalf("nothing was sent for %v", time.Since(last))
			}
		}
		select {
		case <-ses.Ended():
			t.Fatalf("the session ended: %v", ses.Err())
		default:
		}
	})
}

func TestSilentWorkerIsGoneAfterThreeIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, Options{Heartbeat: time.Second})
		c, silent := newClient(), attach(t, d, "w1", 1, "sum")
		p := pull(silent)
		submit(t, d, c, 1, newTask("sum", "1"))
		other := attach(t, d, "w2", 1, "sum")
		q := pull(other)
		for range 11 {
			passes(t, 250*time.Millisecond)
			other.Heard()
		}
		select {
		case err := <-p.err:
			t.Fatalf("the session ended after 2.75 intervals: %v", err)
		default:
		}
		passes(t, 500*time.Millisecond)
		if err := <-p.err; !errors.Is(err, ErrSilent) || !errors.Is(silent.Err(), ErrSilent) {
			t.Fatalf("the session ended with %v, %v; want ErrSilent", err, silent.Err())
		}
		var moved []Assignment
		for len(q.frames) > 0 {
			moved = append(moved, (<-q.frames).Assign...)
		}
		if len(moved) != 1 || moved[0].Attempt != 2 {
			t.Fatalf("the other worker was given %+v, want attempt 2", moved)
		}
		// A late output of the silent one is taken: nobody else has one yet.
		first := (<-p.frames).Assign[0]
		answer(silent, first, "late")
		succeeded(t, c.outcome(t, 1), "late")
		synctest.Wait()
		if f := <-q.frames; len(f.Cancel) != 1 || f.Cancel[0].Reason != task.CancelSuperseded {
			t.Fatalf("frame %+v, want the second attempt cancelled as SUPERSEDED", f)
		}
		answer(other, moved[0], "2") // and this is ignored
		if c.count(1) != 1 {
			t.Fatalf("Done was called %d times", c.count(1))
		}
	})
}

func TestSendThatBlocksEndsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, Options{Heartbeat: time.Second, SendLimit: 2 * time.Second})
		c, stuck := newClient(), attach(t, d, "w1", 2, "sum")
		submit(t, d, c, 1, newTask("sum", "1"))
		submit(t, d, c, 2, newTask("sum", "2"))
		first := next(t, stuck) // taken, and the send of it never ends
		if len(first.Assign) != 2 {
			t.Fatalf("frame %+v, want both tasks", first)
		}
		other := attach(t, d, "w2", 2, "sum")
		q := pull(other)
		for range 7 {
			passes(t, 250*time.Millisecond)
			stuck.Heard() // it talks, but it does not read
			other.Heard()
		}
		select {
		case <-stuck.Ended():
			t.Fatalf("ended after 1.75s: %v", stuck.Err())
		default:
		}
		for range 2 {
			passes(t, 250*time.Millisecond)
			other.Heard()
		}
		<-stuck.Ended()
		var f Frame
		if err := stuck.Next(&f); !errors.Is(err, ErrSendBlocked) {
			t.Fatalf("Next: %v, want ErrSendBlocked", err)
		}
		moved := 0
		for len(q.frames) > 0 {
			f := <-q.frames
			for _, a := range f.Assign {
				if string(a.Payload) != string(rune('1'+moved)) {
					t.Fatalf("task %s moved in place %d: the order of the queue was lost", a.Payload, moved)
				}
				moved++
			}
		}
		if moved != 2 {
			t.Fatalf("%d tasks moved, want 2", moved)
		}
	})
}

func TestIdleSessionIsNeverBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, Options{Heartbeat: time.Second, SendLimit: time.Second})
		ses := attach(t, d, "w1", 2, "sum")
		p := pull(ses)
		for range 40 {
			passes(t, time.Second/2)
			ses.Heard()
		}
		select {
		case err := <-p.err:
			t.Fatalf("the session of a worker that reads all it is sent ended: %v", err)
		default:
		}
	})
}

func TestNewSessionReplacesTheOld(t *testing.T) {
	d := open(t, Options{})
	c, old := newClient(), attach(t, d, "w1", 2, "sum")
	submit(t, d, c, 1, newTask("sum", "1"))
	submit(t, d, c, 2, newTask("sum", "2"))
	f := next(t, old)
	keep, drop := f.Assign[0], f.Assign[1]
	fresh, err := d.Attach(Registration{WorkerID: "w1", Slots: 3, Functions: []string{"sum"}, Running: []Claim{
		{TaskID: keep.TaskID, Attempt: keep.Attempt, Token: keep.Token},
		{TaskID: "unknown", Attempt: 1, Token: 99},
	}})
	if err != nil {
		t.Fatal(err)
	}
	<-old.Ended()
	if !errors.Is(old.Err(), ErrReplaced) || d.Info().Sessions != 1 {
		t.Fatalf("old session: %v, %d sessions; want ErrReplaced and one", old.Err(), d.Info().Sessions)
	}
	g := next(t, fresh)
	if len(g.Assign) != 1 || g.Assign[0].TaskID != drop.TaskID || g.Assign[0].Attempt != 2 {
		t.Fatalf("the new session was assigned %+v, want only attempt 2 of what it did not claim", g.Assign)
	}
	if len(g.Cancel) != 1 || g.Cancel[0] != (Cancel{"unknown", 99, task.CancelSuperseded}) {
		t.Fatalf("the new session was told to cancel %+v, want the unknown one", g.Cancel)
	}
	answer(fresh, keep, "kept")
	succeeded(t, c.outcome(t, 1), "kept")
	answer(fresh, g.Assign[0], "again")
	succeeded(t, c.outcome(t, 2), "again")
	old.Detach() // its border notices late
	fresh.Detach()
	empty(t, d)
}

func TestDetachMovesTheTasksAtOnce(t *testing.T) {
	d := open(t, Options{})
	c, a := newClient(), attach(t, d, "w1", 1, "sum")
	submit(t, d, c, 1, newTask("sum", "1"))
	b := attach(t, d, "w2", 1, "sum")
	a.Detach()
	a.Detach()
	if got := assigned(t, b); got.Attempt != 2 {
		t.Fatalf("%+v, want attempt 2", got)
	}
	var f Frame
	if err := a.Next(&f); !errors.Is(err, ErrDetached) {
		t.Fatalf("Next: %v, want ErrDetached", err)
	}
	a.Drain()
	a.Progress(1, Progress{})
	a.Results(nil)
	consistent(t, d)
}

func TestTaskThatCostsTooManyWorkersFails(t *testing.T) {
	d := open(t, Options{})
	c := newClient()
	submit(t, d, c, 1, newTask("sum", "1"))
	for i := range 3 {
		c.untold(t, 1)
		ses := attach(t, d, name(i), 1, "sum")
		if a := assigned(t, ses); a.Attempt != i+1 {
			t.Fatalf("attempt %d, want %d", a.Attempt, i+1)
		}
		ses.Detach()
	}
	if o := c.outcome(t, 1); o.State != task.Failed || o.Failure.Reason != task.ReasonWorkerLost || o.Attempt != 3 {
		t.Fatalf("outcome %+v, want FAILED for WORKER_LOST after 3", o)
	}
	empty(t, d)
}

func TestWorkerThatDrainsFinishesWhatItHolds(t *testing.T) {
	d := open(t, Options{})
	c, ses := newClient(), attach(t, d, "w1", 2, "sum")
	submit(t, d, c, 1, newTask("sum", "1"))
	ses.Drain()
	submit(t, d, c, 2, newTask("sum", "2"))
	f := next(t, ses)
	if len(f.Assign) != 1 || !f.Drain || f.ReconnectAfter != 0 {
		t.Fatalf("frame %+v, want the one task and the drain notice", f)
	}
	answer(ses, f.Assign[0], "1")
	succeeded(t, c.outcome(t, 1), "1")
	quiet(t, ses)
	if n := d.Info(); n.Queued != 1 {
		t.Fatalf("%+v, want the second task to wait", n.Counts)
	}
}

func TestResultAtThePayloadLimit(t *testing.T) {
	d := open(t, Options{MaxPayload: 10})
	c, ses := newClient(), attach(t, d, "w1", 1, "sum")
	submit(t, d, c, 1, newTask("sum", "1"))
	answer(ses, assigned(t, ses), "0123456789")
	succeeded(t, c.outcome(t, 1), "0123456789")
	submit(t, d, c, 2, newTask("sum", "1"))
	answer(ses, assigned(t, ses), "0123456789X")
	o := c.outcome(t, 2)
	if o.State != task.Failed || o.Failure.Reason != task.ReasonResultTooLarge || o.Failure.Retry ||
		!strings.Contains(o.Failure.Message, "11 bytes") || !strings.Contains(o.Failure.Message, "10 are allowed") {
		t.Fatalf("outcome %+v %+v, want FAILED for RESULT_TOO_LARGE with both numbers", o, o.Failure)
	}
}

func TestFailureMessageOverThePayloadLimitIsCut(t *testing.T) {
	d := open(t, Options{MaxPayload: 16})
	c, ses := newClient(), attach(t, d, "w1", 1, "sum")
	submit(t, d, c, 1, newTask("sum", "1"))
	fail(ses, assigned(t, ses), task.Failure{Reason: strings.Repeat("R", 129), Message: strings.Repeat("ñ", 40)})
	f := c.outcome(t, 1).Failure
	if f.Reason != strings.Repeat("R", 128) || f.Message != strings.Repeat("ñ", 8) {
		t.Fatalf("reason %q message %q, want 128 and 16 bytes, cut where a character ends", f.Reason, f.Message)
	}
}

// A worker that belongs to somebody else can't be pushed out.
func TestAWorkerIDOfAnotherPrincipal(t *testing.T) {
	d := open(t, Options{})
	r := Registration{WorkerID: "w1", Slots: 1, Functions: []string{"sum"}, Principal: "farm"}
	if _, err := d.Attach(r); err != nil {
		t.Fatal(err)
	}
	for _, thief := range []string{"thief", ""} {
		r.Principal = thief
		if _, err := d.Attach(r); !errors.Is(err, ErrWorkerIDTaken) {
			t.Errorf("principal %q: %v, want ErrWorkerIDTaken", thief, err)
		}
	}
	r.Principal = "farm"
	if _, err := d.Attach(r); err != nil || d.Info().Sessions != 1 {
		t.Errorf("its own principal: %v, %d sessions", err, d.Info().Sessions)
	}
}

// An owner's limits are those that were set last.
func TestLimitOwners(t *testing.T) {
	d := open(t, Options{})
	d.LimitOwners(OwnerLimits{Tasks: 1}, nil)
	c, task := newClient(), newTask("sum", "1")
	task.Owner = "o"
	batch := []Submission{{Number: 1, Task: task}, {Number: 2, Task: task}}
	d.Submit(c, batch)
	if full, ok := errors.AsType[*QueueFullError](batch[1].Err); batch[0].Err != nil || !ok || full.Max != 1 {
		t.Fatalf("%v, %v; want room for one", batch[0].Err, batch[1].Err)
	}
	d.LimitOwners(OwnerLimits{}, nil)
	batch[1].Err = nil
	if d.Submit(c, batch[1:]); batch[1].Err != nil {
		t.Fatalf("%v when there is no limit", batch[1].Err)
	}
}
