package storetest

import (
	"fmt"
	"slices"
	"time"

	"reparto/internal/task"
)

// wantList lists page by page and holds the ids against want.
func wantList(t T, s Store, q task.Query, want ...string) {
	t.Helper()
	q.Limit = max(q.Limit, 1)
	var got []string
	for pages := 0; ; pages++ {
		page, next, err := s.List(t.Context(), q)
		if err != nil || len(page) > q.Limit {
			t.Fatalf("%+v: %d records, error %v", q, len(page), err)
		}
		for i := range page {
			got = append(got, page[i].ID)
		}
		if next == "" {
			break
		}
		if q.Before != "" && next >= q.Before || pages > 1000 {
			t.Fatalf("%+v: the next page is that before %q", q, next)
		}
		q.Before = next
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v: got %v, want %v", q, got, want)
	}
}

// wantForgettable holds what may be forgotten in a hundred days against want, in
// any order.
func wantForgettable(t T, s Store, want ...string) {
	t.Helper()
	wantForgettableAt(t, s, Epoch.Add(2400*time.Hour), want...)
}

func wantForgettableAt(t T, s Store, at time.Time, want ...string) {
	t.Helper()
	page, next, err := s.List(t.Context(), task.Query{ForgettableAt: at, Limit: 1000})
	if err != nil || next != "" {
		t.Fatalf("forgettable: error %v, next %q", err, next)
	}
	var got []string
	for i := range page {
		got = append(got, page[i].ID)
		if !page[i].State.Terminal() || page[i].ForgetAt.IsZero() || page[i].ForgetAt.After(at) {
			t.Errorf("forgettable at %v: %s", at, show(&page[i]))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("forgettable at %v: got %v, want %v", at, got, want)
	}
}

// some writes tasks of every state and of the functions f and g under ids that
// mix them, and returns them by descending id.
func some(t T, s Store) []*task.Record {
	t.Helper()
	var all []*task.Record
	var changes []task.Change
	for i := range 35 {
		r := Full(fmt.Sprintf("id-%02d", i), task.State(i%7+1))
		r.Function = string("fg"[i%2])
		r.Owner = [...]string{"", "shop", "bank"}[i%3]
		all = append(all, r)
		changes = append(changes, New(r))
	}
	Write(t, s, changes...)
	slices.Reverse(all)
	return all
}

func ids(all []*task.Record, keep func(*task.Record) bool) (ids []string) {
	for _, r := range all {
		if keep(r) {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

func listPages(t T, b Backend) {
	wantList(t, b, task.Query{Limit: 10})
	all := some(t, b)
	every := ids(all, func(*task.Record) bool { return true })
	for _, limit := range []int{1, 2, 7, 34, 35, 36, 1000} {
		wantList(t, b, task.Query{Limit: limit}, every...)
	}
	wantList(t, b, task.Query{Limit: 3, Before: "id-30"}, every[5:]...)
	wantList(t, b, task.Query{Limit: 3, Before: "id-30x"}, every[4:]...)
	wantList(t, b, task.Query{Limit: 3, Before: "a"})
}

func listFilters(t T, b Backend) {
	all := some(t, b)
	for state := task.None; state <= task.Expired; state++ {
		for _, function := range []string{"", "f", "g", "none"} {
			q := task.Query{State: state, Function: function, Limit: 4}
			for _, owner := range []string{"", "shop", "bank", "nobody"} {
				q.Owner = owner
				wantList(t, b, q, ids(all, func(r *task.Record) bool {
					return (state == task.None || r.State == state) && (function == "" || r.Function == function) && (owner == "" || r.Owner == owner)
				})...)
			}
		}
	}
}

// listShort: a function that few tasks have is found behind many others.
func listShort(t T, b Backend) {
	changes := make([]task.Change, 0, 25_000)
	for i := range cap(changes) {
		r := Small(fmt.Sprintf("id-%05d", i), task.Queued)
		if i == 3 || i == 24_000 {
			r.Function = "rare"
		}
		changes = append(changes, New(r))
	}
	Write(t, b, changes...)
	wantList(t, b, task.Query{Function: "rare", Limit: 10}, "id-24000", "id-00003")
	wantList(t, b, task.Query{State: task.Running, Limit: 10})
}

func listForgettable(t T, b Backend) {
	var changes []task.Change
	for i := range 10 {
		r := Small(fmt.Sprint("t", i), task.Succeeded+task.State(i%4))
		r.ForgetAt = Epoch.Add(time.Duration(10-i) * time.Minute)
		changes = append(changes, New(r))
	}
	never := Small("never", task.Failed)
	never.ForgetAt = time.Time{}
	Write(t, b, append(changes, New(never), New(Small("q", task.Queued)))...)
	wantForgettableAt(t, b, Epoch)
	wantForgettableAt(t, b, Epoch.Add(3*time.Minute-1), "t8", "t9")
	wantForgettableAt(t, b, Epoch.Add(3*time.Minute), "t7", "t8", "t9")
	page, next, err := b.List(t.Context(), task.Query{ForgettableAt: Epoch.Add(time.Hour), Limit: 4})
	if err != nil || len(page) != 4 || next == "" {
		t.Errorf("of 10 that may be forgotten, 4 at a time: got %d, next %q, error %v", len(page), next, err)
	}
	for i := range page {
		Write(t, b, task.Change{Forget: page[i].ID})
	}
	page, _, err = b.List(t.Context(), task.Query{ForgettableAt: Epoch.Add(time.Hour), Limit: 100})
	if err != nil || len(page) != 6 {
		t.Errorf("after forgetting 4 of 10: got %d, error %v", len(page), err)
	}
}

func listLeavesOut(t T, b Backend) {
	done := Full("done", task.Failed)
	bigger := Full("bigger", task.Failed)
	bigger.Outcome.Result = make([]byte, 10_000)
	running := Full("running", task.Running)
	Write(t, b, New(done), New(bigger), New(running))
	page, _, err := b.List(t.Context(), task.Query{Limit: 10})
	if err != nil || len(page) != 3 {
		t.Fatalf("got %v, %v", page, err)
	}
	for i, want := range []*task.Record{running, done, bigger} {
		want = want.Clone()
		want.Payload, want.Metadata, want.Attempts, want.Outcome.Result = nil, nil, nil, nil
		same(t, &page[i], want)
		if page[i].Payload != nil || page[i].Metadata != nil || page[i].Attempts != nil || page[i].Outcome.Result != nil {
			t.Errorf("%s has parts that a listing leaves out", page[i].ID)
		}
	}
}
