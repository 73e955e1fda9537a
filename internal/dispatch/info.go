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
