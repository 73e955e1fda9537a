// Package storetest judges stores of durable tasks. It knows the promise and no
// product.
//
//	for _, c := range storetest.Cases {
//		t.Run(c.Name, func(t *testing.T) { c.Run(t, open(t)) })
//	}
package storetest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"reflect"
	"time"

	"reparto/internal/task"
)

// Store is what is judged: dispatch.Store, whose comments are the promise.
type Store interface {
	Load(ctx context.Context, each func(*task.Record) error) (paused []string, err error)
	Write(changes []task.Change) error
	Get(ctx context.Context, id string) (*task.Record, error)
	List(ctx context.Context, q task.Query) (page []task.Record, next string, err error)
}

// Backend is an empty store.
type Backend struct {
	Store
	// Reopen closes the store and opens it again; nil for a store that forgets.
	Reopen func() Store
}

// T is what the suite needs of a *testing.T.
type T interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Context() context.Context
}

// Case is one thing that a store must do. Run wants a store with nothing in it.
type Case struct {
	Name string
	Run  func(T, Backend)
}

// Cases are all of them.
var Cases = []Case{
	{"every field comes back", everyField},
	{"a later change leaves the payload", laterChange},
	{"a task ends, and is found with its outcome", finish},
	{"a finished task is retried by hand", retry},
	{"a task is forgotten in whatever state", forget},
	{"a whole life in one write", oneWrite},
	{"a change may be written twice", twice},
	{"large payloads and results", large},
	{"what is given stays the caller's", ownership},
	{"a listing descends, page by page", listPages},
	{"a listing filters", listFilters},
	{"a short page has a next", listShort},
	{"what may be forgotten", listForgettable},
	{"a listing leaves out what is long", listLeavesOut},
	{"load has what is not done, and no payloads", load},
	{"load ends with its caller", loadEnds},
	{"functions are paused", paused},
	{"a write of nothing", nothing},
	{"reads beside writes", concurrent},
}

// Epoch is a moment that all tests count from.
var Epoch = time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.UTC)

// Full returns a task in which every field says something.
func Full(id string, state task.State) *task.Record {
	r := &task.Record{
		Task: task.Task{
			ID: id, OwnID: true, FreshID: true, Owner: "shop", Function: "/pkg.Service/Method",
			Payload: []byte("payload\x00\xff"), Metadata: map[string]string{"a": "1", "b": ""},
			Deadline: Epoch.Add(time.Hour), AttemptTimeout: time.Minute, MaxAttempts: 7, FailFast: true, Priority: 5,
			Durable: &task.Durable{
				RunAt:   Epoch.Add(time.Second),
				Backoff: task.Backoff{Initial: time.Second, Multiplier: 1.5, Maximum: time.Hour, Jitter: 0.2},
				TTL:     2 * time.Hour, Retention: 24 * time.Hour,
			},
		},
		Seq: 1<<63 + 5, Enqueued: Epoch, State: state, Due: Epoch.Add(3 * time.Second),
		FailedAttempts: 2, LostAttempts: 1,
		Attempts: []task.Attempt{
			{Number: 1, Token: 1<<64 - 1, WorkerID: "w@10.0.0.1:9", Started: Epoch, Ended: Epoch.Add(1),
				Failure: &task.Failure{Reason: "R", Message: "mm", Retry: true, RetryAfter: time.Second}},
			{Number: 2, Token: 9, WorkerID: "w2", Started: Epoch.Add(2)},
		},
	}
	r.Fingerprint = r.Content()
	if state.Terminal() {
		r.Outcome = task.Outcome{State: state, Result: []byte("result"), Attempt: 2, WorkerID: "w2", WasRunning: true,
			Failure: &task.Failure{Reason: "X", Message: "why", Retry: true, RetryAfter: time.Minute}}
		r.Finished, r.ForgetAt = Epoch.Add(time.Hour), Epoch.Add(25*time.Hour)
	}
	return r
}

// Small returns a task with few fields set.
func Small(id string, state task.State) *task.Record {
	r := &task.Record{Task: task.Task{ID: id, Function: "f", Payload: []byte("123456789"), MaxAttempts: 1}, Enqueued: Epoch, Due: Epoch, State: state}
	if state.Terminal() {
		r.Outcome, r.Finished, r.ForgetAt = task.Outcome{State: state, Result: []byte("r"), Attempt: 1}, Epoch, Epoch.Add(time.Hour)
	}
	return r
}

// New is the change that a store sees first of a task.
func New(r *task.Record) task.Change { return task.Change{Record: r, New: true} }

// Later is a change of a task that is stored in state was; payload and metadata
// are left out, as the dispatcher has forgotten them.
func Later(r *task.Record, was task.State) task.Change {
	r = r.Clone()
	r.Payload, r.Metadata = nil, nil
	return task.Change{Record: r, Was: was}
}

// Write writes, and must not fail.
func Write(t T, s Store, changes ...task.Change) {
	t.Helper()
	if err := s.Write(changes); err != nil {
		t.Fatalf("write: %v", err)
	}
}

// Want holds what the store has of a task against want; nil means that there is
// none.
func Want(t T, s Store, id string, want *task.Record) {
	t.Helper()
	got, err := s.Get(t.Context(), id)
	if err != nil {
		t.Fatalf("get %s: %v", id, err)
	}
	same(t, got, want)
}

func same(t T, got, want *task.Record) {
	t.Helper()
	if got == nil || want == nil {
		if got != want {
			t.Errorf("got %s, want %s", show(got), show(want))
		}
		return
	}
	g, w := plain(got), plain(want)
	if !reflect.DeepEqual(g, w) {
		t.Errorf("got  %s\nwant %s", show(&g), show(&w))
	}
}

func show(r *task.Record) string {
	if r == nil {
		return "none"
	}
	s := fmt.Sprintf("%+v", *r)
	if r.Durable != nil {
		s += fmt.Sprintf(" durable %+v", *r.Durable)
	}
	return s[:min(len(s), 2000)]
}

// plain is r with times in UTC and empty for nil where they mean the same.
func plain(r *task.Record) task.Record {
	c := *r.Clone()
	c.Payload, c.Outcome.Result = bytes.Clone(append([]byte{}, c.Payload...)), append([]byte{}, c.Outcome.Result...)
	m := map[string]string{}
	maps.Copy(m, c.Metadata)
	c.Metadata = m
	if c.Durable != nil {
		d := *c.Durable
		utc(&d.RunAt)
		c.Durable = &d
	}
	utc(&c.Deadline, &c.Enqueued, &c.Due, &c.Finished, &c.ForgetAt)
	if len(c.Attempts) == 0 {
		c.Attempts = nil
	}
	for i := range c.Attempts {
		utc(&c.Attempts[i].Started, &c.Attempts[i].Ended)
	}
	return c
}

func utc(times ...*time.Time) {
	for _, t := range times {
		if t.IsZero() {
			*t = time.Time{}
		} else {
			*t = time.Unix(0, t.UnixNano()).UTC()
		}
	}
}
