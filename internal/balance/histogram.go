package balance

import (
	"cmp"
	"math"
	"time"
)

// Histogram counts durations in buckets of which each is 2^(1/8), about 9 %, wider
// than the one before: those of a native histogram of Prometheus with schema 3
// (https://prometheus.io/docs/specs/native_histograms/). Adding one costs a few
// nanoseconds.
type Histogram struct {
	Counts [buckets]uint64 // bucket i holds what is over Bound(i-1), up to Bound(i)
	Sum    float64         // seconds
	step   int64           // the half minute that was counted in last
	// The bucket of the duration that came last: those of a batch are mostly the same.
	last   time.Duration
	bucket int
	// What Counts were when that half minute began, and the one before it.
	begin [2][buckets]uint64
}

const (
	// HistogramSchema says, to Prometheus, how wide the buckets are.
	HistogramSchema = 3
	// perDoubling is how many buckets there are from a duration to twice that.
	perDoubling = 1 << HistogramSchema
	// What is below or above is counted at the end: from about 1 µs to 36 hours.
	lowest, highest = -20, 17
	buckets         = (highest-lowest)*perDoubling + 1
	halfMinute      = 30
)

// HistogramOffset is the index that Prometheus gives to bucket 0.
const HistogramOffset = lowest * perDoubling

// steps are the lower ends of the buckets within a doubling, from 1/2 on.
var steps = func() (s [perDoubling]float64) {
	for i := range s {
		s[i] = math.Exp2(float64(i)/perDoubling - 1)
	}
	return s
}()

// Bound is the upper end of bucket i, in seconds.
func Bound(i int) float64 { return math.Exp2(float64(i+HistogramOffset) / perDoubling) }

func bucketOf(d time.Duration) int {
	if d <= 0 {
		return 0
	}
	fraction, exponent := math.Frexp(seconds(d)) // fraction in [1/2, 1)
	i := 0
	for i < perDoubling && steps[i] < fraction {
		i++
	}
	return min(max((exponent-1)*perDoubling+i-HistogramOffset, 0), buckets-1)
}

func (h *Histogram) add(now time.Time, d time.Duration) {
	h.advance(now)
	if d != h.last {
		h.last, h.bucket = d, bucketOf(d)
	}
	if h.Counts[h.bucket]++; d > 0 {
		h.Sum += seconds(d)
	}
}

// seconds is d.Seconds with one division.
func seconds(d time.Duration) float64 { return float64(d) / 1e9 }

// advance notes that half minutes have begun.
func (h *Histogram) advance(now time.Time) {
	switch step := now.Unix() / halfMinute; {
	case step <= h.step:
	case step == h.step+1:
		h.begin[0], h.begin[1], h.step = h.begin[1], h.Counts, step
	default:
		h.begin[0], h.begin[1], h.step = h.Counts, h.Counts, step
	}
}

// Latency sums up durations of the last thirty to sixty seconds. Quantiles are the
// upper ends of buckets.
type Latency struct {
	Count    int64
	P50, P99 time.Duration
}

// recent sums up what was added of late.
func (h *Histogram) recent(now time.Time) (l Latency) {
	if h == nil {
		return l
	}
	h.advance(now)
	var counts [buckets]uint64
	for i := range counts {
		counts[i] = h.Counts[i] - h.begin[0][i]
		l.Count += int64(counts[i])
	}
	at := func(q float64) time.Duration {
		rank := int64(math.Ceil(q * float64(l.Count)))
		for i, n := range counts {
			if rank -= int64(n); rank <= 0 {
				return time.Duration(Bound(i) * float64(time.Second))
			}
		}
		return 0
	}
	if l.Count > 0 {
		l.P50, l.P99 = at(0.50), at(0.99)
	}
	return l
}

// merged is h with what another has counted; either may be nil.
func (h *Histogram) merged(other *Histogram) *Histogram {
	if h == nil || other == nil {
		return cmp.Or(h, other)
	}
	for i, n := range other.Counts {
		h.Counts[i] += n
	}
	h.Sum += other.Sum
	return h
}

func (h *Histogram) copied() *Histogram {
	if h == nil {
		return nil
	}
	c := *h
	return &c
}
