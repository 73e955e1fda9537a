package balance

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// Pages follow one another without a gap, in the order of names.
func TestListsArePaged(t *testing.T) {
	s := New(Options{})
	for i := range 25 {
		s.Join(start, Registration{
			WorkerID: fmt.Sprintf("w%02d", (i*7)%25), Slots: 1 + i%3,
			Functions: []string{fmt.Sprintf("f%02d", i), "all"},
		})
	}
	for _, limit := range []int{1, 4, 25, 26, 1000} {
		var functions, workers []string
		for after := ""; ; {
			page := s.Functions(start, after, limit)
			if len(page) > limit {
				t.Fatalf("a page of %d has %d", limit, len(page))
			}
			if len(page) == 0 {
				break
			}
			for _, f := range page {
				functions = append(functions, f.Name)
			}
			after = functions[len(functions)-1]
		}
		for after := ""; ; {
			page := s.Sessions(start, "all", after, limit, 10)
			if len(page) == 0 {
				break
			}
			for _, w := range page {
				workers = append(workers, w.WorkerID)
			}
			after = workers[len(workers)-1]
		}
		if len(functions) != 26 || !slices.IsSorted(functions) || len(workers) != 25 || !slices.IsSorted(workers) {
			t.Errorf("pages of %d: %v, %v", limit, functions, workers)
		}
	}
	if got := s.Sessions(start, "f03", "", 10, 10); len(got) != 1 {
		t.Errorf("%d sessions offer f03", len(got))
	}
	if got := s.Sessions(start, "nothing", "", 10, 10); len(got) != 0 {
		t.Errorf("%d sessions offer nothing", len(got))
	}
}

// What is told of a function and of its workers, in the middle of things.
func TestListsTellWhatThereIs(t *testing.T) {
	s := New(Options{})
	w := s.Join(start, Registration{WorkerID: "w", Functions: []string{"f"}, Slots: 2})
	leaving := s.Join(start, Registration{WorkerID: "leaving", Functions: []string{"f"}, Slots: 1})
	s.Drain(leaving)
	for i := range 4 {
		submitError(s, newTask(fmt.Sprint(i), 100))
	}
	now := start.Add(10 * time.Second)
	f := s.Functions(now, "", 10)[0]
	if f.Workers != 2 || f.FreeSlots != 1 && f.FreeSlots != 0 || f.Queued != 2 || f.QueuedBytes != 2*(least+100) ||
		f.Running != 2 || f.OldestAge != 10*time.Second || f.Totals.Submitted != 4 || f.SubmittedPerSecond != 0.4 {
		t.Errorf("%+v", f)
	}
	if f.FreeSlots != 0 {
		t.Errorf("%d free slots, of which none may be used", f.FreeSlots)
	}
	infos := s.Sessions(now, "", "", 10, 1)
	if len(infos) != 2 || !infos[0].Draining || infos[0].WorkerID != "leaving" || infos[1].Session != w ||
		infos[1].FreeSlots != 0 || len(infos[1].Running) != 1 || infos[1].Running[0].For != 10*time.Second || infos[1].Connected != 10*time.Second {
		t.Errorf("%+v", infos)
	}
	if !s.Offered("f") || s.Offered("g") {
		t.Error("f is offered, and g is not")
	}
	s.Drain(w)
	if s.Offered("f") {
		t.Error("f is offered by none but those that leave")
	}
}
