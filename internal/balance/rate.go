package balance

import "time"

// rate counts events over the last minute, in steps of ten seconds.
type rate struct {
	since time.Time // of the first event
	step  int64     // the step that buckets[step%7] counts
	// Six full steps and the current one.
	buckets [7]int32
}

const stepSeconds = 10

func (r *rate) add(now time.Time) {
	if r.since.IsZero() {
		r.since = now
	}
	r.advance(now)
	r.buckets[r.step%int64(len(r.buckets))]++
}

func (r *rate) advance(now time.Time) {
	step := now.Unix() / stepSeconds
	if skipped := step - r.step; skipped >= int64(len(r.buckets)) {
		r.buckets = [len(r.buckets)]int32{}
	} else {
		for i := r.step + 1; i <= step; i++ {
			r.buckets[i%int64(len(r.buckets))] = 0
		}
	}
	r.step = max(r.step, step)
}

// perSecond is the mean over the last sixty to seventy seconds, or since the
// first event if that is less.
func (r *rate) perSecond(now time.Time) float64 {
	if r.since.IsZero() {
		return 0
	}
	r.advance(now)
	n := 0
	for _, b := range r.buckets {
		n += int(b)
	}
	window := time.Duration(now.Unix()%stepSeconds)*time.Second + time.Duration(now.Nanosecond()) +
		time.Duration(len(r.buckets)-1)*stepSeconds*time.Second
	window = max(min(window, now.Sub(r.since)), time.Second)
	return float64(n) / window.Seconds()
}
