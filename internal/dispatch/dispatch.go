// Package dispatch owns the balancer's state: it gives it the time, carries out
// what follows, and keeps those who wait and those who work.
//
// One mutex guards everything that decides; a fact goes in, its effects come out
// and are put into the outboxes of sessions and the hands of waiters before the
// mutex is released, so that effects never overtake one another. Nothing under
// the mutex blocks: whoever sends over a network takes from an outbox.
//
//	d, err := dispatch.Open(dispatch.Options{})
//	defer d.Close()
//	d.Submit(waiter, batch)          // a client's border
//	ses, err := d.Attach(reg)        // a worker's border
//	for ses.Next(&out) == nil { … }  //   its writer
//	ses.Results(results)             //   its reader
package dispatch

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"reparto/internal/balance"
	"reparto/internal/ids"
	"reparto/internal/task"
)

// Options of a Dispatcher. The zero value of each field means its default.
type Options struct {
	// Balance bounds queues and attempts.
	Balance balance.Options
	// DefaultTimeout is the time limit of a task that names none. Default 5
	// minutes.
	DefaultTimeout time.Duration
	// MaxTimeout is the longest time limit that a task may name. Default 24 h.
	MaxTimeout time.Duration
	// DefaultMaxAttempts is how often a task that names no number may fail and
	// ask for a retry. Default 3.
	DefaultMaxAttempts int
	// Store remembers durable tasks. Without one, Enqueue refuses all of them.
	Store Store
	// StoreName tells people what the store is, e.g. "file:reparto-data".
	StoreName string
	// DefaultTTL is how long a durable task that names no time may wait and run
	// before it is EXPIRED, from when it may first run. Default 7 days.
	DefaultTTL time.Duration
	// MaxTTL bounds that time, and how far ahead a task may be scheduled. Default
	// 366 days.
	MaxTTL time.Duration
	// DefaultRetention is how long the outcome of a durable task is kept that
	// names no time. Default 24 h.
	DefaultRetention time.Duration
	// MaxRetention bounds that time. Default 366 days.
	MaxRetention time.Duration
	// MaxPayload bounds payloads and results, in bytes. Default 4 MiB.
	MaxPayload int
	// Heartbeat is the interval at which either side of a session speaks. A
	// worker that is not heard for three of them is gone. Default 10 s; at least
	// 10 ms.
	Heartbeat time.Duration
	// SendLimit is how long a send to a worker or a client may block before its
	// stream is ended. Default 10 s.
	SendLimit time.Duration
	// ClaimWindow is how long a task that ran when the balancer stopped waits for
	// its worker to come back. Default 5 s.
	ClaimWindow time.Duration
	// OnStore is told when the store fails, and with nil when it works again. It
	// must neither block nor call the Dispatcher. Default: nobody.
	OnStore func(error)
	// ReconnectAfter is what workers are told to wait before they dial again
	// when the balancer stops. Default 500 ms.
	ReconnectAfter time.Duration
	// Tracer makes the way of single tasks visible. Default: nobody looks.
	Tracer Tracer
	// Log gets a line for every event that an operator acts on, and at level
	// debug for every task. Default: none.
	Log *slog.Logger
}

// sweeps is how often in an interval the sessions are looked at: what is due is
// late, or early, by at most this part of it.
const sweeps = 16

// missedHeartbeats is how many intervals of silence mean that a worker is gone.
const missedHeartbeats = 3

func (o Options) validate() (Options, error) {
	span := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	span(&o.DefaultTimeout, 5*time.Minute)
	span(&o.MaxTimeout, 24*time.Hour)
	span(&o.DefaultTTL, 7*24*time.Hour)
	span(&o.MaxTTL, 366*24*time.Hour)
	span(&o.DefaultRetention, 24*time.Hour)
	span(&o.MaxRetention, 366*24*time.Hour)
	span(&o.Heartbeat, 10*time.Second)
	span(&o.SendLimit, 10*time.Second)
	span(&o.ReconnectAfter, 500*time.Millisecond)
	span(&o.ClaimWindow, 5*time.Second)
	if o.OnStore == nil {
		o.OnStore = func(error) {}
	}
	if o.DefaultMaxAttempts == 0 {
		o.DefaultMaxAttempts = 3
	}
	if o.MaxPayload == 0 {
		o.MaxPayload = 4 << 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.DefaultTimeout < task.MinTimeout || o.DefaultTimeout > o.MaxTimeout:
		return o, fmt.Errorf("default timeout %v: want %v to the maximum of %v", o.DefaultTimeout, task.MinTimeout, o.MaxTimeout)
	case o.Heartbeat < 10*time.Millisecond:
		return o, fmt.Errorf("heartbeat %v: want at least 10ms", o.Heartbeat)
	case o.DefaultTTL < task.MinTimeout || o.DefaultTTL > o.MaxTTL:
		return o, fmt.Errorf("default time to live %v: want %v to the maximum of %v", o.DefaultTTL, task.MinTimeout, o.MaxTTL)
	case o.DefaultRetention < time.Second || o.DefaultRetention > o.MaxRetention:
		return o, fmt.Errorf("default retention %v: want 1s to the maximum of %v", o.DefaultRetention, o.MaxRetention)
	case o.ClaimWindow < 0 || o.Balance.Aging < 0 || o.Balance.MaxDurableTasks < 0 || o.Balance.MaxResident < 0:
		return o, errors.New("a duration or a limit is negative")
	case o.SendLimit < 0 || o.ReconnectAfter < 0 || o.Balance.Backoff < 0 || o.Balance.MaxBackoff < 0 || o.Balance.KeepFor < 0:
		return o, errors.New("a duration is negative")
	case o.MaxPayload < 0 || o.Balance.MaxQueuedTasks < 0 || o.Balance.MaxFunctionQueuedTasks < 0 ||
		o.Balance.MaxFunctionQueuedBytes < 0 || o.Balance.MaxBytes < 0 || o.Balance.MaxKeptBytes < 0:
		return o, errors.New("a limit is negative")
	case o.DefaultMaxAttempts < 1 || o.DefaultMaxAttempts > task.MaxMaxAttempts || o.Balance.MaxLost < 0:
		return o, fmt.Errorf("max attempts %d, max lost %d: want 1 to %d", o.DefaultMaxAttempts, o.Balance.MaxLost, task.MaxMaxAttempts)
	}
	return o, nil
}

// What the core refuses with, for borders, which do not know the core.
var (
	ErrNoWorker   = balance.ErrNoWorker
	ErrDraining   = balance.ErrDraining
	ErrIDConflict = balance.ErrIDConflict
)

// QueueFullError says which limit a task did not fit under.
type QueueFullError = balance.QueueFullError

// Dispatcher owns the state. All methods may be called concurrently; none
// blocks, but for Drain and Close.
type Dispatcher struct {
	opt      Options
	log      *slog.Logger
	logTasks bool // whether anybody reads lines about single tasks
	id       string
	started  time.Time
	ids      ids.Source

	mu       sync.Mutex
	state    *balance.State
	sessions map[*Session]struct{}
	trails   *trails // nil when nobody looks
	draining bool
	idle     chan struct{} // closed once draining and nothing runs
	closed   bool
	armed    time.Time // when the clock will next wake by itself
	// What the effects that are being carried out have for others, until handOver:
	// outcomes of one waiter, and sessions with assignments.
	who      Waiter
	finished []Finished
	given    []*Session

	open       *group        // gathers what the next write must hold; nil when nothing does
	owed       []task.Change // to be written beside the tasks' own
	storeErr   error         // why the store can't be written to
	stopped    bool          // nothing is written any more
	dirty      chan struct{} // tells the committer that a group is open
	stopCommit chan struct{}
	committer  sync.WaitGroup
	life       context.Context
	end        context.CancelFunc

	rearm chan struct{} // tells the clock that it must wake sooner
	stop  chan struct{}
	clock sync.WaitGroup
}

// Open starts a Dispatcher with what its store remembers; Close ends it. It
// returns once all unfinished tasks are loaded.
func Open(o Options) (*Dispatcher, error) {
	o, err := o.validate()
	if err != nil {
		return nil, fmt.Errorf("dispatch options: %w", err)
	}
	if o.Balance.Seed == 0 {
		var seed [4]byte
		rand.Read(seed[:])
		o.Balance.Seed = binary.BigEndian.Uint32(seed[:])
	}
	d := &Dispatcher{
		opt:      o,
		log:      o.Log,
		logTasks: o.Log.Enabled(context.Background(), slog.LevelDebug),
		started:  time.Now(),
		state:    balance.New(o.Balance),
		sessions: map[*Session]struct{}{},
		trails:   newTrails(o.Tracer),
		idle:     make(chan struct{}),
		rearm:    make(chan struct{}, 1),
		stop:     make(chan struct{}),
		dirty:    make(chan struct{}, 1), stopCommit: make(chan struct{}),
	}
	d.opt.Balance = d.state.Options()
	d.id = d.ids.New()
	// What reads from the store beside a call lives as long as the Dispatcher.
	d.life, d.end = context.WithCancel(context.Background())
	if err := d.load(); err != nil {
		d.end()
		return nil, err
	}
	d.clock.Go(d.runClock)
	return d, nil
}

// OwnerLimits bound what one owner may have without an outcome.
type OwnerLimits = balance.OwnerLimits

// LimitOwners sets what each owner of tasks may have: what is named, and for all
// others usual. It may be called at any time; the map belongs to the Dispatcher
// from then on.
func (d *Dispatcher) LimitOwners(usual OwnerLimits, named map[string]OwnerLimits) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state.LimitOwners(usual, named)
}

// Options returns the options in force, defaults filled in.
func (d *Dispatcher) Options() Options {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.opt
}

// ID names this run of the balancer; another one has another.
func (d *Dispatcher) ID() string { return d.id }

// settle carries out what follows from the facts just told. The caller holds
// d.mu.
func (d *Dispatcher) settle() {
	effects := d.state.Take()
	for i := range effects {
		e := &effects[i]
		if !e.Durable {
			d.carryOut(e)
			continue
		}
		if e.Kind == balance.Assign {
			e.Session.Owner.(*Session).promise()
		}
		g := d.join()
		g.effects = append(g.effects, *e)
	}
	d.handOver()
	if d.state.Changed() {
		d.join()
	}
	if d.draining && d.state.Running() == 0 {
		d.becomeIdle()
	}
	if wake, ok := d.state.NextDeadline(); ok && wake.Before(d.armed) {
		d.armed = wake
		select {
		case d.rearm <- struct{}{}:
		default:
		}
	}
}

// carryOut does what an effect asks for; what it has for others, handOver gives
// them, which is settle's. The caller holds d.mu.
func (d *Dispatcher) carryOut(e *balance.Effect) {
	switch e.Kind {
	case balance.Assign:
		d.assign(e)
	case balance.CancelAssignment:
		ses := e.Session.Owner.(*Session)
		if d.trails != nil {
			d.trails.ended(ses, e.Token, Ending{Kind: CancelledAttempt, Reason: e.Reason})
		}
		ses.putAssignments() // it may name one of them
		ses.putCancel(Cancel{TaskID: e.TaskID, Token: e.Token, Reason: e.Reason})
	case balance.Finish:
		d.finish(e)
	case balance.Replaced:
		d.endLocked(e.Session.Owner.(*Session), ErrReplaced)
	}
}

func (d *Dispatcher) becomeIdle() {
	select {
	case <-d.idle:
	default:
		close(d.idle)
	}
}

// runClock tells the state when time has passed, and sees to the heartbeats. It
// is one timer for all tasks and sessions.
func (d *Dispatcher) runClock() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	sweep := time.Now()
	for {
		select {
		case <-d.stop:
			return
		case <-d.rearm:
		case <-timer.C:
		}
		now := time.Now()
		d.mu.Lock()
		d.state.Tick(now)
		d.settle()
		if !now.Before(sweep) {
			d.sweep(now)
			sweep = now.Add(d.opt.Heartbeat / sweeps)
		}
		d.armed = sweep
		if wake, ok := d.state.NextDeadline(); ok && wake.Before(sweep) {
			d.armed = wake
		}
		timer.Reset(time.Until(d.armed))
		d.mu.Unlock()
	}
}

// sweep ends sessions that went silent or block, and makes the others speak.
func (d *Dispatcher) sweep(now time.Time) {
	for ses := range d.sessions {
		switch {
		case now.Sub(ses.heard()) >= missedHeartbeats*d.opt.Heartbeat:
			d.endLocked(ses, ErrSilent)
		case ses.blocked(now) >= d.opt.SendLimit:
			d.endLocked(ses, ErrSendBlocked)
		default:
			ses.beat(now, d.opt.Heartbeat)
		}
	}
}

// Drain refuses new tasks, gives up those that wait, tells workers to finish
// what they hold and dial again, and returns once nothing runs any more, or with
// ctx's error when that ends first.
func (d *Dispatcher) Drain(ctx context.Context) error {
	d.mu.Lock()
	d.draining = true
	d.state.Shutdown(time.Now())
	for ses := range d.sessions {
		d.state.Drain(ses.core)
		ses.putDrain(d.opt.ReconnectAfter)
	}
	d.settle()
	d.mu.Unlock()
	select {
	case <-d.idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close ends every session with ErrClosed and every task that is left with
// reason SHUTDOWN, and waits for the clock. It may be called twice.
func (d *Dispatcher) Close() {
	d.mu.Lock()
	if !d.closed {
		d.closed = true
		d.draining = true
		d.state.Shutdown(time.Now())
		for ses := range d.sessions {
			d.endLocked(ses, ErrClosed)
		}
		d.settle()
		close(d.stop)
		close(d.stopCommit)
		d.end()
	}
	d.mu.Unlock()
	d.clock.Wait()
	d.committer.Wait()
}
