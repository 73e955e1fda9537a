package balance

import (
	"slices"
	"testing"
	"time"
)

// The heap against a slice that is sorted anew each time.
func FuzzTimers(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 5, 0, 3, 0, 9, 1, 0, 2, 1})
	f.Add(slices.Repeat([]byte{0, 200, 0, 7, 0, 7, 4, 90, 1, 2, 2, 0}, 40))
	f.Fuzz(func(t *testing.T, data []byte) {
		var h timers
		var in []*entry
		wakes := map[*entry]time.Time{}
		for ; len(data) >= 2; data = data[2:] {
			at := start.Add(time.Duration(data[1]) * time.Second)
			var e *entry
			if len(in) > 0 {
				e = in[int(data[0]/3)%len(in)]
			}
			switch op := data[0] % 3; {
			case op == 0 || e == nil: // another one
				e = &entry{}
				in = append(in, e)
				h.set(e, at)
				wakes[e] = at
			case op == 1: // it moves
				h.set(e, at)
				wakes[e] = at
			default: // out of the middle, and once more
				h.remove(e)
				h.remove(e)
				in = slices.DeleteFunc(in, func(k *entry) bool { return k == e })
				delete(wakes, e)
			}
			checkTimersAre(t, h, wakes)
		}
		var order []time.Time
		for _, at := range wakes {
			order = append(order, at)
		}
		slices.SortFunc(order, time.Time.Compare)
		for i, want := range order {
			if soonest, ok := h.next(); !ok || soonest.After(want) {
				t.Fatalf("timer %d is at %v; none is said to be before %v", i, want.Sub(start), soonest.Sub(start))
			}
			if e := h.due(want.Add(-1)); e != nil {
				t.Fatalf("timer %d is due at %v, before its %v", i, wakes[e].Sub(start), want.Sub(start))
			}
			e := h.due(want)
			if e == nil || !h.at(e).Equal(want) || !wakes[e].Equal(want) {
				t.Fatalf("timer %d is not due at its %v", i, want.Sub(start))
			}
			h.remove(e)
		}
		if n := len(h.heap) + h.len(); n != 0 {
			t.Fatalf("%d timers are left", n)
		}
	})
}

// checkTimersAre: the timers are those in wakes, the soonest first, and each
// entry knows its place.
func checkTimersAre(t *testing.T, h timers, wakes map[*entry]time.Time) {
	t.Helper()
	if h.len() != len(wakes) || h.empty > len(h.heap)/2 {
		t.Fatalf("%d timers, want %d; %d places are empty", h.len(), len(wakes), h.empty)
	}
	for i, timer := range h.heap {
		if timer.wake.Before(h.heap[0].wake) {
			t.Fatalf("timer %d is sooner than the first", i)
		}
		if timer.entry == nil {
			continue
		}
		if int(timer.entry.timer) != i+1 {
			t.Fatalf("the entry at %d believes to be at %d", i, timer.entry.timer-1)
		}
		if want, ok := wakes[timer.entry]; !ok || !timer.wake.Equal(want) {
			t.Fatalf("timer %d is at %v, want %v", i, timer.wake.Sub(start), want.Sub(start))
		}
	}
}
