package balance

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"reparto/internal/task"
)

// books are an observer's own account of what must happen: plain lists, no
// ring, no heap, no links, and no look into the State. Each fact is written into
// them first, which says what outcomes and cancellations have to follow; then
// the effects are held against that (see observe).
type books struct {
	opt      Options
	now      time.Time
	draining bool

	jobs    []*job            // without an outcome, in the order of acceptance
	ids     map[string]*job   // those, and the kept
	kept    []*job            // oldest first
	waiting map[string][]*job // by function, in the order in which they are due
	// passed counts, of an owner who waits for a function, the turns of each other
	// owner since its own last one.
	passed map[string]map[string]map[string]int
	peers  []*peer // live ones
	ties   int
	facts  int // looked at so far

	wantEnds    map[Ref]task.Outcome
	wantCancels map[place]string // reasons
	wantGone    *Session         // to be told Replaced

	given  map[uint64]bool             // every token ever given
	window map[string]map[*Session]int // by function: tasks that went to sessions which were free all along
	done   map[*Session]int64          // answers, by session
	totals map[string]*Totals          // of functions that are in use
	known  []grant                     // the last tokens given
}

type place struct {
	ses   *Session
	token uint64
}

type grant struct {
	ses     *Session
	taskID  string
	token   uint64
	attempt int
}

type job struct {
	t       task.Task
	ref     Ref
	state   task.State
	attempt int
	failed  int
	lost    int
	tie     int // equal for tasks that became due in the same instant
	runAt   time.Time
	since   time.Time // when the current attempt began
	cur     *hold
	late    []*hold
	past    map[uint64]*gone
	fact    int // that made it wait
	outcome task.Outcome
	bytes   int
	until   time.Time
}

type gone struct {
	attempt int
	lost    bool
}

func newBooks(o Options, now time.Time) *books {
	return &books{
		opt: o, now: now, ids: map[string]*job{}, waiting: map[string][]*job{}, passed: map[string]map[string]map[string]int{},
		wantEnds: map[Ref]task.Outcome{}, wantCancels: map[place]string{},
		given: map[uint64]bool{}, window: map[string]map[*Session]int{}, done: map[*Session]int64{}, totals: map[string]*Totals{},
	}
}

// wrong is what the books are panicked with.
type wrong string

func (b *books) wrong(format string, args ...any) { panic(wrong(fmt.Sprintf(format, args...))) }

func (b *books) count(states ...task.State) (n int) {
	for _, j := range b.jobs {
		if slices.Contains(states, j.state) {
			n++
		}
	}
	return n
}

func (b *books) bytes() (n int) {
	for _, j := range b.jobs {
		n += j.t.Bytes()
	}
	return n
}

func (b *books) totalsOf(function string) *Totals {
	if b.totals[function] == nil {
		b.totals[function] = &Totals{}
	}
	return b.totals[function]
}

// submit holds the State's answer against what it must be.
func (b *books) submit(t *task.Task, ref Ref, err error) {
	want := b.refusal(t)
	if full := (*QueueFullError)(nil); errors.As(err, &full) {
		err = fmt.Errorf("%d %.13s", full.Max, full.Limit)
	}
	if fmt.Sprint(err) != fmt.Sprint(want) {
		b.wrong("submit %s: %v, want %v", t.ID, err, want)
	}
	if err != nil {
		return
	}
	if j := b.ids[t.ID]; j != nil {
		if ref != j.ref {
			b.wrong("submit %s joined %v, want %v", t.ID, ref, j.ref)
		}
		if j.state.Terminal() {
			b.wantEnds[ref] = j.outcome
		}
		return
	}
	for _, j := range b.ids {
		if j.ref == ref {
			b.wrong("submit %s: its ref is that of %s", t.ID, j.t.ID)
		}
	}
	j := &job{t: *t, ref: ref, state: task.Queued, past: map[uint64]*gone{}}
	b.jobs = append(b.jobs, j)
	b.ids[t.ID] = j
	b.totalsOf(t.Function).Submitted++
	b.wait(j, false)
}

// refusal is the error that a task must meet.
func (b *books) refusal(t *task.Task) error {
	if j := b.ids[t.ID]; j != nil {
		if t.OwnID && j.t.OwnID && t.Owner == j.t.Owner && t.Fingerprint == j.t.Fingerprint {
			return nil
		}
		return ErrIDConflict
	}
	size, queue, own, ownQueue := t.Bytes(), 0, 0, 0
	for _, j := range b.waiting[t.Function] {
		queue += j.t.Bytes()
		if j.t.Owner == t.Owner && t.Owner != "" {
			own++
			ownQueue += j.t.Bytes()
		}
	}
	full := func(limit int, what string) error { return fmt.Errorf("%d %.13s", limit, what) }
	switch {
	case b.draining:
		return ErrDraining
	case t.FailFast && !b.offered(t.Function):
		return ErrNoWorker
	case b.bytes()+size > b.opt.MaxBytes:
		return full(b.opt.MaxBytes, "bytes in all tasks")
	case b.anybodyFree(t.Function):
		return nil
	case b.count(task.Queued, task.Scheduled) >= b.opt.MaxQueuedTasks:
		return full(b.opt.MaxQueuedTasks, "tasks waiting")
	case len(b.waiting[t.Function]) >= b.opt.MaxFunctionQueuedTasks:
		return full(b.opt.MaxFunctionQueuedTasks, "tasks waiting for")
	case queue+size > b.opt.MaxFunctionQueuedBytes:
		return full(b.opt.MaxFunctionQueuedBytes, "bytes waiting for")
	case t.Owner != "" && own >= 9*(b.opt.MaxFunctionQueuedTasks-len(b.waiting[t.Function])):
		return full(b.opt.MaxFunctionQueuedTasks, "tasks, the last for")
	case t.Owner != "" && ownQueue >= 9*(b.opt.MaxFunctionQueuedBytes-queue-size):
		return full(b.opt.MaxFunctionQueuedBytes, "bytes, the last for")
	}
	return nil
}

// wait puts a job into its queue.
func (b *books) wait(j *job, head bool) {
	j.state, j.fact = task.Queued, b.facts
	b.ties++
	j.tie = b.ties
	q := b.waiting[j.t.Function]
	if head {
		if b.firstOf(j) == nil { // its owner has its turn back
			for _, passed := range b.waiters(j.t.Function) {
				passed[j.t.Owner]--
			}
		}
		b.waiting[j.t.Function] = append([]*job{j}, q...)
	} else {
		b.waiting[j.t.Function] = append(q, j)
	}
}

func (b *books) unwait(j *job) {
	b.waiting[j.t.Function] = slices.DeleteFunc(b.waiting[j.t.Function], func(w *job) bool { return w == j })
	if b.firstOf(j) == nil {
		delete(b.passed[j.t.Function], j.t.Owner)
	}
}

// turn: whoever waits sees each other owner pass once before its own turn.
func (b *books) turn(j *job) {
	waiters := b.waiters(j.t.Function)
	for owner, passed := range waiters {
		if passed[j.t.Owner]++; owner != j.t.Owner && passed[j.t.Owner] > 1 {
			b.wrong("%s is a second turn of %q while %q waits for its first", j.t.ID, j.t.Owner, owner)
		}
	}
	delete(waiters, j.t.Owner)
}

// waiters are those of whom anything waits for a function since before this fact,
// with whom they have seen pass.
func (b *books) waiters(function string) map[string]map[string]int {
	waits := map[string]map[string]int{}
	for _, w := range b.waiting[function] {
		if w.fact == b.facts {
			continue
		}
		if waits[w.t.Owner] = b.passed[function][w.t.Owner]; waits[w.t.Owner] == nil {
			waits[w.t.Owner] = map[string]int{}
		}
	}
	b.passed[function] = waits
	return waits
}

func (b *books) wantCancel(h *hold, reason string) {
	if !h.told {
		h.told = true
		b.wantCancels[h.place] = reason
	}
}

// end gives a job its outcome.
func (b *books) end(j *job, o task.Outcome, reason string) {
	o.WasRunning = j.state == task.Running
	b.unwait(j)
	if j.cur != nil {
		j.cur.job = nil
		b.wantCancel(j.cur, reason)
	}
	for _, h := range j.late {
		h.job = nil
		b.wantCancel(h, task.CancelSuperseded)
	}
	j.cur, j.late = nil, nil
	j.state, j.outcome = o.State, o
	b.jobs = slices.DeleteFunc(b.jobs, func(k *job) bool { return k == j })
	if !j.t.OwnID || o.State != task.Succeeded && o.State != task.Failed {
		delete(b.ids, j.t.ID)
	}
	b.totalsOf(j.t.Function).count(o.State)
	if !b.inUse(j.t.Function) { // forgotten, even if somebody comes to offer it in the same fact
		delete(b.totals, j.t.Function)
	}
	b.wantEnds[j.ref] = o
}

func (b *books) cancel(ref Ref, reason string) {
	for _, j := range b.jobs {
		if j.ref == ref {
			b.end(j, task.Outcome{State: task.Cancelled, Attempt: j.attempt}, reason)
			return
		}
	}
}

func (b *books) giveUp(j *job) {
	b.end(j, task.Outcome{
		State: task.Cancelled, Attempt: j.attempt, Failure: &task.Failure{Reason: task.CancelShutdown},
	}, task.CancelShutdown)
}

func (b *books) shutdown() {
	b.draining = true
	for _, j := range slices.Clone(b.jobs) {
		if j.state != task.Running {
			b.giveUp(j)
		}
	}
}

// wentBy finds an earlier attempt of a job that has no outcome yet.
func (j *job) wentBy(token uint64, attempt int) *gone {
	if j == nil || j.state.Terminal() {
		return nil
	}
	if g := j.past[token]; g != nil && g.attempt == attempt {
		return g
	}
	return nil
}

// result writes down an answer.
func (b *books) result(ses *Session, r *Result) {
	j := b.ids[r.TaskID]
	if p := b.peer(ses); p != nil {
		if i := slices.IndexFunc(p.held, func(h *hold) bool { return h.token == r.Token }); i >= 0 {
			h := p.held[i]
			p.held = slices.Delete(p.held, i, i+1)
			b.done[ses]++
			if h.job != nil {
				j = h.job
				j.late = slices.DeleteFunc(j.late, func(l *hold) bool { return l == h })
			}
			if h.job != nil && j.cur == h {
				b.settle(h, j, r, p.worker)
				return
			}
		}
	}
	if r.Failure == nil && j.wentBy(r.Token, r.Attempt) != nil {
		b.end(j, task.Outcome{State: task.Succeeded, Result: r.Output, Attempt: r.Attempt, WorkerID: ses.WorkerID}, task.CancelSuperseded)
	}
}

// settle ends the attempt that runs.
func (b *books) settle(h *hold, j *job, r *Result, worker string) {
	j.cur = nil
	switch {
	case r.Failure == nil:
		b.end(j, task.Outcome{State: task.Succeeded, Result: r.Output, Attempt: h.attempt, WorkerID: worker}, "")
	case r.Failure.Reason == task.ReasonCancelled || r.Failure.Reason == task.ReasonWorkerLost:
		b.lose(h, worker)
	default:
		b.failed(h, j, r.Failure, worker)
	}
}

func (b *books) failed(h *hold, j *job, f *task.Failure, worker string) {
	j.failed++
	pause := f.RetryAfter
	if pause <= 0 {
		pause = min(b.opt.Backoff<<(j.failed-1), b.opt.MaxBackoff)
	}
	at := b.now.Add(pause)
	switch {
	case !f.Retry || j.failed >= j.t.MaxAttempts || !at.Before(j.t.Deadline):
		b.end(j, task.Outcome{State: task.Failed, Attempt: h.attempt, WorkerID: worker, Failure: f}, task.CancelSuperseded)
	case b.draining:
		b.giveUp(j)
	default:
		j.state, j.runAt = task.Scheduled, at
	}
}

// tick lets time pass.
func (b *books) tick() {
	var due []*job
	for _, j := range slices.Clone(b.jobs) {
		switch {
		case !j.t.Deadline.After(b.now):
			b.end(j, task.Outcome{State: task.Expired, Attempt: j.attempt}, task.CancelDeadline)
		case j.state == task.Scheduled && !j.runAt.After(b.now):
			due = append(due, j)
		case j.state == task.Running && j.t.AttemptTimeout > 0 && !j.since.Add(j.t.AttemptTimeout).After(b.now):
			h := j.cur
			j.cur = nil
			j.past[h.token] = &gone{h.attempt, false}
			j.late = append(j.late, h)
			b.wantCancel(h, task.CancelAttemptTimeout)
			b.failed(h, j, &task.Failure{Reason: task.ReasonAttemptTimeout, Retry: true}, b.peer(h.ses).worker)
		}
	}
	slices.SortStableFunc(due, func(x, y *job) int { return x.runAt.Compare(y.runAt) })
	for i, j := range due {
		b.wait(j, false)
		if i > 0 && j.runAt.Equal(due[i-1].runAt) {
			j.tie = due[i-1].tie // either may be first
		}
	}
}
