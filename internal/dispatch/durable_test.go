package dispatch

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"reparto/internal/balance"
	"reparto/internal/task"
)

func openOn(t testing.TB, s Store) *Dispatcher {
	t.Helper()
	d, err := Open(Options{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Neither the client nor a worker hears of a task before it is on disk, and a
// result is acknowledged no sooner.
func TestNothingIsSaidBeforeItIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.gate = make(chan struct{})
		d := openOn(t, s)
		defer d.Close()
		defer close(s.gate)
		ses := attach(t, d, "w", 1, "f")
		told := make(chan Enqueuing, 1)
		go func() { told <- enqueue(d, durableTask("t", "x")) }()
		synctest.Wait()
		quiet(t, ses)
		if len(told) > 0 {
			t.Fatal("the task was acknowledged before it was written")
		}
		s.gate <- struct{}{}
		if e := <-told; e.Err != nil {
			t.Fatal(e.Err)
		}
		a := assigned(t, ses)
		answer(ses, a, "y")
		synctest.Wait()
		var f Frame
		if ses.take(&f) {
			t.Fatalf("%+v was sent before the result was written", f)
		}
		s.gate <- struct{}{}
		if f = next(t, ses); !slices.Equal(f.Acked, []uint64{a.Token}) {
			t.Fatalf("acknowledged are %x, want %x", f.Acked, a.Token)
		}
		if r, err := d.Task(context.Background(), "t"); err != nil || string(r.Outcome.Result) != "y" || len(r.Attempts) != 1 || r.Attempts[0].Ended.IsZero() {
			t.Fatalf("%+v, %v", r, err)
		}
	})
}

// A worker that leaves is told that no more will come only when it has what was on its
// way to disk.
func TestALeavingWorkerGetsWhatIsBeingWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		d := openOn(t, s)
		defer d.Close()
		mustEnqueue(t, d, durableTask("t", "x"))
		s.gate = make(chan struct{})
		defer close(s.gate)
		ses := attach(t, d, "w", 1, "f")
		ses.Drain()
		synctest.Wait()
		quiet(t, ses)
		s.gate <- struct{}{}
		if f := next(t, ses); len(f.Assign) != 1 {
			t.Fatalf("the first frame is %+v, want the task", f)
		} else if f.Drain {
			return // both travel together
		}
		synctest.Wait()
		var f Frame
		if !ses.take(&f) || !f.Drain {
			t.Fatalf("after the task there is %+v, want the end", f)
		}
	})
}

// A store that fails: nothing durable is acknowledged or given out, what was
// submitted goes on, and all is well again when the store is.
func TestAStoreThatFails(t *testing.T) {
	for _, late := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeStore()
			d := openOn(t, s)
			defer d.Close()
			ses := attach(t, d, "w", 2, "f")
			mustEnqueue(t, d, durableTask("before", "x"))
			before := assigned(t, ses)
			s.late = late
			s.fail(errDisk)
			var down *StoreError
			if e := enqueue(d, durableTask("refused", "x")); !errors.As(e.Err, &down) || !errors.Is(e.Err, errDisk) {
				t.Fatalf("enqueue on a failing disk: %v", e.Err)
			}
			quiet(t, ses)
			answer(ses, before, "kept") // its result comes while nothing can be written
			c := newClient()
			submit(t, d, c, 1, newTask("f", "volatile"))
			if a := assigned(t, ses); string(a.Payload) != "volatile" {
				t.Fatalf("%+v was assigned, want the submitted task", a)
			} else {
				answer(ses, a, "done")
			}
			time.Sleep(3 * time.Second)
			if d.Info().StoreError == nil {
				t.Fatal("nobody can see that the store fails")
			}
			s.fail(nil)
			time.Sleep(3 * time.Second)
			if err := d.Info().StoreError; err != nil {
				t.Fatalf("the store works, but: %v", err)
			}
			if r, err := d.Task(context.Background(), "before"); err != nil || string(r.Outcome.Result) != "kept" {
				t.Fatalf("the result that came meanwhile: %+v, %v", r, err)
			}
			if _, err := d.Task(context.Background(), "refused"); !errors.Is(err, ErrTaskNotFound) {
				t.Fatalf("the refused task: %v", err)
			}
			if s.state("refused") != task.None {
				t.Fatal("the refused task is left in the store")
			}
			mustEnqueue(t, d, durableTask("after", "x"))
			if a := assigned(t, ses); a.TaskID != "after" {
				t.Fatalf("%s was assigned, want after", a.TaskID)
			}
		})
	}
}

// restart opens another dispatcher on what the first has written, as after a
// kill.
func restart(t testing.TB, s *fakeStore) *Dispatcher {
	t.Helper()
	again := newFakeStore()
	s.mu.Lock()
	for id, r := range s.tasks {
		again.tasks[id] = r
	}
	again.paused = s.paused
	s.mu.Unlock()
	return openOn(t, again)
}

// After a restart queued tasks wait in their order, and a task that ran waits
// for its worker: claimed, it is not run again; its result, however late, is
// taken; unclaimed, it is queued before the others.
func TestARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		d := openOn(t, s)
		defer d.Close()
		ses := attach(t, d, "w", 3, "f")
		given := map[string]Assignment{}
		for _, id := range []string{"running", "finished", "lost"} {
			mustEnqueue(t, d, durableTask(id, "p-"+id))
			given[id] = assigned(t, ses)
		}
		for _, id := range []string{"q3", "q1", "q2"} {
			mustEnqueue(t, d, durableTask(id, "p-"+id))
			time.Sleep(time.Millisecond)
		}
		d2 := restart(t, s)
		defer d2.Close()
		again, err := d2.Attach(Registration{WorkerID: "w", Slots: 1, Functions: []string{"f"}, Running: []Claim{
			{TaskID: "running", Attempt: 1, Token: given["running"].Token},
			{TaskID: "finished", Attempt: 1, Token: given["finished"].Token, Finished: true},
		}})
		if err != nil {
			t.Fatal(err)
		}
		quiet(t, again) // its only slot is taken by what it claimed
		answer(again, given["finished"], "out")
		answer(again, given["running"], "out")
		if a := assigned(t, again); a.TaskID != "q3" || string(a.Payload) != "p-q3" {
			t.Fatalf("%+v is first, want q3", a)
		} else {
			time.Sleep(6 * time.Second) // nobody comes for "lost"
			answer(again, a, "")
		}
		for _, want := range []string{"lost", "q1", "q2"} {
			a := assigned(t, again)
			if a.TaskID != want || string(a.Payload) != "p-"+want {
				t.Fatalf("%+v, want %s", a, want)
			}
			answer(again, a, "")
		}
		synctest.Wait()
		for id, attempts := range map[string]int{"running": 1, "finished": 1, "lost": 2} {
			r, err := d2.Task(context.Background(), id)
			if err != nil || r.State != task.Succeeded || len(r.Attempts) != attempts {
				t.Errorf("%s: %+v, %v; want success and %d attempts", id, r, err, attempts)
			}
		}
	})
}

// A balancer that stops leaves what runs as it is.
func TestWhatRunsAtTheEndIsClaimedAtTheNextStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		d := openOn(t, s)
		mustEnqueue(t, d, durableTask("queued-later", "x"))
		ses := attach(t, d, "w", 1, "f")
		a := assigned(t, ses)
		d.Close()
		if got := s.state(a.TaskID); got != task.Running {
			t.Fatalf("stored as %v, want RUNNING", got)
		}
		d2 := restart(t, s)
		defer d2.Close()
		other := attach(t, d2, "other", 1, "f")
		quiet(t, other)
		back, err := d2.Attach(Registration{WorkerID: "w", Slots: 1, Functions: []string{"f"}, Running: []Claim{{TaskID: a.TaskID, Attempt: 1, Token: a.Token}}})
		if err != nil {
			t.Fatal(err)
		}
		answer(back, a, "once")
		r, err := d2.WaitTask(context.Background(), a.TaskID)
		if err != nil || string(r.Outcome.Result) != "once" || len(r.Attempts) != 1 || r.LostAttempts != 0 {
			t.Fatalf("%+v, %v", r, err)
		}
	})
}

func TestWaitCancelRetryExplainPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		s := newFakeStore()
		d := openOn(t, s)
		defer d.Close()
		if _, err := d.WaitTask(ctx, "t"); !errors.Is(err, ErrTaskNotFound) {
			t.Fatal(err)
		}
		mustEnqueue(t, d, durableTask("t", "x"))
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if r, err := d.WaitTask(short, "t"); err != nil || r.State != task.Queued {
			t.Fatalf("%+v, %v", r, err)
		}
		if was, err := d.PauseFunction(ctx, "f", true); was || err != nil || !s.paused["f"] {
			t.Fatal(was, err)
		}
		ses := attach(t, d, "w", 1, "f")
		quiet(t, ses)
		if x, err := d.ExplainTask(ctx, "t"); err != nil || !x.Paused || x.Workers != 1 || x.FreeSlots != 1 {
			t.Fatalf("%+v, %v", x, err)
		}
		if was, err := d.PauseFunction(ctx, "f", false); !was || err != nil || s.paused["f"] {
			t.Fatal(was, err)
		}
		a := assigned(t, ses)
		if _, err := d.RetryTask(ctx, "t"); !errors.Is(err, ErrNotFinished) {
			t.Fatal(err)
		}
		if r, err := d.CancelTask(ctx, "t"); err != nil || r.State != task.Cancelled {
			t.Fatalf("%+v, %v", r, err)
		}
		if f := next(t, ses); len(f.Cancel) != 1 || f.Cancel[0].Token != a.Token {
			t.Fatalf("%+v, want the assignment cancelled", f)
		}
		ses.Results([]Result{{TaskID: "t", Attempt: 1, Token: a.Token, Failure: &task.Failure{Reason: task.ReasonCancelled}}})
		if r, err := d.RetryTask(ctx, "t"); err != nil || r.State.Terminal() {
			t.Fatalf("%+v, %v", r, err)
		}
		a = assigned(t, ses)
		if a.Attempt != 2 || string(a.Payload) != "x" {
			t.Fatalf("%+v, want the second attempt with its payload", a)
		}
		answer(ses, a, "y")
		if r, err := d.WaitTask(ctx, "t"); err != nil || r.State != task.Succeeded || len(r.Attempts) != 2 {
			t.Fatalf("%+v, %v", r, err)
		}
		time.Sleep(time.Hour + 2*time.Second)
		if _, err := d.Task(ctx, "t"); !errors.Is(err, ErrTaskNotFound) || s.state("t") != task.None {
			t.Fatalf("after its retention: %v, stored as %v", err, s.state("t"))
		}
	})
}

// The same id with the same content is the same task, on disk too.
func TestEnqueueAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := openOn(t, newFakeStore())
		defer d.Close()
		own := func(payload string) task.Task {
			tk := durableTask("own", payload)
			tk.OwnID, tk.Fingerprint = true, tk.Content()
			return tk
		}
		mustEnqueue(t, d, own("x"))
		ses := attach(t, d, "w", 1, "f")
		for range 3 { // it waits or runs; it is kept; it is in the store alone
			if e := enqueue(d, own("x")); e.Err != nil || !e.Existed {
				t.Fatalf("%+v", e)
			}
			if e := enqueue(d, own("other")); !errors.Is(e.Err, ErrIDConflict) {
				t.Fatalf("%+v", e)
			}
			if d.Info().Running == 1 {
				answer(ses, assigned(t, ses), "y")
			}
			time.Sleep(45 * time.Second)
			ses.Heard()
		}
		quiet(t, ses)
	})
}

// Payloads beyond the bound are read when their turn comes.
func TestPayloadsOfALongQueueAreOnDiskAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, err := Open(Options{Store: newFakeStore(), Balance: balance.Options{MaxResident: 100}})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		var want []string
		for i := range 20 {
			payload := string(slices.Repeat([]byte{byte('a' + i)}, 50))
			mustEnqueue(t, d, durableTask(name(i), payload))
			want = append(want, payload)
		}
		ses := attach(t, d, "w", 20, "f")
		synctest.Wait()
		f := next(t, ses)
		for i, a := range f.Assign {
			if string(a.Payload) != want[i] {
				t.Fatalf("task %d has payload %q, want %q", i, a.Payload, want[i])
			}
		}
		if len(f.Assign) != 20 {
			t.Fatalf("%d tasks in the frame", len(f.Assign))
		}
	})
}
