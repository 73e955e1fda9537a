package dispatch

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"reparto/internal/task"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open starts a dispatcher that ends with the test, or with its bubble.
func open(t testing.TB, o Options) *Dispatcher {
	t.Helper()
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// client is a Waiter that remembers what it was told.
type client struct {
	mu   sync.Mutex
	told map[uint64][]told
}

type told struct {
	id string
	o  task.Outcome
}

func newClient() *client { return &client{told: map[uint64][]told{}} }

func (c *client) Done(finished []Finished) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range finished {
		c.told[f.Number] = append(c.told[f.Number], told{f.TaskID, f.Outcome})
	}
}

// count tells how often Done was called for the number.
func (c *client) count(number uint64) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.told[number])
}

// outcome returns what Done was told for the number, exactly once.
func (c *client) outcome(t testing.TB, number uint64) task.Outcome {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.told[number]); n != 1 {
		t.Fatalf("task number %d: Done was called %d times, want once", number, n)
	}
	return c.told[number][0].o
}

// untold fails if Done was called for the number.
func (c *client) untold(t testing.TB, number uint64) {
	t.Helper()
	if n := c.count(number); n != 0 {
		t.Fatalf("task number %d: Done was called %d times (%+v), want none", number, n, c.told[number])
	}
}

// newTask is a valid task that has a minute.
func newTask(function, payload string) task.Task {
	return task.Task{
		Function: function, Payload: []byte(payload), Deadline: time.Now().Add(time.Minute), MaxAttempts: 3,
	}
}

// ownTask is one under the client's own id.
func ownTask(id, function, payload string) task.Task {
	tk := newTask(function, payload)
	tk.ID, tk.OwnID = id, true
	tk.Fingerprint = tk.Content()
	return tk
}

// submit hands over one task that must be accepted.
func submit(t testing.TB, d *Dispatcher, c *client, number uint64, tk task.Task) Ticket {
	t.Helper()
	batch := []Submission{{Number: number, Task: tk}}
	d.Submit(c, batch)
	if batch[0].Err != nil {
		t.Fatalf("task number %d was refused: %v", number, batch[0].Err)
	}
	return batch[0].Ticket
}

func attach(t testing.TB, d *Dispatcher, id string, slots int, functions ...string) *Session {
	t.Helper()
	ses, err := d.Attach(Registration{WorkerID: id, Slots: slots, Functions: functions})
	if err != nil {
		t.Fatal(err)
	}
	return ses
}

// next takes the frame that is ready.
func next(t testing.TB, ses *Session) Frame {
	t.Helper()
	var f Frame
	if err := ses.Next(&f); err != nil {
		t.Fatalf("worker %s: Next: %v", ses.WorkerID(), err)
	}
	return f
}

// assigned takes the next frame that is more than acknowledgements, whose
// moment is the committer's to choose. It must assign exactly one task.
func assigned(t testing.TB, ses *Session) Assignment {
	t.Helper()
	f := next(t, ses)
	for onlyAcks(&f) {
		f = next(t, ses)
	}
	if len(f.Assign) != 1 {
		t.Fatalf("worker %s: %d assignments in the frame %+v, want 1", ses.WorkerID(), len(f.Assign), f)
	}
	return f.Assign[0]
}

// quiet fails if there is anything to send to the worker.
func quiet(t testing.TB, ses *Session) {
	t.Helper()
	var f Frame
	if ses.take(&f) && !onlyAcks(&f) {
		t.Fatalf("worker %s: was given %+v, want nothing", ses.WorkerID(), f)
	}
}

// onlyAcks is about frames that most tests look past; acknowledgements have
// tests of their own.
func onlyAcks(f *Frame) bool { return len(f.Assign)+len(f.Cancel) == 0 && !f.Heartbeat && !f.Drain }

func answer(ses *Session, a Assignment, output string) {
	ses.Results([]Result{{TaskID: a.TaskID, Attempt: a.Attempt, Token: a.Token, Output: []byte(output)}})
}

func fail(ses *Session, a Assignment, f task.Failure) {
	ses.Results([]Result{{TaskID: a.TaskID, Attempt: a.Attempt, Token: a.Token, Failure: &f}})
}

// succeeded fails unless the task ended with the output.
func succeeded(t testing.TB, o task.Outcome, output string) {
	t.Helper()
	if o.State != task.Succeeded || string(o.Result) != output {
		t.Fatalf("outcome %v %q %+v, want SUCCEEDED %q", o.State, o.Result, o.Failure, output)
	}
}

// empty fails unless the dispatcher holds nothing and its tables agree.
func empty(t testing.TB, d *Dispatcher) {
	t.Helper()
	if c := d.Info().Counts; c.Sessions+c.Queued+c.Scheduled+c.Running+c.Bytes != 0 {
		t.Fatalf("the dispatcher still holds %+v", c)
	}
	consistent(t, d)
}

func consistent(t testing.TB, d *Dispatcher) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.state.Check(); err != nil {
		t.Fatal(err)
	}
}

// puller is a worker that reads all the time, and beats when told to.
type puller struct {
	ses    *Session
	frames chan Frame // a copy of each
	err    chan error
}

// pull reads ses until it ends; start it inside a bubble.
func pull(ses *Session) *puller {
	p := &puller{ses, make(chan Frame, 1024), make(chan error, 1)}
	go func() {
		var f Frame
		for {
			if err := ses.Next(&f); err != nil {
				p.err <- err
				return
			}
			if onlyAcks(&f) {
				continue
			}
			c := f
			c.Assign, c.Cancel, c.Acked = slices.Clone(f.Assign), slices.Clone(f.Cancel), slices.Clone(f.Acked)
			p.frames <- c
		}
	}()
	return p
}

func name(i int) string { return fmt.Sprintf("w%d", i) }
