package dispatch

import (
	"time"

	"reparto/internal/balance"
)

// FunctionInfo describes a function at one moment.
type FunctionInfo = balance.FunctionInfo

// WorkerInfo describes a connected worker at one moment.
type WorkerInfo struct {
	balance.SessionInfo
	LastHeard time.Duration // ago
}

// Info describes the balancer at one moment.
type Info struct {
	balance.Counts
	ID       string
	Uptime   time.Duration
	Draining bool
	// Store is what keeps durable tasks; StoreError why it does not, or nil.
	Store      string
	StoreError error
}

// Info tells how much the balancer holds.
func (d *Dispatcher) Info() Info {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Info{Counts: d.state.Counts(), ID: d.id, Uptime: time.Since(d.started), Draining: d.draining, Store: d.opt.StoreName, StoreError: d.storeErr}
}

// Functions describes the functions whose name sorts after the one given, at
// most limit of them, in the order of their names.
func (d *Dispatcher) Functions(after string, limit int) []FunctionInfo {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state.Functions(time.Now(), after, limit)
}

// Latency sums up durations of the last thirty to sixty seconds.
type Latency = balance.Latency

// Measure is what has been counted of one function, or of several; see
// balance.Measure.
type Measure = balance.Measure

// Histogram counts durations; see balance.Histogram.
type Histogram = balance.Histogram

// HistogramSchema and HistogramOffset say what the buckets of a Histogram are in
// Prometheus' terms.
const (
	HistogramSchema = balance.HistogramSchema
	HistogramOffset = balance.HistogramOffset
)

// Measures is what Dispatcher.Measures finds, of one moment.
type Measures struct {
	// Functions are those that are counted each by itself, in the order of their
	// names, and at the end all others, without a name.
	Functions []Measure
	// Slots of all workers that do not leave, and those that are free.
	Slots, FreeSlots int
}

// Measures tells what has been counted. It holds the state for as long as a copy
// takes: a millisecond at most with the 100 functions that are usual.
func (d *Dispatcher) Measures() (m Measures) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m.Functions = d.state.Measures(time.Now())
	m.Slots, m.FreeSlots = d.state.Slots()
	return m
}

// maxRunning is how many of its assignments are listed with a worker.
const maxRunning = 100

// Workers describes the workers whose id sorts after the one given, at most
// limit of them, in the order of their ids; with a function, only those that
// offer it.
func (d *Dispatcher) Workers(function, after string, limit int) []WorkerInfo {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	var infos []WorkerInfo
	for _, s := range d.state.Sessions(now, function, after, limit, maxRunning) {
		infos = append(infos, WorkerInfo{s, now.Sub(s.Owner.(*Session).heard())})
	}
	return infos
}
