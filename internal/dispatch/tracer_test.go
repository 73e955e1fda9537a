package dispatch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reparto/internal/balance"
	"reparto/internal/task"
)

// notes is a Tracer that follows the tasks whose metadata ask for it, and writes
// down what it is told.
type notes struct{ lines []string }

type noted struct {
	n  *notes
	id string
}

func (n *notes) Follow(t *task.Task, since time.Time) Trail {
	if t.Metadata["traced"] == "" {
		return nil
	}
	n.add("%s waits for %v", t.ID, time.Since(since).Round(time.Second))
	return &noted{n, t.ID}
}

func (n *notes) add(format string, args ...any) {
	n.lines = append(n.lines, fmt.Sprintf(format, args...))
}

func (t *noted) Assigned(h Handing) map[string]string {
	word := "assigned"
	if h.Resumed {
		word = "resumed"
	}
	t.n.add("%s %s %d %s", t.id, word, h.Attempt, h.WorkerID)
	return map[string]string{"traced": fmt.Sprint("attempt ", h.Attempt), "state": ""}
}

func (t *noted) Ended(e Ending) {
	word := map[EndKind]string{Answered: "answered", CancelledAttempt: "cancelled", WorkerLost: "lost", NotSent: "not sent"}[e.Kind]
	if e.Failure != nil {
		word += " " + e.Failure.Reason
	}
	if e.Kind == CancelledAttempt {
		word += " " + e.Reason
	}
	t.n.add("%s %s", t.id, word)
}

func (t *noted) Finished(o *task.Outcome) { t.n.add("%s %v", t.id, o.State) }

// want compares what was written down, and that nothing is followed any more.
func (n *notes) want(t *testing.T, d *Dispatcher, lines ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(n.lines, lines) {
		t.Errorf("the tracer was told\n  %s\nwant\n  %s", strings.Join(n.lines, "\n  "), strings.Join(lines, "\n  "))
	}
	if len(d.trails.byTask) > 0 {
		t.Errorf("tasks are followed that are over: %v", slices.Collect(maps.Keys(d.trails.byTask)))
	}
	for ses, held := range d.trails.running {
		if _, live := d.sessions[ses]; !live || len(held) > 0 {
			t.Errorf("worker %s is remembered with %d attempts (live: %v)", ses.workerID, len(held), live)
		}
	}
}

func traced(tk task.Task) task.Task {
	tk.Metadata = map[string]string{"traced": "client", "state": "client", "own": "kept"}
	return tk
}

func tracedTask(id string) task.Task {
	tk := traced(newTask("f", "x"))
	tk.ID, tk.OwnID = id, true
	tk.Fingerprint = tk.Content()
	return tk
}

func openTraced(t *testing.T, o Options) (*Dispatcher, *notes) {
	t.Helper()
	n := &notes{}
	o.Tracer = n
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return d, n
}

// What a worker gets names its attempt; the task's own metadata stay as they are.
func TestAnAssignmentCarriesItsTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n := openTraced(t, Options{})
		defer d.Close()
		tk := tracedTask("t")
		c, ses := newClient(), attach(t, d, "w", 2, "f")
		submit(t, d, c, 1, tk)
		a := assigned(t, ses)
		if want := map[string]string{"traced": "attempt 1", "own": "kept"}; !maps.Equal(a.Metadata, want) {
			t.Errorf("the worker got %v, want %v", a.Metadata, want)
		}
		if tk.Metadata["traced"] != "client" || tk.Metadata["state"] != "client" {
			t.Errorf("the task's own metadata became %v", tk.Metadata)
		}
		submit(t, d, c, 2, tk) // joins it
		answer(ses, a, "y")
		submit(t, d, c, 3, tk) // its outcome is kept
		plain := ownTask("plain", "f", "x")
		plain.Metadata = map[string]string{"own": "kept"}
		submit(t, d, c, 4, plain)
		a = assigned(t, ses)
		if !maps.Equal(a.Metadata, plain.Metadata) {
			t.Errorf("a task that nobody follows got %v", a.Metadata)
		}
		answer(ses, a, "y")
		n.want(t, d, "t waits for 0s", "t assigned 1 w", "t answered", "t SUCCEEDED")
	})
}

func TestEveryEndOfAnAttemptIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		does func(t *testing.T, d *Dispatcher, leave func(), ses *Session, a Assignment)
		told []string
	}{
		"a retry": {func(t *testing.T, d *Dispatcher, _ func(), ses *Session, a Assignment) {
			fail(ses, a, task.Failure{Reason: "BUSY", Retry: true})
			answer(ses, assigned(t, ses), "y")
		}, []string{"t answered BUSY", "t assigned 2 w", "t answered", "t SUCCEEDED"}},
		"a failure": {func(t *testing.T, d *Dispatcher, _ func(), ses *Session, a Assignment) {
			fail(ses, a, task.Failure{Reason: "BAD"})
		}, []string{"t answered BAD", "t FAILED"}},
		"the client goes": {func(t *testing.T, d *Dispatcher, leave func(), ses *Session, a Assignment) {
			leave()
			answer(ses, a, "too late")
		}, []string{"t cancelled CLIENT_GONE", "t CANCELLED"}},
		"the attempt takes too long": {func(t *testing.T, d *Dispatcher, _ func(), ses *Session, a Assignment) {
			time.Sleep(3 * time.Second)
			if f := next(t, ses); len(f.Assign) == 0 { // the cancellation alone
				f = next(t, ses)
			}
			answer(ses, a, "late, and good")
		}, []string{"t cancelled ATTEMPT_TIMEOUT", "t assigned 2 w", "t cancelled SUPERSEDED", "t SUCCEEDED"}},
		"the worker goes": {func(t *testing.T, d *Dispatcher, _ func(), ses *Session, a Assignment) {
			ses.Detach()
			other := attach(t, d, "w2", 1, "f")
			answer(other, assigned(t, other), "y")
		}, []string{"t lost", "t assigned 2 w2", "t answered", "t SUCCEEDED"}},
		"the worker comes back for it": {func(t *testing.T, d *Dispatcher, _ func(), ses *Session, a Assignment) {
			ses.Detach()
			again := claim(t, d, a)
			answer(again, a, "y")
		}, []string{"t lost", "t resumed 1 w", "t answered", "t SUCCEEDED"}},
		"a newer session takes its place": {func(t *testing.T, d *Dispatcher, _ func(), ses *Session, a Assignment) {
			again := claim(t, d, a)
			answer(again, a, "y")
		}, []string{"t lost", "t resumed 1 w", "t answered", "t SUCCEEDED"}},
		"it comes back too late": {func(t *testing.T, d *Dispatcher, _ func(), ses *Session, a Assignment) {
			ses.Detach()
			other := attach(t, d, "w2", 1, "f")
			later := assigned(t, other)
			claim(t, d, a)
			answer(other, later, "y")
		}, []string{"t lost", "t assigned 2 w2", "t answered", "t SUCCEEDED"}},
		"it took too long, and comes back": {func(t *testing.T, d *Dispatcher, _ func(), ses *Session, a Assignment) {
			time.Sleep(2050 * time.Millisecond) // the next attempt is not due yet
			ses.Detach()
			again := claim(t, d, a)
			next(t, again) // it may stop
			answer(again, assigned(t, again), "y")
		}, []string{"t cancelled ATTEMPT_TIMEOUT", "t assigned 2 w", "t answered", "t SUCCEEDED"}},
		"the balancer stops": {func(t *testing.T, d *Dispatcher, _ func(), ses *Session, a Assignment) {
			d.Close()
		}, []string{"t lost", "t CANCELLED"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, n := openTraced(t, Options{})
				defer d.Close()
				ses := attach(t, d, "w", 1, "f")
				if strings.Contains(name, "too long") {
					ses.Detach()
					ses = attach(t, d, "w", 2, "f")
				}
				tk := tracedTask("t")
				tk.AttemptTimeout = 2 * time.Second
				client := newClient()
				ticket := submit(t, d, client, 1, tk)
				c.does(t, d, func() { d.Abandon(client, ticket) }, ses, assigned(t, ses))
				synctest.Wait()
				n.want(t, d, append([]string{"t waits for 0s", "t assigned 1 w"}, c.told...)...)
			})
		})
	}
}

// claim attaches worker w, which still runs the assignment.
func claim(t *testing.T, d *Dispatcher, a Assignment) *Session {
	t.Helper()
	ses, err := d.Attach(Registration{WorkerID: "w", Slots: 2, Functions: []string{"f"},
		Running: []Claim{{TaskID: a.TaskID, Attempt: a.Attempt, Token: a.Token}}})
	if err != nil {
		t.Fatal(err)
	}
	return ses
}

// A task that has cost too many workers ends before its session does.
func TestAnOutcomeIsTheLastWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n := openTraced(t, Options{Balance: balance.Options{MaxLost: 1}})
		defer d.Close()
		ses := attach(t, d, "w", 1, "f")
		submit(t, d, newClient(), 1, tracedTask("t"))
		assigned(t, ses)
		attach(t, d, "w", 1, "f") // in its place
		n.want(t, d, "t waits for 0s", "t assigned 1 w", "t FAILED")
	})
}

func TestWhatWaitsAndEndsIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n := openTraced(t, Options{})
		defer d.Close()
		submit(t, d, newClient(), 1, tracedTask("t"))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		n.want(t, d, "t waits for 0s", "t EXPIRED")
	})
}

// A durable task's metadata may be in the store alone: because memory holds enough
// of them, or because the balancer was restarted.
func TestMetadataFromTheStoreCarryTheTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		d, n := openTraced(t, Options{Store: store, Balance: balance.Options{MaxResident: 1}})
		mustEnqueue(t, d, traced(durableTask("t", "long")))
		ses := attach(t, d, "w", 1, "f")
		a := assigned(t, ses)
		if want := map[string]string{"traced": "attempt 1", "own": "kept"}; !maps.Equal(a.Metadata, want) {
			t.Errorf("the worker got %v, want %v", a.Metadata, want)
		}
		answer(ses, a, "y")
		synctest.Wait()
		n.want(t, d, "t waits for 0s", "t assigned 1 w", "t answered", "t SUCCEEDED")

		mustEnqueue(t, d, traced(durableTask("u", "long")))
		a = assigned(t, ses)
		time.Sleep(5 * time.Second)
		fail(ses, a, task.Failure{Reason: "BUSY", Retry: true, RetryAfter: time.Minute})
		synctest.Wait()
		d.Close()
		time.Sleep(30 * time.Second)
		d, n = openTraced(t, Options{Store: store})
		defer d.Close()
		time.Sleep(40 * time.Second)
		ses = attach(t, d, "w", 1, "f")
		a = assigned(t, ses)
		if want := map[string]string{"traced": "attempt 2", "own": "kept"}; !maps.Equal(a.Metadata, want) {
			t.Errorf("after the restart the worker got %v, want %v", a.Metadata, want)
		}
		fail(ses, a, task.Failure{Reason: "BAD"})
		synctest.Wait()
		n.want(t, d, "u waits for 1m10s", "u assigned 2 w", "u answered BAD", "u FAILED")

		n.lines = nil
		if _, err := d.RetryTask(context.Background(), "u"); err != nil {
			t.Fatal(err)
		}
		answer(ses, assigned(t, ses), "y")
		synctest.Wait()
		n.want(t, d, "u waits for 0s", "u assigned 3 w", "u answered", "u SUCCEEDED")
	})
}

// A task that ends while its metadata are being read is not followed any more.
func TestATaskThatEndsBeforeItIsReadIsNotFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		d, _ := openTraced(t, Options{Store: store})
		mustEnqueue(t, d, traced(durableTask("t", "x")))
		d.Close()
		d, n := openTraced(t, Options{Store: store})
		defer d.Close()
		ses := attach(t, d, "w", 1, "f")
		synctest.Wait()
		var f Frame
		if !ses.take(&f) || len(f.Assign) != 1 {
			t.Fatalf("the worker gets %+v", f)
		}
		if _, err := d.CancelTask(context.Background(), "t"); err != nil {
			t.Fatal(err)
		}
		d.fetch(ses, &f)
		n.want(t, d)
	})
}

func TestATaskThatCannotBeReadIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &unreadableStore{fakeStore: newFakeStore()}
		d, n := openTraced(t, Options{Store: store, Balance: balance.Options{MaxResident: 1}})
		defer d.Close()
		mustEnqueue(t, d, traced(durableTask("t", "long")))
		store.unreadable.Store(true)
		p := pull(attach(t, d, "w", 1, "f"))
		synctest.Wait()
		store.unreadable.Store(false)
		a := (<-p.frames).Assign[0]
		answer(p.ses, a, "y")
		synctest.Wait()
		n.want(t, d, "t waits for 0s", "t assigned 1 w", "t not sent", "t assigned 1 w", "t answered", "t SUCCEEDED")
	})
}

// A frame that was to hold nothing but what can't be read is no send that blocks.
func TestAWorkerIsNotBlamedForWhatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &unreadableStore{fakeStore: newFakeStore()}
		d := open(t, Options{Store: store, Balance: balance.Options{MaxResident: 1}, Heartbeat: time.Second, SendLimit: time.Second})
		mustEnqueue(t, d, durableTask("t", "long"))
		store.unreadable.Store(true)
		p := pull(attach(t, d, "w", 1, "f"))
		synctest.Wait()
		store.unreadable.Store(false)
		if _, err := d.CancelTask(context.Background(), "t"); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			passes(t, time.Second/2)
			p.ses.Heard()
		}
		select {
		case err := <-p.err:
			t.Fatalf("the session ended: %v", err)
		default:
		}
	})
}

// unreadableStore can have its Gets fail.
type unreadableStore struct {
	*fakeStore
	unreadable atomic.Bool
}

func (s *unreadableStore) Get(ctx context.Context, id string) (*task.Record, error) {
	if s.unreadable.Load() {
		return nil, errors.New("the disk is on fire")
	}
	return s.fakeStore.Get(ctx, id)
}

// Where nobody looks, a task's whole way allocates what it did before; where
// somebody looks, those that he does not want to see allocate no more.
func TestATracerCostsNothingWhereItDoesNotLook(t *testing.T) {
	for name, tracer := range map[string]Tracer{"off": nil, "on": &notes{}} {
		d := open(t, Options{Tracer: tracer})
		ses := attach(t, d, "w", 64, "f")
		c, batch, results := &counter{}, make([]Submission, 64), make([]Result, 0, 64)
		payload, metadata := []byte("x"), map[string]string{"own": "kept"}
		var f Frame
		perBatch := testing.AllocsPerRun(200, func() {
			now := time.Now()
			for i := range batch {
				batch[i] = Submission{Number: uint64(i), Task: task.Task{
					Function: "f", Payload: payload, Metadata: metadata, Deadline: now.Add(time.Minute), MaxAttempts: 3}}
			}
			d.Submit(c, batch)
			if err := ses.Next(&f); err != nil {
				t.Fatal(err)
			}
			results = results[:0]
			for i := range f.Assign {
				a := &f.Assign[i]
				results = append(results, Result{TaskID: a.TaskID, Attempt: a.Attempt, Token: a.Token})
			}
			ses.Results(results)
		})
		if perTask := perBatch / 64; perTask > 1.1 { // its id is one
			t.Errorf("%s: a task costs %.2f allocations, want 1", name, perTask)
		}
	}
}
