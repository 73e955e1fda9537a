package balance

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"reparto/internal/task"
)

var (
	seedFlag      = flag.Uint64("seed", 0, "run the simulation with this seed alone")
	schedulesFlag = flag.Int("schedules", 3000, "how many schedules the simulation runs")
)

// TestSimulation runs thousands of schedules of facts in every order against
// the books of an observer, who believes nothing that the State says of itself.
func TestSimulation(t *testing.T) {
	if *seedFlag != 0 {
		simulate(t, *seedFlag)
		return
	}
	n := *schedulesFlag
	if testing.Short() {
		n /= 10
	}
	first := rand.Uint64()
	for i := range n {
		simulate(t, first+uint64(i))
	}
}

func simulate(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	defer func() {
		if p := recover(); p != nil {
			t.Fatalf("panic: %v\n%s\nagain: go test ./internal/balance -run TestSimulation -seed %d", p, debug.Stack(), seed)
		}
	}()
	if report := newSchedule(rng.IntN).run(20 + rng.IntN(150)); report != "" {
		t.Fatalf("%s\nagain: go test ./internal/balance -run TestSimulation -seed %d", report, seed)
	}
}

// TestEveryTurnIsFair: among sessions that are free all along, counts differ by
// at most one, whatever others do.
func TestEveryTurnIsFair(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 3))
		s, now := New(Options{}), time.Unix(1, 0)
		steady := map[*Session]int{}
		for i := range 2 + rng.IntN(20) {
			steady[s.Join(now, Registration{WorkerID: fmt.Sprint("steady", i), Functions: []string{"f"}, Slots: task.MaxSlots})] = 0
		}
		var others []*Session
		for i := range 500 {
			switch rng.IntN(6) {
			case 0:
				others = append(others, s.Join(now, Registration{WorkerID: fmt.Sprint("other", i), Functions: []string{"f"}, Slots: 1 + rng.IntN(2)}))
			case 1:
				if len(others) > 0 {
					k := rng.IntN(len(others))
					s.Leave(now, others[k])
					others = slices.Delete(others, k, k+1)
				}
			}
			if _, err := s.Submit(now, &task.Task{ID: fmt.Sprint(i), Function: "f", Deadline: now.Add(time.Hour), MaxAttempts: 1}); err != nil {
				t.Fatal(err)
			}
			for _, e := range s.Take() {
				if _, ok := steady[e.Session]; ok && e.Kind == Assign {
					steady[e.Session]++
				}
			}
			least, most := 1<<30, 0
			for _, n := range steady {
				least, most = min(least, n), max(most, n)
			}
			if most-least > 1 {
				t.Fatalf("seed %d, task %d: one session had %d tasks and another %d", seed, i, least, most)
			}
		}
	}
}
