package balance

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestBuckets: a duration is in the bucket whose bounds it is between.
func TestBuckets(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		d := time.Duration(math.Exp2(rng.Float64() * 47)) // 1 ns to 39 h
		i := bucketOf(d)
		if i > 0 && d.Seconds() <= Bound(i-1)*(1-1e-12) || i < buckets-1 && d.Seconds() > Bound(i)*(1+1e-12) {
			t.Fatalf("%v is in bucket %d, from %g to %g s", d, i, Bound(i-1), Bound(i))
		}
	}
	for d, want := range map[time.Duration]int{-time.Second: 0, 0: 0, 1: 0, time.Second: -HistogramOffset, 1000 * time.Hour: buckets - 1} {
		if got := bucketOf(d); got != want {
			t.Errorf("%v is in bucket %d, want %d", d, got, want)
		}
	}
}

// TestRecentLatency: quantiles are those of the last half minute to minute, at most a
// tenth too high.
func TestRecentLatency(t *testing.T) {
	start := time.Unix(1_000_000_020, 0) // the begin of a half minute
	var h Histogram
	if l := h.recent(start); l != (Latency{}) {
		t.Errorf("%+v of nothing", l)
	}
	for i := range 1000 {
		h.add(start.Add(time.Duration(i)*10*time.Millisecond), time.Duration(i+1)*time.Millisecond)
	}
	near := func(got, want time.Duration) bool { return got >= want && got <= want*11/10 }
	for _, after := range []time.Duration{10 * time.Second, 59 * time.Second} {
		l := h.recent(start.Add(after))
		if l.Count != 1000 || !near(l.P50, 500*time.Millisecond) || !near(l.P99, 990*time.Millisecond) {
			t.Errorf("%v later: %+v", after, l)
		}
	}
	h.add(start.Add(61*time.Second), time.Hour)
	if l := h.recent(start.Add(61 * time.Second)); l.Count != 1 || !near(l.P50, time.Hour) {
		t.Errorf("a minute later: %+v", l)
	}
	if l := h.recent(start.Add(time.Hour)); l.Count != 0 {
		t.Errorf("an hour later: %+v", l)
	}
	if n := sum(&h); n != 1001 || math.Abs(h.Sum-(500.5+3600)) > 1e-6 {
		t.Errorf("%d in all, %v s", n, h.Sum)
	}
}

func sum(h *Histogram) (n uint64) {
	if h == nil {
		return 0
	}
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// TestMeasures: what is counted never goes back, is right in all, and has at most so
// many names, whatever comes and goes.
func TestMeasures(t *testing.T) {
	s := New(Options{MaxMeasured: 3})
	now := time.Unix(1_000_000_000, 0)
	rng := rand.New(rand.NewPCG(3, 4))
	var ses *Session
	join := func() { // a worker for two functions; those of the one before are forgotten when nothing is left of them
		if ses != nil {
			s.Leave(now, ses)
		}
		first := 'a' + rune(rng.IntN(5))
		ses = s.Join(now, Registration{WorkerID: "w", SessionID: "s", Functions: []string{string(first), string(first + 1)}, Slots: 2})
	}
	before, submitted, answered := map[string]Totals{}, int64(0), uint64(0)
	for step := range 5000 {
		now = now.Add(time.Duration(rng.IntN(50)) * time.Millisecond)
		if step%50 == 0 {
			join()
		}
		name := string('a' + rune(rng.IntN(6)))
		k := newTask(fmt.Sprint("t", submitted), 1)
		k.Function, k.Deadline = name, now.Add(time.Second)
		ref, err := s.Submit(now, k)
		if err != nil {
			t.Fatal(err)
		}
		submitted++
		for _, e := range slices.Clone(s.Take()) {
			if e.Kind != Assign {
				continue
			}
			// What nobody waits for any more is not measured.
			if a := s.held(ses, e.Token); a != nil && a.entry != nil && a.entry.current == a && rng.IntN(5) > 0 {
				s.Result(now.Add(time.Millisecond), ses, &Result{Token: e.Token})
				answered++
			}
		}
		if rng.IntN(2) == 0 {
			s.Abandon(now, ref, "x")
		}
		s.Tick(now)
		list := s.Measures(now)
		if len(list) > 4 || list[len(list)-1].Function != "" {
			t.Fatalf("%d measures, the last is %q", len(list), list[len(list)-1].Function)
		}
		all, ran, these, queued := Totals{}, uint64(0), map[string]Totals{}, 0
		for _, m := range list {
			was, known := before[m.Function]
			if more := m.Totals.Submitted - was.Submitted; known && m.Function == name && more != 1 || known && m.Function != "" && m.Function != name && more != 0 {
				t.Fatalf("%q went from %+v to %+v when %q was submitted", m.Function, was, m.Totals, name)
			}
			if m.Totals.Submitted < was.Submitted || m.Totals.Cancelled < was.Cancelled || m.Totals.Succeeded < was.Succeeded || m.Queued < 0 || m.Running < 0 {
				t.Fatalf("%q went back from %+v to %+v", m.Function, was, m)
			}
			all, these[m.Function] = all.plus(m.Totals, 1), m.Totals
			ran, queued = ran+sum(m.Run), queued+m.Queued
		}
		if all.Submitted != submitted || ran != answered || queued != s.Counts().Queued {
			t.Fatalf("%+v in all, %d answered, %d queued; want %d, %d, %d", all, ran, queued, submitted, answered, s.Counts().Queued)
		}
		before = these
	}
}
