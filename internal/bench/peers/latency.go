package main

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// latencies collects from many goroutines; those whose slots differ seldom meet.
type latencies struct {
	shards [16]struct {
		mu sync.Mutex
		h  *hdrhistogram.Histogram
	}
}

// Beyond the longest, a latency counts as that long.
const (
	shortest = time.Microsecond
	longest  = 2 * time.Minute
)

func newLatencies() *latencies {
	l := &latencies{}
	for i := range l.shards {
		l.shards[i].h = hdrhistogram.New(int64(shortest), int64(longest), 3)
	}
	return l
}

func (l *latencies) record(slot int, d time.Duration) {
	s := &l.shards[slot%len(l.shards)]
	s.mu.Lock()
	_ = s.h.RecordValue(int64(min(d, longest))) // it is within bounds
	s.mu.Unlock()
}

// quantiles are microseconds.
type quantiles struct{ P50, P99, P999 float64 }

// sum returns how many were recorded, and their quantiles.
func (l *latencies) sum() (uint64, quantiles) {
	all := hdrhistogram.New(int64(shortest), int64(longest), 3)
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		all.Merge(s.h)
		s.mu.Unlock()
	}
	us := func(q float64) float64 { return float64(all.ValueAtQuantile(q)) / 1e3 }
	return uint64(all.TotalCount()), quantiles{us(50), us(99), us(99.9)}
}
