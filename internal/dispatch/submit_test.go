package dispatch

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reparto/internal/balance"
	"reparto/internal/task"
)

func TestOutcomeReachesItsWaiterOnce(t *testing.T) {
	d := open(t, Options{})
	c, ses := newClient(), attach(t, d, "w1", 2, "sum")
	submit(t, d, c, 7, newTask("sum", "1,2"))
	a := assigned(t, ses)
	if a.Function != "sum" || string(a.Payload) != "1,2" || a.Attempt != 1 || len(a.TaskID) != 36 {
		t.Fatalf("assignment is %+v, want attempt 1 of sum 1,2 under a UUID", a)
	}
	answer(ses, a, "3")
	answer(ses, a, "4") // again, and late
	o := c.outcome(t, 7)
	succeeded(t, o, "3")
	if o.WorkerID != "w1" || o.Attempt != 1 || c.told[7][0].id != a.TaskID {
		t.Fatalf("outcome %+v of task %s, want attempt 1 of w1 for %s", o, c.told[7][0].id, a.TaskID)
	}
	ses.Detach()
	empty(t, d)
}

func TestJoinedWaitersGetTheSameOutcome(t *testing.T) {
	d := open(t, Options{})
	ses := attach(t, d, "w1", 2, "sum")
	c := newClient()
	submit(t, d, c, 1, ownTask("id", "sum", "1,2"))
	submit(t, d, c, 2, ownTask("id", "sum", "1,2"))
	other := newClient()
	submit(t, d, other, 1, ownTask("id", "sum", "1,2"))
	answer(ses, assigned(t, ses), "3")
	for _, o := range []task.Outcome{c.outcome(t, 1), c.outcome(t, 2), other.outcome(t, 1)} {
		succeeded(t, o, "3")
	}
	// The outcome is kept: one who asks again gets it without a worker.
	submit(t, d, other, 2, ownTask("id", "sum", "1,2"))
	succeeded(t, other.outcome(t, 2), "3")
	quiet(t, ses)
	ses.Detach()
	empty(t, d)
}

func TestTheLastWaiterToLeaveCancels(t *testing.T) {
	for name, order := range map[string][]int{"first leaves first": {0, 1, 2}, "last leaves first": {2, 1, 0}, "middle": {1, 0, 2}} {
		t.Run(name, func(t *testing.T) {
			d := open(t, Options{})
			ses, c := attach(t, d, "w1", 1, "sum"), newClient()
			var tickets []Ticket
			for i := range 3 {
				tickets = append(tickets, submit(t, d, c, uint64(i), ownTask("id", "sum", "1")))
			}
			a := assigned(t, ses)
			d.Abandon(c, tickets[order[0]])
			d.Abandon(c, tickets[order[1]], tickets[order[0]]) // twice does no harm
			quiet(t, ses)
			if n := d.Info().Running; n != 1 {
				t.Fatalf("%d tasks run after all but one waiter left, want 1", n)
			}
			d.Abandon(c, tickets[order[2]])
			f := next(t, ses)
			if len(f.Cancel) != 1 || f.Cancel[0] != (Cancel{"id", a.Token, task.CancelClientGone}) {
				t.Fatalf("frame %+v, want the cancel of %s for CLIENT_GONE", f, a.TaskID)
			}
			fail(ses, a, task.Failure{Reason: task.ReasonCancelled})
			for i := range uint64(3) {
				c.untold(t, i)
			}
			ses.Detach()
			empty(t, d)
		})
	}
}

func TestOneWhoStaysGetsTheOutcome(t *testing.T) {
	d := open(t, Options{})
	ses, gone, stays := attach(t, d, "w1", 1, "sum"), newClient(), newClient()
	first := submit(t, d, gone, 1, ownTask("id", "sum", "1"))
	submit(t, d, stays, 1, ownTask("id", "sum", "1"))
	d.Abandon(gone, first)
	answer(ses, assigned(t, ses), "1")
	succeeded(t, stays.outcome(t, 1), "1")
	gone.untold(t, 1)
}

func TestAbandonedInTheQueueIsNeverGivenOut(t *testing.T) {
	d := open(t, Options{})
	c := newClient()
	ticket := submit(t, d, c, 1, newTask("sum", "1"))
	d.Abandon(c, ticket)
	if n := d.Info(); n.Queued != 0 || n.Bytes != 0 {
		t.Fatalf("%+v after the only waiter left, want nothing queued", n.Counts)
	}
	quiet(t, attach(t, d, "w1", 1, "sum"))
	c.untold(t, 1)
}

func TestTicketsOfAnIndexThatIsUsedAgain(t *testing.T) {
	d := open(t, Options{})
	ses, c := attach(t, d, "w1", 1, "sum"), newClient()
	old := submit(t, d, c, 1, newTask("sum", "1"))
	answer(ses, assigned(t, ses), "1")
	fresh := submit(t, d, c, 1, newTask("sum", "2"))
	if fresh.ref.Index != old.ref.Index {
		t.Fatalf("the second task has index %d, the first had %d: this test needs them equal", fresh.ref.Index, old.ref.Index)
	}
	d.Abandon(c, old, Ticket{})
	answer(ses, assigned(t, ses), "2")
	if got := c.told[1]; len(got) != 2 || string(got[1].o.Result) != "2" {
		t.Fatalf("outcomes %+v: the second task must not be hit by the first one's ticket", got)
	}
}

func TestAbandonOfWhatIsUnknownIsIgnored(t *testing.T) {
	d := open(t, Options{})
	d.Abandon(nil)
	d.Abandon(nil, Ticket{}, Ticket{ref: balance.Ref{Index: 1 << 30}})
	empty(t, d)
}

func TestRefusalsInABatchLeaveTheOthersAlone(t *testing.T) {
	d := open(t, Options{Balance: balance.Options{MaxFunctionQueuedTasks: 2}})
	c := newClient()
	fast := newTask("nobody", "")
	fast.FailFast = true
	batch := []Submission{
		{Number: 1, Task: ownTask("id", "sum", "1")},
		{Number: 2, Task: ownTask("id", "sum", "other")},
		{Number: 3, Task: fast},
		{Number: 4, Task: newTask("sum", "2")},
		{Number: 5, Task: newTask("sum", "3")},
		{Number: 6, Task: newTask("echo", "3")},
	}
	d.Submit(c, batch)
	var full *QueueFullError
	switch {
	case batch[0].Err != nil || batch[3].Err != nil || batch[5].Err != nil:
		t.Fatalf("good tasks were refused: %v, %v, %v", batch[0].Err, batch[3].Err, batch[5].Err)
	case !errors.Is(batch[1].Err, ErrIDConflict):
		t.Fatalf("other content under one id: %v, want ErrIDConflict", batch[1].Err)
	case !errors.Is(batch[2].Err, ErrNoWorker):
		t.Fatalf("fail_fast with no worker: %v, want ErrNoWorker", batch[2].Err)
	case !errors.As(batch[4].Err, &full) || full.Max != 2 || !strings.Contains(full.Error(), "sum"):
		t.Fatalf("the third in a queue of two: %v, want a QueueFullError that names sum and 2", batch[4].Err)
	}
	if n := d.Info().Queued; n != 3 {
		t.Fatalf("%d queued, want 3", n)
	}
	for _, b := range batch {
		if b.Err != nil {
			c.untold(t, b.Number)
		}
		d.Abandon(c, b.Ticket)
	}
	empty(t, d)
}

func TestDeadlineFiresOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, Options{Heartbeat: time.Hour})
		c, ses := newClient(), attach(t, d, "w1", 1, "sum")
		// The sooner one is told later: the clock must be set anew.
		running, queued := newTask("sum", "1"), newTask("sum", "2")
		running.Deadline = time.Now().Add(1000 * time.Millisecond)
		queued.Deadline = time.Now().Add(700 * time.Millisecond)
		submit(t, d, c, 1, running)
		submit(t, d, c, 2, queued)
		a := assigned(t, ses)
		passes(t, 699*time.Millisecond)
		c.untold(t, 2)
		passes(t, time.Millisecond)
		if o := c.outcome(t, 2); o.State != task.Expired || o.WasRunning || o.Attempt != 0 {
			t.Fatalf("outcome %+v, want EXPIRED while it was queued", o)
		}
		passes(t, 299*time.Millisecond)
		c.untold(t, 1)
		passes(t, time.Millisecond)
		if o := c.outcome(t, 1); o.State != task.Expired || !o.WasRunning || o.Attempt != 1 {
			t.Fatalf("outcome %+v, want EXPIRED while it ran", o)
		}
		if f := next(t, ses); len(f.Cancel) != 1 || f.Cancel[0] != (Cancel{a.TaskID, a.Token, task.CancelDeadline}) {
			t.Fatalf("frame %+v, want the cancel for DEADLINE", f)
		}
		ses.Detach()
		empty(t, d)
	})
}

func TestAttemptTimeoutMovesTheTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, Options{Heartbeat: time.Hour, Balance: balance.Options{Backoff: 50 * time.Millisecond}})
		c, slow, other := newClient(), attach(t, d, "w1", 1, "sum"), attach(t, d, "w2", 1, "sum")
		tk := newTask("sum", "1")
		tk.AttemptTimeout, tk.MaxAttempts = 200*time.Millisecond, 2
		submit(t, d, c, 1, tk)
		a := assigned(t, slow)
		passes(t, 199*time.Millisecond)
		quiet(t, slow)
		passes(t, time.Millisecond)
		if f := next(t, slow); len(f.Cancel) != 1 || f.Cancel[0].Reason != task.CancelAttemptTimeout {
			t.Fatalf("frame %+v, want the cancel for ATTEMPT_TIMEOUT", f)
		}
		passes(t, 49*time.Millisecond)
		quiet(t, other)
		passes(t, time.Millisecond)
		b := assigned(t, other)
		if b.TaskID != a.TaskID || b.Attempt != 2 || b.Token == a.Token {
			t.Fatalf("second assignment %+v after %+v, want attempt 2 under a token of its own", b, a)
		}
		passes(t, 200*time.Millisecond)
		o := c.outcome(t, 1)
		if o.State != task.Failed || o.Failure.Reason != task.ReasonAttemptTimeout {
			t.Fatalf("outcome %+v, want FAILED for ATTEMPT_TIMEOUT after the second attempt", o)
		}
	})
}

func TestRetryWaitsAsLongAsItsWorkerAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, Options{Heartbeat: time.Hour})
		c, ses := newClient(), attach(t, d, "w1", 1, "sum")
		submit(t, d, c, 1, newTask("sum", "1"))
		fail(ses, assigned(t, ses), task.Failure{Reason: "BUSY", Retry: true, RetryAfter: 3 * time.Second})
		if n := d.Info(); n.Scheduled != 1 {
			t.Fatalf("%+v, want one task that waits for its backoff", n.Counts)
		}
		passes(t, 3*time.Second-1)
		quiet(t, ses)
		passes(t, 1)
		answer(ses, assigned(t, ses), "ok")
		succeeded(t, c.outcome(t, 1), "ok")
	})
}

// passes lets the bubble's time pass, and all that follows happen.
func passes(t *testing.T, d time.Duration) {
	t.Helper()
	time.Sleep(d)
	synctest.Wait()
}
