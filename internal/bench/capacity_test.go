package bench

import (
	"flag"
	"os"
	"testing"
	"time"
)

var (
	tasks    = flag.Int("bench.tasks", 1_000_000, "tasks of BenchmarkMemory")
	sessions = flag.Int("bench.sessions", 10_000, "sessions of BenchmarkIdleSessions")
	idle     = flag.Duration("bench.idle", 30*time.Second, "how long BenchmarkIdleSessions looks on")
)

const mib = 1 << 20

// BenchmarkMemory puts a million tasks through one balancer and tells what it
// holds before and after, with garbage collected.
func BenchmarkMemory(b *testing.B) {
	for _, kind := range []string{"framed", "unary"} {
		b.Run(kind, func(b *testing.B) {
			h := startHouse(b, "balancer", "sdk", workers, "")
			// Tables grow to size with the first tasks.
			h.measure(b, config{Kind: kind, InFlight: 1024, Tasks: 20_000})
			before := h.broker.memory()
			rssBefore, _ := h.broker.resident()
			s := h.measure(b, config{Kind: kind, InFlight: 1024, Tasks: *tasks})
			after := h.broker.memory()
			rssAfter, peak := h.broker.resident()
			if s.Tasks != uint64(*tasks) {
				b.Fatalf("%d tasks were answered", s.Tasks)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(before.HeapBytes)/mib, "heap-before-MiB")
			b.ReportMetric(float64(after.HeapBytes)/mib, "heap-after-MiB")
			b.ReportMetric(float64(rssBefore)/mib, "rss-before-MiB")
			b.ReportMetric(float64(rssAfter)/mib, "rss-after-MiB")
			b.ReportMetric(float64(peak)/mib, "rss-peak-MiB")
			b.ReportMetric(float64(after.Goroutines-before.Goroutines), "goroutines-more")
		})
	}
}

// BenchmarkIdleSessions has many workers registered and one task a second.
func BenchmarkIdleSessions(b *testing.B) {
	for _, shape := range []struct {
		name    string
		perConn int
	}{{"100-a-connection", 100}, {"10-a-connection", 10}, {"1-a-connection", 1}} {
		b.Run(shape.name, func(b *testing.B) {
			h := startHouse(b, "balancer", "raw", 0, profileOf("idle-"+shape.name))
			began := time.Now()
			crowd := start(b, "sessions", config{Address: h.address, Sessions: *sessions, PerConn: shape.perConn})
			var ready any
			crowd.expect("ready", &ready)
			joined := time.Since(began)
			time.Sleep(*idle / 3) // until the stir of joining has settled
			before := h.broker.cpu()
			trickle := start(b, "client", config{Address: h.address, Kind: "trickle", InFlight: 1, Window: int(idle.Milliseconds())})
			trickle.expect("go", &ready)
			var r report
			trickle.expect("report", &r)
			cpu := h.broker.cpu() - before
			rss, peak := h.broker.resident()
			m := h.broker.memory()
			if want := uint64(*idle / time.Second); r.Tasks < want/2 {
				b.Fatalf("%d tasks were answered in %v", r.Tasks, *idle)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(100*cpu.Seconds()/idle.Seconds(), "%-of-a-core")
			b.ReportMetric(float64(rss)/mib, "rss-MiB")
			b.ReportMetric(float64(peak)/mib, "rss-peak-MiB")
			b.ReportMetric(float64(m.HeapBytes)/mib, "heap-MiB")
			b.ReportMetric(float64(m.StackBytes)/mib, "stacks-MiB")
			b.ReportMetric(float64(m.Goroutines), "goroutines")
			b.ReportMetric(joined.Seconds(), "s-to-join")
			b.ReportMetric(r.P50, "p50-µs")
		})
	}
}

// TestSessions sees whether idle sessions come, get a task, and go.
func TestSessions(t *testing.T) {
	h := startHouse(t, "balancer", "raw", 0, "")
	crowd := start(t, "sessions", config{Address: h.address, Sessions: 20, PerConn: 7})
	var ready any
	crowd.expect("ready", &ready)
	if s := h.measure(t, config{Kind: "framed", InFlight: 40, Tasks: 400}); s.Tasks != 400 {
		t.Errorf("%d tasks of 400 were answered", s.Tasks)
	}
	if m := h.broker.memory(); m.Goroutines == 0 || m.HeapBytes == 0 {
		t.Errorf("the balancer told nothing of its memory: %+v", m)
	}
	if rss, peak := h.broker.resident(); rss == 0 || peak < rss {
		t.Errorf("resident memory %d, at most %d", rss, peak)
	}
	if h.broker.cpu() < 0 || os.Getpid() == h.broker.cmd.Process.Pid {
		t.Error("the balancer is no process of its own")
	}
}
