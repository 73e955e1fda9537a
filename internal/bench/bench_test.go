package bench

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	rounds   = flag.Int("bench.rounds", 5, "rounds of the end-to-end benchmark, each in another order")
	window   = flag.Duration("bench.window", 2*time.Second, "how long one measurement takes")
	warmup   = flag.Duration("bench.warmup", 400*time.Millisecond, "how long each runs before it counts")
	inFlight = flag.String("bench.inflight", "1,64,1024", "calls in flight")
	only     = flag.String("bench.rows", "", "measure the rows whose name matches this regular expression")
	profiles = flag.String("bench.profile", "", "a directory for CPU and allocation profiles of all processes")
)

// row is one thing that is measured.
type row struct {
	name    string
	broker  string // relay or balancer
	workers string // raw or sdk
	client  string // unary, framed or sdk
	base    string // the row that this is a share of
}

var rows = []row{
	{"relay-unary", "relay", "raw", "unary", ""},
	{"unary", "balancer", "sdk", "unary", "relay-unary"},
	{"unary-raw-worker", "balancer", "raw", "unary", "relay-unary"},
	{"relay-framed", "relay", "raw", "framed", ""},
	{"sdk", "balancer", "sdk", "sdk", "relay-framed"},
	{"sdk-raw-worker", "balancer", "raw", "sdk", "relay-framed"},
	{"framed", "balancer", "sdk", "framed", "relay-framed"},
	{"framed-raw-worker", "balancer", "raw", "framed", "relay-framed"},
}

// workers is how many worker processes a broker has.
const workers = 3

// house is a broker and its workers.
type house struct {
	broker  *process
	workers []*process
	address string
}

// houses start as they are needed, and stay: an idle one costs nothing.
type houses map[string]*house

func (hs houses) of(t testing.TB, r row) *house {
	t.Helper()
	key := r.broker + "-" + r.workers
	if h := hs[key]; h != nil {
		return h
	}
	h := startHouse(t, r.broker, r.workers, workers, profileOf(key))
	hs[key] = h
	return h
}

func profileOf(name string) string {
	if *profiles == "" {
		return ""
	}
	return filepath.Join(*profiles, name)
}

// startHouse starts a broker with n workers of a kind.
func startHouse(t testing.TB, broker, kind string, n int, profile string) *house {
	t.Helper()
	c := config{Kind: kind}
	if profile != "" {
		c.Profile = profile + "-broker"
	}
	h := &house{broker: start(t, broker, c)}
	h.broker.expect("listening", &h.address)
	for i := range n {
		c := config{Address: h.address, Kind: kind}
		if profile != "" {
			c.Profile = fmt.Sprintf("%s-worker%d", profile, i)
		}
		w := start(t, "worker", c)
		var ready any
		w.expect("ready", &ready)
		h.workers = append(h.workers, w)
	}
	return h
}

// sample is one measurement. CPU time is for 100,000 tasks.
type sample struct {
	report
	broker, client, workers, all time.Duration
}

// measure has a new client process run against a house.
func (h *house) measure(t testing.TB, c config) sample {
	t.Helper()
	c.Address = h.address
	client := start(t, "client", c)
	look := func() (now sample) {
		now.broker, now.client = h.broker.cpu(), client.cpu()
		for _, w := range h.workers {
			now.workers += w.cpu()
		}
		return now
	}
	var s sample
	var started any
	client.expect("go", &started)
	before := look()
	client.expect("report", &s.report)
	after := look()
	client.stop()
	if s.Tasks > 0 {
		used := func(of func(sample) time.Duration) time.Duration {
			return time.Duration(float64(of(after)-of(before)) * 100_000 / float64(s.Tasks))
		}
		s.broker = used(func(s sample) time.Duration { return s.broker })
		s.client = used(func(s sample) time.Duration { return s.client })
		s.workers = used(func(s sample) time.Duration { return s.workers })
		s.all = s.broker + s.client + s.workers
	}
	return s
}

// BenchmarkEndToEnd measures every row at every number in flight, in rounds of
// shuffled order, and reports medians. A share is the median of each round's: of
// the relay's rate, and of its rate for the CPU time that all processes used,
// which is what holds when something else runs on the machine too.
func BenchmarkEndToEnd(b *testing.B) {
	names := regexp.MustCompile(*only)
	type cell struct {
		row
		inFlight int
	}
	var cells []cell
	for _, field := range strings.Split(*inFlight, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 {
			b.Fatalf("-bench.inflight %q: want numbers from 1, with commas between", *inFlight)
		}
		for _, r := range rows {
			if names.MatchString(r.name) {
				cells = append(cells, cell{r, n})
			}
		}
	}
	hs := houses{}
	samples := map[string][]sample{}
	key := func(name string, n int) string { return fmt.Sprintf("%s/%d", name, n) }
	for range *rounds {
		for _, i := range rand.Perm(len(cells)) {
			c := cells[i]
			k := key(c.name, c.inFlight)
			cfg := config{
				Kind: c.client, InFlight: c.inFlight,
				Warmup: int(warmup.Milliseconds()), Window: int(window.Milliseconds()),
			}
			if p := profileOf(c.name); p != "" {
				cfg.Profile = fmt.Sprintf("%s-client%d", p, c.inFlight)
			}
			samples[k] = append(samples[k], hs.of(b, c.row).measure(b, cfg))
		}
	}
	for _, c := range cells {
		b.Run(key(c.name, c.inFlight), func(b *testing.B) {
			got := samples[key(c.name, c.inFlight)]
			b.ReportMetric(0, "ns/op") // of no use here
			b.ReportMetric(median(got, func(_ int, s sample) float64 { return s.Rate }), "tasks/s")
			b.ReportMetric(median(got, func(_ int, s sample) float64 { return s.P50 }), "p50-µs")
			b.ReportMetric(median(got, func(_ int, s sample) float64 { return s.P99 }), "p99-µs")
			b.ReportMetric(median(got, func(_ int, s sample) float64 { return s.broker.Seconds() }), "broker-s/100k")
			b.ReportMetric(median(got, func(_ int, s sample) float64 { return s.client.Seconds() }), "client-s/100k")
			b.ReportMetric(median(got, func(_ int, s sample) float64 { return s.workers.Seconds() }), "workers-s/100k")
			b.ReportMetric(median(got, func(_ int, s sample) float64 { return s.all.Seconds() }), "all-s/100k")
			if base := samples[key(c.base, c.inFlight)]; base != nil {
				b.ReportMetric(100*median(got, func(i int, s sample) float64 { return s.Rate / base[i].Rate }), "%-of-relay")
				b.ReportMetric(100*median(got, func(i int, s sample) float64 {
					return base[i].all.Seconds() / max(s.all.Seconds(), 1e-9)
				}), "%-of-relay-per-cpu")
			}
		})
	}
}

func median(samples []sample, value func(int, sample) float64) float64 {
	var values []float64
	for i, s := range samples {
		values = append(values, value(i, s))
	}
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// TestRoles sees whether all processes play their parts, and asserts no times.
func TestRoles(t *testing.T) {
	hs := houses{}
	for _, r := range rows {
		h := hs.of(t, r)
		t.Run(r.name, func(t *testing.T) {
			s := h.measure(t, config{Kind: r.client, InFlight: 16, Tasks: 200})
			if s.Tasks != 200 {
				t.Errorf("%d tasks of 200 were answered", s.Tasks)
			}
		})
	}
}
