package balance

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"reparto/internal/task"
)

// One that has little to do waits little, however much another has waiting: each
// of its tasks waits for one of the other's at most.
func TestALightOwnerBesideAHeavyOne(t *testing.T) {
	s := New(Options{})
	submit := func(owner string, n int) {
		for i := range n {
			put(t, s, start, &task.Task{ID: fmt.Sprint(owner, i), Owner: owner, Function: "f", Deadline: start.Add(time.Hour), MaxAttempts: 1})
		}
	}
	submit("heavy", 50_000)
	submit("light", 10)
	var ids []string
	ses := s.Join(start, Registration{WorkerID: "w", Functions: []string{"f"}, Slots: 1})
	for len(ids) < 20 {
		for _, e := range s.Take() {
			if e.Kind == Assign {
				ids = append(ids, e.TaskID)
				s.Result(start, ses, &Result{TaskID: e.TaskID, Token: e.Token, Attempt: e.Attempt})
			}
		}
	}
	for i, id := range ids {
		want := fmt.Sprint("heavy", i/2)
		if i%2 == 1 {
			want = fmt.Sprint("light", i/2)
		}
		if id != want {
			t.Fatalf("task %d to be given out is %s, want %s: %q", i, id, want, ids)
		}
	}
}

// What a store that fails holds back does not hold up other owners.
func TestAnOwnerWithDurableTasksAloneDoesNotBlock(t *testing.T) {
	s := New(Options{})
	put(t, s, start, &task.Task{
		ID: "kept", Owner: "a", Function: "f", Deadline: start.Add(time.Hour), MaxAttempts: 1,
		Durable: &task.Durable{TTL: time.Hour, Retention: time.Hour},
	})
	put(t, s, start, &task.Task{ID: "live", Owner: "b", Function: "f", Deadline: start.Add(time.Hour), MaxAttempts: 1})
	s.StoreDown()
	if got := order(t, s, start); len(got) != 1 || got[0] != "live" {
		t.Fatalf("given out are %q, want the task that needs no store", got)
	}
	s.StoreUp(start)
	if e := s.Take(); len(e) != 1 || e[0].TaskID != "kept" {
		t.Fatalf("%+v follows when the store is back", e)
	}
}

func TestFunctionsTellTheOldestOfAnyOwner(t *testing.T) {
	s := New(Options{})
	put(t, s, start.Add(time.Second), &task.Task{ID: "b", Owner: "b", Function: "f", Deadline: start.Add(time.Hour), MaxAttempts: 1})
	put(t, s, start, &task.Task{ID: "a", Owner: "a", Function: "f", Deadline: start.Add(time.Hour), MaxAttempts: 1})
	if got := s.Functions(start.Add(time.Minute), "", 1); got[0].OldestAge != time.Minute || got[0].Queued != 2 {
		t.Fatalf("%+v, want two and the oldest of a minute", got[0])
	}
}

// A large payload costs its owner as many turns as it is long, so that small tasks
// of others go before the next one.
func TestALargePayloadCostsItsOwnerTurns(t *testing.T) {
	s := New(Options{})
	for i := range 3 {
		put(t, s, start, &task.Task{
			ID: fmt.Sprint("large", i), Owner: "large", Function: "f", Payload: make([]byte, 4*turnBytes), Deadline: start.Add(time.Hour), MaxAttempts: 1,
		})
	}
	for i := range 8 {
		put(t, s, start, owned("small", fmt.Sprint("small", i), 0))
	}
	got := strings.Join(order(t, s, start), " ")
	want := "large0 small0 small1 small2 small3 small4 large1 small5 small6 small7 large2"
	if got != want {
		t.Errorf("the order is %s, want %s", got, want)
	}
}

// Who was away has no more turns than those who waited.
func TestWhoWasAwaySavesNothingUp(t *testing.T) {
	s := New(Options{})
	for i := range 20 {
		put(t, s, start, owned("steady", fmt.Sprint("s", i), 0))
	}
	ses := s.Join(start, Registration{WorkerID: "w", Functions: []string{"f"}, Slots: 1})
	done := func() string {
		e := s.Take()[0]
		s.Result(start, ses, &Result{TaskID: e.TaskID, Token: e.Token, Attempt: e.Attempt})
		for s.effects[0].Kind != Assign {
			s.effects = s.effects[1:]
		}
		return e.TaskID
	}
	for range 10 {
		done()
	}
	for i := range 4 {
		put(t, s, start, owned("late", fmt.Sprint("l", i), 0))
	}
	var got []string
	for range 8 {
		got = append(got, done())
	}
	if want := "s10 l0 s11 l1 s12 l2 s13 l3"; strings.Join(got, " ") != want {
		t.Errorf("the order is %q, want %s", got, want)
	}
}
