package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"reparto/internal/task"
)

func load(t T, b Backend) {
	all := some(t, b)
	check := func(s Store) {
		t.Helper()
		got := map[string]*task.Record{}
		if _, err := s.Load(t.Context(), func(r *task.Record) error { got[r.ID] = r; return nil }); err != nil {
			t.Fatalf("load: %v", err)
		}
		for _, want := range all {
			if want.State.Terminal() {
				want = nil
			} else {
				want = want.Clone()
				want.Payload, want.Metadata = nil, nil
			}
			if want != nil {
				same(t, got[want.ID], want)
				delete(got, want.ID)
			}
		}
		if len(got) != 0 {
			t.Errorf("loaded %d tasks that are done", len(got))
		}
	}
	check(b)
	if b.Reopen != nil {
		check(b.Reopen())
	}
}

func loadEnds(t T, b Backend) {
	some(t, b)
	stop := errors.New("stop")
	n := 0
	if _, err := b.Load(t.Context(), func(*task.Record) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
		t.Errorf("each was called %d times after its error; load returned %v", n, err)
	}
}

func paused(t T, b Backend) {
	want := func(s Store, want ...string) {
		t.Helper()
		got, err := s.Load(t.Context(), func(*task.Record) error { return nil })
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("paused are %v (error %v), want %v", got, err, want)
		}
	}
	want(b)
	Write(t, b, task.Change{Function: "/a.B/c", Paused: true}, task.Change{Function: "g", Paused: true}, task.Change{Function: "h"})
	want(b, "/a.B/c", "g")
	Write(t, b, task.Change{Function: "g"}, task.Change{Function: "h", Paused: true})
	want(b, "/a.B/c", "h")
	if b.Reopen != nil {
		want(b.Reopen(), "/a.B/c", "h")
	}
}

func nothing(t T, b Backend) {
	Write(t, b)
	wantList(t, b, task.Query{Limit: 5})
}

// concurrent moves tasks to and fro while others look: whoever looks sees each
// task once, whole, in one of its states.
func concurrent(t T, b Backend) {
	const tasks, rounds = 10, 100
	var changes []task.Change
	for i := range tasks {
		changes = append(changes, New(Full(fmt.Sprint("t", i), task.Queued)))
	}
	Write(t, b, changes...)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				lookAt(t, b, fmt.Sprint("t", n%tasks), tasks)
			}
		})
	}
	for n := range rounds {
		was, is := task.Queued, task.Failed
		if n%2 == 1 {
			was, is = is, was
		}
		changes = changes[:0]
		for i := range tasks {
			r := Full(fmt.Sprint("t", i), is)
			if is.Terminal() && i%2 == 0 {
				r.Outcome.Result = make([]byte, 2000)
			}
			changes = append(changes, Later(r, was))
		}
		if err := b.Write(changes); err != nil {
			t.Errorf("write: %v", err)
			break
		}
	}
	stop()
	wg.Wait()
}

func lookAt(t T, s Store, id string, tasks int) {
	r, err := s.Get(context.Background(), id)
	if err != nil || r == nil || len(r.Payload) == 0 || len(r.Metadata) == 0 || r.State.Terminal() != (len(r.Outcome.Result) > 0) {
		t.Errorf("get %s: %s, error %v", id, show(r), err)
	}
	page, next, err := s.List(context.Background(), task.Query{Limit: 2 * tasks})
	if err != nil || len(page) != tasks || next != "" {
		t.Errorf("%d tasks are listed, next %q, error %v", len(page), next, err)
	}
}
