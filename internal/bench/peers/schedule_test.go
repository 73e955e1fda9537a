package main

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func TestScheduleKeepsItsRate(t *testing.T) {
	s := newSchedule(1000, rand.New(rand.NewPCG(1, 2)))
	n := 0
	var gaps, squares float64
	for before := time.Duration(0); ; n++ {
		at, ok := s.due(100 * time.Second)
		if !ok {
			break
		}
		if at < before {
			t.Fatalf("task %d is due at %v, after one at %v", n, at, before)
		}
		gap := (at - before).Seconds()
		gaps, squares, before = gaps+gap, squares+gap*gap, at
	}
	if n < 99_000 || n > 101_000 {
		t.Errorf("%d tasks in 100 s, not about 100,000", n)
	}
	// Of independent arrivals, the deviation of the gaps is their mean.
	mean := gaps / float64(n)
	if deviation := math.Sqrt(squares/float64(n) - mean*mean); math.Abs(deviation/mean-1) > 0.05 {
		t.Errorf("gaps of %v s deviate by %v s", mean, deviation)
	}
}

// A driver that was held up hands over what it missed, and the time that each
// should have gone at is the one that counts.
func TestScheduleForgetsNothing(t *testing.T) {
	const seed = 7
	punctual, late := newSchedule(100, rand.New(rand.NewPCG(seed, 0))), newSchedule(100, rand.New(rand.NewPCG(seed, 0)))
	var want []time.Duration
	for now := time.Duration(0); now < time.Second; now += time.Millisecond {
		for at, ok := punctual.due(now); ok; at, ok = punctual.due(now) {
			want = append(want, at)
		}
	}
	for i, w := range want {
		if at, ok := late.due(time.Second); !ok || at != w {
			t.Fatalf("task %d is due at %v, %v, not %v", i, at, ok, w)
		}
	}
}
