package balance

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"reparto/internal/task"
)

// newTask is a task for function f that counts bytes bytes over the least.
func newTask(id string, bytes int) *task.Task {
	return &task.Task{ID: id, Function: "f", Payload: make([]byte, bytes), Deadline: start.Add(time.Minute), MaxAttempts: 3}
}

// least is what a task without payload counts.
var least = (&task.Task{}).Bytes()

// Each limit lets in what fits exactly, and nothing more, with nobody there to
// take anything.
func TestLimitsAtTheirEdges(t *testing.T) {
	for name, c := range map[string]struct {
		opt   Options
		fits  []*task.Task
		over  *task.Task
		limit string
		max   int
	}{
		"tasks": {Options{MaxQueuedTasks: 2}, []*task.Task{newTask("1", 0), newTask("2", 0)}, newTask("3", 0),
			"tasks waiting", 2},
		"tasks of a function": {Options{MaxFunctionQueuedTasks: 2}, []*task.Task{newTask("1", 0), newTask("2", 0)}, newTask("3", 0),
			"tasks waiting for function f", 2},
		"bytes of a function, by one": {Options{MaxFunctionQueuedBytes: 2*least + 10}, []*task.Task{newTask("1", 4), newTask("2", 6)}, newTask("3", 0),
			"bytes waiting for function f", 2*least + 10},
		"bytes of a function, one task too large": {Options{MaxFunctionQueuedBytes: least + 10}, nil, newTask("1", 11),
			"bytes waiting for function f", least + 10},
		"bytes in all": {Options{MaxBytes: 2 * least}, []*task.Task{newTask("1", 0), newTask("2", 0)}, newTask("3", 0),
			"bytes in all tasks that wait or run", 2 * least},
		"bytes in all, one task too large": {Options{MaxBytes: least + 10}, []*task.Task{newTask("1", 10)}, newTask("2", 0),
			"bytes in all tasks that wait or run", least + 10},
	} {
		s := New(c.opt)
		var last Ref
		for _, k := range c.fits {
			ref, err := s.Submit(start, k)
			if err != nil {
				t.Errorf("%s: %s was refused: %v", name, k.ID, err)
			}
			last = ref
		}
		full, ok := errors.AsType[*QueueFullError](submitError(s, c.over))
		if !ok || full.Limit != c.limit || full.Max != c.max {
			t.Errorf("%s: one more was answered with %v, want at most %d %s", name, full, c.max, c.limit)
		}
		if len(c.fits) == 0 {
			if len(s.functions) != 0 {
				t.Errorf("%s: a task that was refused left its function behind", name)
			}
			continue
		}
		s.Cancel(start, last, task.CancelClientGone) // and what is gone makes room
		if err := submitError(s, newTask("next", 0)); err != nil {
			t.Errorf("%s: no room after one had left: %v", name, err)
		}
		if err := s.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func submitError(s *State, k *task.Task) error {
	_, err := s.Submit(start, k)
	return err
}

// A task that a worker can take at once needs no room in any queue, but counts
// among the bytes held in all until it has its outcome.
func TestATaskThatRunsAtOnceNeedsNoQueue(t *testing.T) {
	s := New(Options{MaxQueuedTasks: 1, MaxFunctionQueuedTasks: 1, MaxFunctionQueuedBytes: 1, MaxBytes: 3 * least})
	ses := s.Join(start, Registration{WorkerID: "w", Functions: []string{"f"}, Slots: 4})
	for i := range 3 {
		if err := submitError(s, newTask(fmt.Sprint(i), 0)); err != nil {
			t.Fatalf("task %d: %v", i, err)
		}
	}
	if err := submitError(s, newTask("3", 0)); err == nil {
		t.Error("a fourth was taken over the limit of bytes in all")
	}
	e := s.Take()[0]
	s.Result(start, ses, &Result{TaskID: e.TaskID, Attempt: e.Attempt, Token: e.Token})
	if err := submitError(s, newTask("3", 0)); err != nil {
		t.Errorf("an outcome made no room: %v", err)
	}
}

// A retry that waits takes its place among the tasks waiting, but is never
// turned away itself.
func TestARetryIsNeverTurnedAway(t *testing.T) {
	s := New(Options{MaxQueuedTasks: 1, MaxFunctionQueuedTasks: 1, MaxFunctionQueuedBytes: least})
	ses := s.Join(start, Registration{WorkerID: "w", Functions: []string{"f"}, Slots: 1})
	for _, id := range []string{"1", "2"} { // one runs, one waits
		if err := submitError(s, newTask(id, 0)); err != nil {
			t.Fatal(err)
		}
	}
	e := s.Take()[0]
	s.Result(start, ses, &Result{TaskID: "1", Attempt: 1, Token: e.Token, Failure: &task.Failure{Reason: "BUSY", Retry: true}})
	if err := submitError(s, newTask("3", 0)); err == nil {
		t.Error("a task was taken while a retry waits and the limit is one")
	}
	wake, _ := s.NextDeadline()
	s.Tick(wake)
	if c := s.Counts(); c.Queued != 1 || c.Running != 1 {
		t.Errorf("%+v, want the other to run and the retry queued", c)
	}
}

// The outcome of a task under a client's own id is there for a minute, to the
// instant, and is told with the same words.
func TestOutcomesAreKeptForAMinute(t *testing.T) {
	s := New(Options{})
	ses := s.Join(start, Registration{WorkerID: "w", Functions: []string{"f"}, Slots: 1})
	own := newTask("own", 10)
	own.Metadata = map[string]string{"k": "v"}
	own.OwnID, own.Deadline, own.Fingerprint = true, start.Add(time.Hour), task.Fingerprint("1")
	ref, err := s.Submit(start, own)
	if err != nil {
		t.Fatal(err)
	}
	s.Result(start, ses, &Result{TaskID: "own", Attempt: 1, Token: s.Take()[0].Token, Output: []byte("out")})
	s.Take()
	if e := s.find("own"); e.task.Payload != nil || e.task.Metadata != nil {
		t.Error("what went in is held, though the outcome alone is wanted")
	}
	s.Tick(start.Add(time.Minute - 1))
	again, err := s.Submit(start.Add(time.Minute-1), own)
	if effects := s.Take(); err != nil || again != ref || len(effects) != 1 || effects[0].Kind != Finish || string(effects[0].Outcome.Result) != "out" {
		t.Errorf("just before a minute: %v, %+v", err, effects)
	}
	if wake, ok := s.NextDeadline(); !ok || !wake.Equal(start.Add(time.Minute)) {
		t.Errorf("it wants to be woken at %v (%v)", wake, ok)
	}
	s.Tick(start.Add(time.Minute))
	if _, ok := s.NextDeadline(); ok || len(s.byID) > 0 {
		t.Error("it is still kept after a minute")
	}
	if again, err = s.Submit(start.Add(time.Minute), own); err != nil || again == ref {
		t.Errorf("after a minute it did not run anew: %v", err)
	}
}

// Nobody will ask for the outcome of a task whose id was made for it alone.
func TestTheOutcomeOfAFreshTaskIsNotKept(t *testing.T) {
	s := New(Options{})
	ses := s.Join(start, Registration{WorkerID: "w", Functions: []string{"f"}, Slots: 1})
	fresh := newTask("fresh", 0)
	fresh.OwnID, fresh.FreshID = true, true
	if err := submitError(s, fresh); err != nil {
		t.Fatal(err)
	}
	if s.find("fresh") == nil {
		t.Error("while it runs, nobody finds it by its id")
	}
	if err := submitError(s, fresh); err != ErrIDConflict {
		t.Errorf("another with its id: %v", err)
	}
	s.Result(start, ses, &Result{TaskID: "fresh", Attempt: 1, Token: s.Take()[0].Token, Output: []byte("out")})
	if e := s.Take(); len(e) != 1 || e[0].Kind != Finish || string(e[0].Outcome.Result) != "out" {
		t.Errorf("got %+v", e)
	}
	if s.find("fresh") != nil || s.kept.len != 0 {
		t.Error("its outcome is kept")
	}
}

// One outcome that is larger than all that may be kept is not kept, and does not
// stay in the way of others.
func TestAnOutcomeTooLargeToKeep(t *testing.T) {
	s := New(Options{MaxKeptBytes: 2000})
	ses := s.Join(start, Registration{WorkerID: "w", Functions: []string{"f"}, Slots: 1})
	for i, size := range []int{100, 5000, 100} {
		own := newTask(fmt.Sprint(i), 0)
		own.OwnID = true
		if err := submitError(s, own); err != nil {
			t.Fatal(err)
		}
		s.Result(start, ses, &Result{TaskID: own.ID, Attempt: 1, Token: s.Take()[0].Token, Output: make([]byte, size)})
		s.Take()
	}
	if s.kept.len != 1 || s.kept.bytes > 2000 || s.find("2") == nil {
		t.Errorf("%d outcomes with %d bytes are kept, want the last alone", s.kept.len, s.kept.bytes)
	}
}

// A Ref says nothing once its task is over, whoever has its place by then.
func TestAnOldRefIsNoGood(t *testing.T) {
	s := New(Options{})
	old, _ := s.Submit(start, newTask("1", 0))
	s.Cancel(start, old, task.CancelClientGone)
	young, _ := s.Submit(start, newTask("2", 0))
	if young.Index != old.Index {
		t.Fatalf("index %d was not used again, but %d", old.Index, young.Index)
	}
	s.Take()
	s.Cancel(start, old, task.CancelClientGone)
	s.Cancel(start, Ref{Index: 99}, task.CancelClientGone)
	if effects := s.Take(); len(effects) > 0 {
		t.Errorf("an old Ref did something: %+v", effects)
	}
}

// A client may name its task as the balancer has named another, which nobody
// asks for by its id until an attempt of it has gone by.
func TestAClientTakesTheIDOfAnotherTask(t *testing.T) {
	s := New(Options{})
	s.Join(start, Registration{WorkerID: "w1", Functions: []string{"f"}, Slots: 1})
	w2 := s.Join(start, Registration{WorkerID: "w2", Functions: []string{"f"}, Slots: 2})
	made, own := newTask("t", 0), newTask("t", 0)
	own.OwnID = true
	for _, k := range []*task.Task{made, own} {
		if err := submitError(s, k); err != nil {
			t.Fatal(err)
		}
	}
	second := s.Take()[1].Token
	s.Leave(start, s.byWorker["w1"]) // the attempt of the first goes by
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	first := s.Take()[0].Token
	s.Result(start, w2, &Result{TaskID: "t", Attempt: 1, Token: second, Output: []byte("own")})
	s.Result(start, w2, &Result{TaskID: "t", Attempt: 2, Token: first, Output: []byte("made")})
	var got []string
	for _, e := range s.Take() {
		got = append(got, string(e.Outcome.Result))
	}
	if !slices.Equal(got, []string{"own", "made"}) {
		t.Errorf("outcomes %q, want each its own", got)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}
