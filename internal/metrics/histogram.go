package metrics

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"reparto/internal/dispatch"
)

// classic are the upper ends, in seconds, of the buckets for whoever does not read
// native histograms. They are right to within a bucket of those, 9 %.
var classic = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800}

// bothKinds is a native histogram that has classic buckets too, as those have which
// the library counts itself.
type bothKinds struct {
	prometheus.Metric
	buckets []*dto.Bucket
}

// Write implements prometheus.Metric.
func (b *bothKinds) Write(m *dto.Metric) error {
	if err := b.Metric.Write(m); err != nil {
		return err
	}
	m.Histogram.Bucket = b.buckets
	return nil
}

// histogram sends what the dispatcher has counted; nothing when that is nothing.
func histogram(to chan<- prometheus.Metric, d *prometheus.Desc, h *dispatch.Histogram, labels ...string) {
	if h == nil {
		return
	}
	native, count := map[int]int64{}, uint64(0)
	buckets := make([]*dto.Bucket, len(classic))
	next := 0
	upTo := func(end float64) { // the classic buckets that end before end have all they get
		for next < len(classic) && classic[next] < end {
			le, n := classic[next], count
			buckets[next] = &dto.Bucket{UpperBound: &le, CumulativeCount: &n}
			next++
		}
	}
	for i, n := range h.Counts {
		if n == 0 {
			continue
		}
		index := i + dispatch.HistogramOffset
		upTo(math.Exp2(float64(index) / (1 << dispatch.HistogramSchema)))
		native[index] = int64(n)
		count += n
	}
	upTo(math.Inf(1))
	metric, err := prometheus.NewConstNativeHistogram(d, count, h.Sum, native, nil, 0, dispatch.HistogramSchema, prometheus.DefNativeHistogramZeroThreshold, time.Time{}, labels...)
	if err != nil {
		to <- prometheus.NewInvalidMetric(d, err)
		return
	}
	to <- &bothKinds{metric, buckets}
}
