package task

import (
	"slices"
	"testing"
)

// TestMovesAreThoseOfTheDiagram spells the diagram in state.go out.
func TestMovesAreThoseOfTheDiagram(t *testing.T) {
	ends := []State{Succeeded, Failed, Cancelled, Expired}
	legal := map[State][]State{
		None:      {Scheduled, Queued},
		Scheduled: append([]State{Queued, Running}, ends...), // Running: claimed back; the ends: a late answer, a cancellation, the deadline
		Queued:    append([]State{Scheduled, Running}, ends...),
		Running:   append([]State{Scheduled, Queued}, ends...),
	}
	for from := None; from <= Expired; from++ {
		for to := None; to <= Expired; to++ {
			if got, want := from.MayBecome(to), slices.Contains(legal[from], to); got != want {
				t.Errorf("%v may become %v: %v, want %v", from, to, got, want)
			}
		}
		if got, want := from.Terminal(), slices.Contains(ends, from); got != want {
			t.Errorf("%v is terminal: %v, want %v", from, got, want)
		}
	}
}

func TestStatesHaveTheNamesOfTheContract(t *testing.T) {
	for state, want := range map[State]string{Queued: "QUEUED", Running: "RUNNING", Expired: "EXPIRED", 99: "STATE(?)"} {
		if got := state.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
