package storetest

import (
	"bytes"

	"reparto/internal/task"
)

// check holds the store against want, before and after reopening it.
func check(t T, b Backend, want map[string]*task.Record) {
	t.Helper()
	for id, r := range want {
		Want(t, b, id, r)
	}
	if b.Reopen == nil {
		return
	}
	s := b.Reopen()
	for id, r := range want {
		Want(t, s, id, r)
	}
}

func everyField(t T, b Backend) {
	want := map[string]*task.Record{"missing": nil, "bare": {Task: task.Task{ID: "bare", Function: "f"}, State: task.Queued}}
	changes := []task.Change{New(want["bare"])}
	for state := task.Scheduled; state <= task.Expired; state++ {
		for _, r := range []*task.Record{Full("full-"+state.String(), state), Small("small-"+state.String(), state)} {
			want[r.ID] = r
			changes = append(changes, New(r))
		}
	}
	Write(t, b, changes...)
	check(t, b, want)
}

func laterChange(t T, b Backend) {
	full, small := Full("full", task.Queued), Small("small", task.Scheduled)
	Write(t, b, New(full), New(small))
	full.State, full.LostAttempts = task.Running, 9
	small.State, small.Attempts = task.Queued, []task.Attempt{{Number: 1, WorkerID: "w"}}
	Write(t, b, Later(full, task.Queued), Later(small, task.Scheduled))
	check(t, b, map[string]*task.Record{"full": full, "small": small})
}

func finish(t T, b Backend) {
	want := map[string]*task.Record{}
	for state := task.Succeeded; state <= task.Expired; state++ {
		id := state.String()
		Write(t, b, New(Full(id, task.Running)))
		want[id] = Full(id, state)
		Write(t, b, Later(want[id], task.Running))
	}
	check(t, b, want)
}

func retry(t T, b Backend) {
	for _, result := range []int{5, 5000} {
		r := Full("t", task.Failed)
		r.Outcome.Result = bytes.Repeat([]byte("x"), result)
		Write(t, b, New(Full("t", task.Running)))
		Write(t, b, Later(r, task.Running))
		again := Full("t", task.Queued)
		Write(t, b, Later(again, task.Failed))
		Want(t, b, "t", again)
		wantForgettable(t, b)
		if page, _, err := b.List(t.Context(), task.Query{State: task.Failed, Limit: 9}); err != nil || len(page) != 0 {
			t.Errorf("it still counts as failed: %v, %v", page, err)
		}
		done := Small("t", task.Succeeded)
		done.Payload, done.Metadata = again.Payload, again.Metadata
		Write(t, b, Later(done, task.Queued))
		Want(t, b, "t", done)
		wantForgettable(t, b, "t")
		Write(t, b, task.Change{Forget: "t"})
	}
	check(t, b, map[string]*task.Record{"t": nil})
}

func forget(t T, b Backend) {
	want := map[string]*task.Record{}
	var changes, forgets []task.Change
	for state := task.Scheduled; state <= task.Expired; state++ {
		id := state.String()
		want[id] = nil
		r := Full(id, state)
		if r.State.Terminal() {
			r.Outcome.Result = bytes.Repeat([]byte("x"), 1000*int(state-task.Succeeded))
		}
		changes = append(changes, New(r))
		forgets = append(forgets, task.Change{Forget: id})
	}
	Write(t, b, changes...)
	Write(t, b, append(forgets, task.Change{Forget: "never-was"})...)
	if page, next, err := b.List(t.Context(), task.Query{Limit: 9}); err != nil || len(page) != 0 || next != "" {
		t.Errorf("after forgetting all, %d tasks are listed (%v, next %q)", len(page), err, next)
	}
	wantForgettable(t, b)
	// The id is free: nothing of the old task shines through.
	bare := &task.Record{Task: task.Task{ID: "QUEUED", Function: "g"}, State: task.Queued}
	Write(t, b, New(bare))
	want["QUEUED"] = bare
	check(t, b, want)
}

func oneWrite(t T, b Backend) {
	failed, queued, done := Full("a", task.Failed), Full("a", task.Queued), Full("a", task.Succeeded)
	done.ForgetAt = Epoch.Add(5)
	Write(t, b, New(Full("a", task.Queued)), Later(failed, task.Queued), Later(queued, task.Failed), Later(done, task.Queued),
		New(Full("b", task.Queued)), Later(Full("b", task.Failed), task.Queued), task.Change{Forget: "b"},
		New(Full("c", task.Queued)), Later(Full("c", task.Failed), task.Queued), Later(Full("c", task.Queued), task.Failed),
		New(Full("d", task.Queued)), task.Change{Forget: "d"}, New(Small("d", task.Queued)))
	// Finished before this write, and retried and forgotten within it.
	Write(t, b, New(Full("e", task.Failed)))
	Write(t, b, Later(Full("e", task.Queued), task.Failed), task.Change{Forget: "e"})
	wantForgettable(t, b, "a")
	wantList(t, b, task.Query{}, "d", "c", "a")
	check(t, b, map[string]*task.Record{"a": done, "b": nil, "e": nil, "c": Full("c", task.Queued), "d": Small("d", task.Queued)})
}

func twice(t T, b Backend) {
	for range 2 {
		Write(t, b, New(Full("new", task.Queued)), New(Full("old", task.Queued)))
	}
	for range 2 {
		Write(t, b, Later(Full("old", task.Succeeded), task.Queued))
	}
	for range 2 {
		Write(t, b, task.Change{Forget: "new"})
	}
	wantForgettable(t, b, "old")
	check(t, b, map[string]*task.Record{"new": nil, "old": Full("old", task.Succeeded)})
}

func large(t T, b Backend) {
	want := map[string]*task.Record{}
	var changes []task.Change
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		r := Full(id, task.Succeeded)
		r.Payload = bytes.Repeat([]byte(id), 4<<20)
		r.Outcome.Result = bytes.Repeat([]byte(id+"-"), 2<<20)
		want[id] = r
		changes = append(changes, New(r))
	}
	Write(t, b, changes...)
	check(t, b, want)
}

// ownership: the caller writes to everything that it gave and got.
func ownership(t T, b Backend) {
	given := Full("t", task.Succeeded)
	Write(t, b, New(given))
	scribble(given)
	Want(t, b, "t", Full("t", task.Succeeded))
	got, err := b.Get(t.Context(), "t")
	if err != nil || got == nil {
		t.Fatalf("got %v, %v", got, err)
	}
	scribble(got)
	Want(t, b, "t", Full("t", task.Succeeded))
}

func scribble(r *task.Record) {
	r.Payload[0]++
	r.Metadata["a"] = "other"
	r.Outcome.Result[0]++
	r.Seq++
	r.Outcome.Failure = nil
}
