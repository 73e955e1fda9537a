package balance

import (
	"math"
	"testing"
	"time"
)

func TestRate(t *testing.T) {
	for _, c := range []struct {
		name  string
		every time.Duration
		n     int
		pause time.Duration // between the last event and the question
		want  float64
	}{
		{"nothing", 0, 0, 0, 0},
		{"one, just now, counts as one in a second", 0, 1, 0, 1},
		{"steady for a few seconds", 100 * time.Millisecond, 50, 0, 10},
		{"steady for ten minutes", 100 * time.Millisecond, 6000, 0, 10},
		{"slow", 5 * time.Second, 100, 0, 0.2},
		{"a burst half a minute ago", 0, 300, 30 * time.Second, 10},
		{"all of it more than a minute ago", time.Millisecond, 5000, 71 * time.Second, 0},
		{"all of it long ago", time.Millisecond, 5000, 24 * time.Hour, 0},
	} {
		var r rate
		now := start.Add(3 * time.Second) // not on a step
		for range c.n {
			r.add(now)
			now = now.Add(c.every)
		}
		got := r.perSecond(now.Add(c.pause))
		if math.Abs(got-c.want) > 0.11*c.want {
			t.Errorf("%s: %.3f a second, want %.3f", c.name, got, c.want)
		}
	}
}

// A clock that is set back loses nothing and breaks nothing.
func TestRateWithTimeSetBack(t *testing.T) {
	var r rate
	r.add(start)
	r.add(start.Add(-time.Hour))
	r.add(start)
	if got := r.perSecond(start); got != 3 {
		t.Errorf("%v a second, want 3", got)
	}
	if got := r.perSecond(start.Add(-time.Hour)); math.IsNaN(got) || got < 0 {
		t.Errorf("%v a second an hour before", got)
	}
}
