// Package balance decides which worker gets which task.
//
// It is a value: no goroutine, no lock, no clock. Its owner tells it facts with
// the time at which they happened (Submit, Join, Result, Leave, Tick, …), then
// takes the effects that follow and carries them out, in their order:
//
//	ref, err := s.Submit(now, t)
//	for _, e := range s.Take() {
//		switch e.Kind { case balance.Assign: …; case balance.Finish: … }
//	}
//	wake, ok := s.NextDeadline() // and call Tick then
//
// What it promises: a task that Submit accepted gets exactly one Finish. Among
// the sessions that offer its function and have a free slot, the one next in the
// ring gets the task at the head of the function's queue. No session ever holds
// more assignments than it has slots. Check is that promise as code.
//
// Every call about one task or session costs O(log n) or less in tasks and in
// sessions, and a step for each function that the session concerned offers. None
// allocates once the tables have grown to size, but for Join.
package balance

import (
	"errors"
	"fmt"
	"time"

	"reparto/internal/task"
)

// Options bound a State. The zero value of each field means its default.
type Options struct {
	// MaxQueuedTasks is how many tasks may wait in all. Default 1,000,000.
	MaxQueuedTasks int
	// MaxFunctionQueuedTasks is how many may wait for one function. Default
	// 100,000.
	MaxFunctionQueuedTasks int
	// MaxFunctionQueuedBytes is how many bytes may wait for one function,
	// counted by task.Bytes. Default 256 MiB.
	MaxFunctionQueuedBytes int
	// MaxBytes is how many bytes may be held in all, by tasks that wait or run.
	// Default 1 GiB.
	MaxBytes int
	// MaxLost is how many attempts of a task may be lost with their worker
	// before the task is taken for the cause and FAILED. Default 3.
	MaxLost int
	// Backoff is the wait before the second attempt of a task that failed and
	// asked for a retry; it doubles with each further one, up to MaxBackoff.
	// Defaults 100 ms and 10 s.
	Backoff, MaxBackoff time.Duration
	// KeepFor is how long the outcome of a task under a client's own id is
	// kept for a client that repeats it. Default 1 minute.
	KeepFor time.Duration
	// MaxKeptBytes bounds the kept outcomes; the oldest go first. Default 64
	// MiB.
	MaxKeptBytes int
	// MaxDurableTasks is how many durable tasks may wait or run. They don't count
	// against the limits above, since their payloads need not be in memory.
	// Default 2,000,000.
	MaxDurableTasks int
	// MaxResident is how many bytes of payloads of durable tasks are held in
	// memory; what goes beyond is read from the store when its turn comes. Default
	// 32 MiB.
	MaxResident int
	// MaxMeasured is how many functions are counted each by itself; the others are
	// together. Default 100.
	MaxMeasured int
	// Aging is what a step of priority is worth in time of waiting. Default 1
	// minute.
	Aging time.Duration
	// Seed makes tokens differ between runs: take it from a random source.
	Seed uint32
}

func (o Options) withDefaults() Options {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	span := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.MaxQueuedTasks, 1_000_000)
	def(&o.MaxFunctionQueuedTasks, 100_000)
	def(&o.MaxFunctionQueuedBytes, 256<<20)
	def(&o.MaxBytes, 1<<30)
	def(&o.MaxLost, 3)
	def(&o.MaxKeptBytes, 64<<20)
	span(&o.Backoff, 100*time.Millisecond)
	span(&o.MaxBackoff, 10*time.Second)
	span(&o.KeepFor, time.Minute)
	span(&o.Aging, time.Minute)
	def(&o.MaxDurableTasks, 2_000_000)
	def(&o.MaxResident, 32<<20)
	def(&o.MaxMeasured, 100)
	return o
}

// Reasons for which Submit refuses a task.
var (
	ErrNoWorker   = errors.New("no connected worker offers the function")
	ErrDraining   = errors.New("the balancer is stopping and takes no new tasks")
	ErrIDConflict = errors.New("the task id is in use for a task with other content")
)

// QueueFullError says which limit a task did not fit under. It is not to be
// changed: others may be refused with the same.
type QueueFullError struct {
	Limit string // e.g. "tasks waiting for function sum"
	Max   int
	// Own says that it is the owner's own limit: there may be room for others.
	Own bool
}

func (e *QueueFullError) Error() string {
	return fmt.Sprintf("the queue is full: at most %d %s", e.Max, e.Limit)
}

// Ref names an accepted task until its Finish has been taken. Index is dense: it
// is small, and used again for a later task with another generation.
type Ref struct{ Index, generation uint32 }

// Waiter is who waits for a task, and under which number. It is the owner's own;
// nothing here looks at it.
type Waiter struct {
	Who    any
	Number uint64
}

// State is everything that is known about tasks and sessions.
type State struct {
	opt      Options
	draining bool

	entries   []*entry          // by Ref.Index
	unused    []uint32          // free indices of entries
	pool      []*entry          // empty entries to be used again
	byID      map[string]*entry // those that may be asked for by their id; see index
	timers    timers
	functions map[string]*function
	measures  measures
	lastSeq   uint64

	sessions    []*Session // by Session.index
	freeIndices []int
	byWorker    map[string]*Session
	assignments []*assignment // by the low half of their token
	unusedSlots []uint32
	generation  uint32 // the high half of the next token

	owners map[string]*holding // of whom anything has no outcome
	usual  OwnerLimits
	limits map[string]OwnerLimits // of owners who have others than the usual

	kept queue // finished entries under own ids, oldest first

	queued, scheduled, running int
	bytes                      int // of all tasks without an outcome

	changed   []*entry      // durable ones that must be written
	records   []task.Record // what Changes gave out last
	writing   []*entry      // of whom
	storeDown bool          // no durable task is given out
	durables  int           // durable tasks in the tables whose outcome is not on disk
	unsettled int           // those of them that have one
	// runningDurables counts those that a worker has.
	runningDurables int
	resident        int // bytes of their payloads

	effects  []Effect
	lastFull *QueueFullError // what Submit refused with last
	illegal  string          // the first move that the words do not allow; see become
}

// New returns a State with no tasks and no sessions.
func New(o Options) *State {
	return &State{
		opt:        o.withDefaults(),
		byID:       map[string]*entry{},
		functions:  map[string]*function{},
		byWorker:   map[string]*Session{},
		owners:     map[string]*holding{},
		generation: o.Seed,
	}
}

// Options returns the options in force, defaults filled in.
func (s *State) Options() Options { return s.opt }

// entry is a task in the tables. What its end takes comes first and lies together:
// a task ends on another core than it began on, as like as not.
type entry struct {
	ref     Ref
	state   task.State
	indexed bool  // among byID
	timer   int32 // its place among the timers
	bytes   int
	fn      *function
	current *assignment // while RUNNING
	d       *durable    // nil for a submitted task
	earlier *earlier    // attempts that have gone by; nil before there are any
	holding *holding    // until it has its outcome; nil without an owner
	waiter  Waiter
	task    task.Task

	accepted              time.Time
	due                   time.Time // when it may run, while SCHEDULED; since when it waits
	rank                  int64
	seq                   uint64 // the order of acceptance
	attempt, failed, lost int32  // given out; asked for a retry or ran out of time; vanished with their worker

	prev, next *entry   // in a queue, or among the kept
	share      *share   // while QUEUED
	over       *closing // once terminal, of a task that stays in the tables then
}

// earlier are a task's attempts that have gone by. Most tasks have none.
type earlier struct {
	late []*assignment // those that still occupy a slot
	past []pastAttempt // tokens whose late answer is still good
}

// late are the earlier attempts that still occupy a slot.
func (e *entry) late() []*assignment {
	if e.earlier == nil {
		return nil
	}
	return e.earlier.late
}

// past are the attempts whose late answer is still good.
func (e *entry) past() []pastAttempt {
	if e == nil || e.earlier == nil {
		return nil
	}
	return e.earlier.past
}

// addLate and addPast note an attempt that goes by.
func (e *entry) addLate(a *assignment) {
	if e.earlier == nil {
		e.earlier = &earlier{}
	}
	e.earlier.late = append(e.earlier.late, a)
}

func (s *State) addPast(e *entry, p pastAttempt) {
	s.index(e)
	if e.earlier == nil {
		e.earlier = &earlier{}
	}
	e.earlier.past = append(e.earlier.past, p)
}

// index makes e to be found by its id. Most tasks never are: those that the
// client named, that are durable, or that a worker may speak of under a token
// that it holds no more. Should a client have named another task the same, it is
// that which is found.
func (s *State) index(e *entry) {
	if !e.indexed && s.byID[e.task.ID] == nil {
		s.byID[e.task.ID], e.indexed = e, true
	}
}

type pastAttempt struct {
	token   uint64
	attempt int
	lost    bool // with its worker, so that the worker may claim it back
	counted bool // among the task's lost attempts
}

// closing is what there is of a task that is over: apart from the entry, since of
// a million entries hardly one has it.
type closing struct {
	outcome   task.Outcome
	finished  time.Time
	keptUntil time.Time // zero until the outcome is where it belongs
}

// keptUntil is until when a task that is over is kept for a client that repeats
// it; zero when it is not.
func (e *entry) keptUntil() time.Time {
	if e.over == nil {
		return time.Time{}
	}
	return e.over.keptUntil
}

// function is a named kind of work: who waits for it and who offers it.
type function struct {
	name     string
	waitsFor shares
	ring     ring
	sessions int // that offer it, draining ones included
	tasks    int // without an outcome
	running  int
	waiting  int // SCHEDULED
	paused   bool

	submitted, finished rate
	totals              Totals
	measure             *Measure // its own, or that of the others
}

// Totals count what has happened to one function's tasks.
type Totals struct {
	Submitted, Succeeded, Failed, Cancelled, Expired, Retried int64
}

func (s *State) function(name string) *function {
	f := s.functions[name]
	if f == nil {
		f = &function{name: name}
		s.measure(f)
		s.functions[name] = f
	}
	return f
}

// forget drops a function that nobody offers and nobody waits for, so that
// names cost memory only while they are in use.
func (s *State) forget(f *function) {
	if f.sessions == 0 && f.tasks == 0 && !f.paused && s.functions[f.name] == f {
		delete(s.functions, f.name)
		if f.measure != &s.measures.others {
			f.measure.Totals = f.measure.Totals.plus(f.totals, 1)
		}
	}
}

// NextDeadline tells by when Tick wants to be called next; false when there is
// nothing to wait for. It may turn out then that there is nothing to do.
func (s *State) NextDeadline() (time.Time, bool) {
	wake, _ := s.timers.next()
	if k := s.kept.head; k != nil && (wake.IsZero() || k.keptUntil().Before(wake)) {
		wake = k.keptUntil()
	}
	return wake, !wake.IsZero()
}

// Tick lets time pass: tasks expire, attempts run out of time, retries become
// due, kept outcomes are forgotten.
func (s *State) Tick(now time.Time) {
	for e := s.timers.due(now); e != nil; e = s.timers.due(now) {
		switch {
		case !e.task.Deadline.After(now):
			s.finish(now, e, task.Outcome{State: task.Expired, Attempt: int(e.attempt)}, task.CancelDeadline)
		case e.state == task.Scheduled:
			s.due(now, e)
		case e.state == task.Running:
			s.timeOut(now, e)
		}
	}
	for k := s.kept.head; k != nil && !k.keptUntil().After(now); k = s.kept.head {
		s.unkeep(k)
	}
}

// setTimer recomputes when e wants to be woken.
func (s *State) setTimer(e *entry) {
	wake := e.task.Deadline
	switch {
	case e.state == task.Scheduled && e.due.Before(wake):
		wake = e.due
	case e.state == task.Running && e.task.AttemptTimeout > 0:
		if end := e.current.started().Add(e.task.AttemptTimeout); end.Before(wake) {
			wake = end
		}
	}
	if !s.timers.at(e).Equal(wake) {
		s.timers.set(e, wake)
	}
}
