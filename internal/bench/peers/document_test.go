package main

import (
	"strings"
	"testing"
)

func TestReplacedTouchesNothingElse(t *testing.T) {
	page := "before\n<!-- bench-peers:live -->\nold\n<!-- /bench-peers -->\nbetween\n<!-- bench-peers:open -->\n<!-- /bench-peers -->\nafter\n"
	got, err := replaced(page, "live", "new\n")
	if want := strings.Replace(page, "old", "new", 1); err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if again, err := replaced(got, "live", "new\n"); err != nil || again != got {
		t.Errorf("a second time: %q, %v", again, err)
	}
	for _, broken := range []string{"nothing", "<!-- bench-peers:live -->\nold"} {
		if got, err := replaced(broken, "live", "new"); err == nil {
			t.Errorf("%q became %q", broken, got)
		}
	}
}

// A round that a system has no result of counts for neither side.
func TestRatiosAreOfTheSameRound(t *testing.T) {
	rate := func(r result) float64 { return r.Rate }
	at := func(round int, rate float64) result {
		return result{Round: round, sample: sample{report: report{Rate: rate}}}
	}
	of, base := []result{at(0, 10), at(1, 300), at(2, 50)}, []result{at(0, 10), at(2, 100), at(3, 1)}
	if got, want := ratio(of, base, rate), "0.75 (0.50 to 1.00)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := ratio(of, nil, rate); got != "" {
		t.Errorf("%q without a base", got)
	}
}

func TestNumbersForReaders(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 999.4: "999", 1234: "1,230", 99950: "100,000", 1234567: "1,230,000"} {
		if got := count(v); got != want {
			t.Errorf("%v is written %s, want %s", v, got, want)
		}
	}
	for us, want := range map[float64]string{12.3: "12 µs", 1234: "1.2 ms", 45678: "46 ms", 12e6: "12 s"} {
		if got := duration(us); got != want {
			t.Errorf("%v µs are written %s, want %s", us, got, want)
		}
	}
}

func TestLatenciesAreCountedOnce(t *testing.T) {
	l := newLatencies()
	for i := range 1000 {
		l.record(i, shortest*1000*10) // 10 ms
	}
	l.record(5, 2*longest) // as if it were the longest
	n, q := l.sum()
	if n != 1001 || q.P50 < 9_990 || q.P50 > 10_020 || q.P999 > 10_020 {
		t.Errorf("%d, %+v", n, q)
	}
}
