package dispatch

import (
	"testing"
	"testing/synctest"
	"time"
)

// busyWorker is a session with so many tasks that it was given and has not answered.
func busyWorker(t *testing.T, d *Dispatcher, c *client, unanswered int) (ses *Session, given []Assignment) {
	t.Helper()
	ses = attach(t, d, "w1", 1024, "sum")
	submitMany(t, d, c, unanswered, 0)
	f := next(t, ses)
	if len(f.Assign) != unanswered {
		t.Fatalf("%d assignments in the first frame, want %d", len(f.Assign), unanswered)
	}
	return ses, f.Assign
}

func submitMany(t *testing.T, d *Dispatcher, c *client, n, payload int) {
	t.Helper()
	batch := make([]Submission, n)
	for i := range batch {
		batch[i].Task = newTask("sum", string(make([]byte, payload)))
	}
	d.Submit(c, batch)
}

func TestWhatABusyWorkerGetsGathers(t *testing.T) {
	for _, c := range []struct {
		what       string
		unanswered int
		do         func(t *testing.T, d *Dispatcher, c *client, ses *Session, given []Assignment)
		tasks      int // in the next frame
		after      time.Duration
	}{
		{"a worker with one fewer does not wait", manyUnanswered - 1, nil, 1, 0},
		{"a moment passes", manyUnanswered, nil, 1, moment},
		{"it answers one of 66", manyUnanswered + 2, func(_ *testing.T, _ *Dispatcher, _ *client, ses *Session, given []Assignment) {
			answer(ses, given[0], "1")
		}, 1, moment / 4},
		{"one fewer than many are pending", manyUnanswered, func(t *testing.T, d *Dispatcher, c *client, _ *Session, _ []Assignment) {
			submitMany(t, d, c, manyPending-2, 1)
		}, manyPending - 1, moment},
		{"many are pending", manyUnanswered, func(t *testing.T, d *Dispatcher, c *client, _ *Session, _ []Assignment) {
			submitMany(t, d, c, manyPending-1, 1)
		}, manyPending, moment / 4},
		{"the worker leaves", manyUnanswered, func(_ *testing.T, _ *Dispatcher, _ *client, ses *Session, _ []Assignment) {
			ses.Drain()
		}, 1, moment / 4},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, cl := open(t, Options{}), newClient()
				ses, given := busyWorker(t, d, cl, c.unanswered)
				began := time.Now()
				submitMany(t, d, cl, 1, 1)
				got := make(chan Frame, 1)
				go func() { got <- next(t, ses) }()
				if c.do != nil {
					time.Sleep(moment / 4)
					c.do(t, d, cl, ses, given)
				}
				f := <-got
				if after := time.Since(began); len(f.Assign) != c.tasks || after != c.after {
					t.Errorf("%d tasks came after %v, want %d after %v", len(f.Assign), after, c.tasks, c.after)
				}
			})
		})
	}
}

// What is about one of the tasks that the worker has does not wait, and takes along
// what does.
func TestACancellationTakesAlongWhatGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, c := open(t, Options{}), newClient()
		ses := attach(t, d, "w1", 1024, "sum")
		ticket := submit(t, d, c, 0, newTask("sum", "1"))
		submitMany(t, d, c, manyUnanswered, 1)
		next(t, ses)
		began := time.Now()
		submitMany(t, d, c, 1, 1)
		got := make(chan Frame, 1)
		go func() { got <- next(t, ses) }()
		synctest.Wait()
		d.Abandon(ticket)
		if f := <-got; len(f.Assign) != 1 || len(f.Cancel) != 1 || time.Since(began) != 0 {
			t.Errorf("%d tasks and %d cancellations came after %v, want 1 and 1 at once", len(f.Assign), len(f.Cancel), time.Since(began))
		}
	})
}

// A session that ends while something gathers ends at once.
func TestASessionEndsWhileSomethingGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, c := open(t, Options{}), newClient()
		ses, _ := busyWorker(t, d, c, manyUnanswered)
		submitMany(t, d, c, 1, 1)
		ended := make(chan error, 1)
		go func() { var f Frame; ended <- ses.Next(&f) }()
		synctest.Wait()
		began := time.Now()
		ses.Detach()
		if err := <-ended; err != ErrDetached || time.Since(began) != 0 {
			t.Errorf("Next returned %v after %v, want ErrDetached at once", err, time.Since(began))
		}
	})
}
