package balance

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"reparto/internal/task"
)

func owned(owner, id string, bytes int) *task.Task {
	return &task.Task{ID: id, Owner: owner, Function: "f", Payload: make([]byte, bytes), Deadline: start.Add(time.Hour), MaxAttempts: 1}
}

func wantFull(t *testing.T, s *State, tk *task.Task, message string) {
	t.Helper()
	_, err := s.Submit(start, tk)
	if full, ok := errors.AsType[*QueueFullError](err); !ok || full.Error() != "the queue is full: at most "+message {
		t.Errorf("%v, want at most %s", err, message)
	}
}

// The limits count what waits and what runs, up to the edge, and an outcome makes
// room again.
func TestAnOwnersLimits(t *testing.T) {
	s := New(Options{})
	s.LimitOwners(OwnerLimits{Tasks: 2}, map[string]OwnerLimits{"big": {Bytes: 2*least + 10}, "free": {}})
	ses := s.Join(start, Registration{WorkerID: "w", Functions: []string{"f"}, Slots: 1})
	put(t, s, start, owned("usual", "1", 0))
	put(t, s, start, owned("usual", "2", 0))
	wantFull(t, s, owned("usual", "3", 0), "2 tasks without an outcome of principal usual")
	put(t, s, start, owned("big", "4", 10))
	put(t, s, start, owned("big", "5", 0))
	wantFull(t, s, owned("big", "6", 0), fmt.Sprint(2*least+10, " bytes in tasks without an outcome of principal big"))
	for i := range 5 {
		put(t, s, start, owned("free", fmt.Sprint("free", i), 0))
		put(t, s, start, owned("", fmt.Sprint("nobody", i), 0))
	}
	first := s.Take()[0]
	s.Result(start, ses, &Result{TaskID: first.TaskID, Token: first.Token, Attempt: 1})
	put(t, s, start, owned("usual", "3", 0))
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
}

// Durable tasks count too, also those that a restart has brought back.
func TestAnOwnersDurableTasks(t *testing.T) {
	s := New(Options{})
	s.LimitOwners(OwnerLimits{Tasks: 2}, nil)
	kept := owned("o", "1", 0)
	kept.Durable = &task.Durable{TTL: time.Hour, Retention: time.Hour}
	put(t, s, start, kept)
	old := owned("o", "2", 0)
	old.Durable = kept.Durable
	s.Restore(start, &task.Record{Task: *old, Seq: 9, State: task.Queued, Enqueued: start, Due: start}, start)
	wantFull(t, s, owned("o", "3", 0), "2 tasks without an outcome of principal o")
	ref, _ := s.Find("2")
	s.Cancel(start, ref, task.CancelClientGone)
	put(t, s, start, owned("o", "3", 0))
	s.Changes(nil)
	if forget := s.Unwritten(start); len(forget) != 1 || forget[0] != "1" {
		t.Fatalf("%q are forgotten, want the new one", forget)
	}
	put(t, s, start, owned("o", "4", 0))
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
}
