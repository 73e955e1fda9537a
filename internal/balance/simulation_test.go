package balance

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"reparto/internal/task"
)

var (
	seedFlag      = flag.Uint64("seed", 0, "run the simulation with this seed alone")
	schedulesFlag = flag.Int("schedules", 3000, "how many schedules the simulation runs")
)

// TestSimulation runs thousands of schedules of facts in every order against an
// observer that keeps books of its own: it believes the effects, and nothing
// that the State says of itself.
func TestSimulation(t *testing.T) {
	if *seedFlag != 0 {
		simulate(t, *seedFlag)
		return
	}
	n := *schedulesFlag
	if testing.Short() {
		n /= 10
	}
	start := rand.Uint64()
	for i := range n {
		seed := start + uint64(i)
		if simulate(t, seed); t.Failed() {
			t.Fatalf("again: go test ./internal/balance -run TestSimulation -seed %d", seed)
		}
	}
}

// simulated is one schedule under way: the State, and the observer's books.
type simulated struct {
	t    *testing.T
	rng  *rand.Rand
	s    *State
	now  time.Time
	log  []string
	last int // number of the last task

	tasks   map[Ref]*simTask
	byID    map[string]*simTask // unfinished ones, and finished ones under own ids
	workers []*simWorker
	tokens  map[uint64]*simAssignment // every token ever given
	first   map[string]int            // by function: the youngest task assigned for the first time
	stopped bool
}

type simTask struct {
	id, function string
	number       int
	ref          Ref
	ends         int
	attempts     int
}

// simWorker is a worker program: it lives on when its session ends.
type simWorker struct {
	id      string
	session *Session // nil while it has none
	slots   int
	offers  []string
	leaving bool
	holds   []*simAssignment // in this session or from before
}

type simAssignment struct {
	token   uint64
	attempt int
	task    *simTask
	worker  *simWorker
	told    bool
}

func (a *simAssignment) output() []byte { return fmt.Appendf(nil, "%s/%d", a.task.id, a.attempt) }

var simFunctions = []string{"a", "b", "c"}

func simulate(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	x := &simulated{
		t: t, rng: rng, now: time.Unix(1_000_000, 0),
		s: New(Options{
			MaxFunctionQueuedTasks: 1 + rng.IntN(30), Seed: rng.Uint32(), MaxLost: 1 + rng.IntN(4),
			MaxKeptBytes: 1 + rng.IntN(8000), Backoff: 50 * time.Millisecond, MaxBackoff: 200 * time.Millisecond,
		}),
		tasks: map[Ref]*simTask{}, byID: map[string]*simTask{}, tokens: map[uint64]*simAssignment{}, first: map[string]int{},
	}
	defer func() {
		if p := recover(); p != nil {
			x.fail("panic: %v", p)
		}
	}()
	for range 20 + rng.IntN(150) {
		x.step()
		x.observe()
		if t.Failed() {
			return
		}
	}
	x.windDown()
}

func (x *simulated) fail(format string, args ...any) {
	x.t.Helper()
	x.t.Errorf(format, args...)
	from := max(len(x.log)-40, 0)
	for _, line := range x.log[from:] {
		x.t.Log(line)
	}
}

func (x *simulated) note(format string, args ...any) {
	x.log = append(x.log, fmt.Sprintf(format, args...))
}

// step tells one fact.
func (x *simulated) step() {
	switch n := x.rng.IntN(100); {
	case n < 35:
		x.submit()
	case n < 45:
		x.join()
	case n < 70:
		x.answer()
	case n < 76:
		x.leave()
	case n < 78:
		x.drain()
	case n < 83:
		x.cancel()
	case n < 99:
		x.now = x.now.Add(time.Duration(x.rng.IntN(300)) * time.Millisecond)
		x.note("tick to %v", x.now.Sub(time.Unix(1_000_000, 0)))
		x.s.Tick(x.now)
	default:
		if x.rng.IntN(10) == 0 {
			x.note("shutdown")
			x.stopped = true
			x.s.Shutdown(x.now)
		}
	}
}

func (x *simulated) submit() {
	x.last++
	k := &simTask{id: fmt.Sprint("t", x.last), function: simFunctions[x.rng.IntN(3)], number: x.last}
	content := byte(0)
	own := x.rng.IntN(4) == 0
	if own {
		k.id = fmt.Sprint("own", x.rng.IntN(6))
		k.function = simFunctions[0] // the same id has the same content, but for now and then
		content = byte(x.rng.IntN(8) / 7)
	}
	in := &task.Task{
		ID: k.id, OwnID: own, Function: k.function, Deadline: x.now.Add(time.Duration(200+x.rng.IntN(3000)) * time.Millisecond),
		MaxAttempts: 1 + x.rng.IntN(3), FailFast: x.rng.IntN(10) == 0, Fingerprint: task.Fingerprint{content},
	}
	if x.rng.IntN(3) == 0 {
		in.AttemptTimeout = time.Duration(50+x.rng.IntN(500)) * time.Millisecond
	}
	known := x.byID[k.id]
	ref, err := x.s.Submit(x.now, in)
	x.note("submit %s function=%s: %v", k.id, k.function, err)
	switch {
	case err != nil:
		var full *QueueFullError
		if !errors.Is(err, ErrNoWorker) && !errors.Is(err, ErrIDConflict) && !errors.As(err, &full) && !(x.stopped && errors.Is(err, ErrDraining)) {
			x.fail("submit %s was refused with %v", k.id, err)
		}
	case known != nil && known.ref == ref:
		if known.ends > 0 {
			known.ends-- // it will be told again
		}
	default:
		k.ref = ref
		if x.tasks[ref] != nil {
			x.fail("ref %v was given twice", ref)
		}
		x.tasks[ref] = k
		x.byID[k.id] = k
	}
}

func (x *simulated) join() {
	var w *simWorker
	if n := x.rng.IntN(6); n < len(x.workers) {
		w = x.workers[n] // again, or in place of its own session
	} else {
		w = &simWorker{id: fmt.Sprint("w", len(x.workers))}
		x.workers = append(x.workers, w)
	}
	w.slots = max(1+x.rng.IntN(4), len(w.holds))
	w.offers = simFunctions[:1+x.rng.IntN(3)]
	w.leaving = false
	r := Registration{WorkerID: w.id, Functions: w.offers, Slots: w.slots}
	if x.rng.IntN(4) == 0 {
		w.holds = nil // it was started anew
	}
	for _, a := range w.holds {
		r.Running = append(r.Running, Claim{a.task.id, a.attempt, a.token})
	}
	x.note("join %s slots=%d functions=%v running=%d", w.id, w.slots, w.offers, len(r.Running))
	if err := r.Check(); err != nil {
		x.fail("%v", err)
	}
	w.session = x.s.Join(x.now, r)
	w.session.Owner = w
}

// answer has a worker answer something that it holds.
func (x *simulated) answer() {
	w := x.anyWorker(func(w *simWorker) bool { return w.session != nil && len(w.holds) > 0 })
	if w == nil {
		return
	}
	i := x.rng.IntN(len(w.holds))
	a := w.holds[i]
	w.holds = slices.Delete(w.holds, i, i+1)
	r := &Result{TaskID: a.task.id, Attempt: a.attempt, Token: a.token}
	switch x.rng.IntN(8) {
	case 0:
		r.Failure = &task.Failure{Reason: "BROKEN"}
	case 1:
		r.Failure = &task.Failure{Reason: "BUSY", Retry: true, RetryAfter: time.Duration(x.rng.IntN(3)) * 100 * time.Millisecond}
	case 2:
		r.Failure = &task.Failure{Reason: task.ReasonCancelled}
	default:
		r.Output = a.output()
	}
	x.note("result %s/%d from %s: %v", a.task.id, a.attempt, w.id, r.Failure)
	x.s.Result(x.now, w.session, r)
	if x.rng.IntN(10) == 0 { // a second answer to the same assignment
		x.s.Result(x.now, w.session, &Result{TaskID: a.task.id, Attempt: a.attempt, Token: a.token, Output: a.output()})
	}
}

func (x *simulated) leave() {
	w := x.anyWorker(func(w *simWorker) bool { return w.session != nil })
	if w == nil {
		return
	}
	x.note("leave %s", w.id)
	ses := w.session
	w.session = nil
	x.s.Leave(x.now, ses)
	x.s.Leave(x.now, ses) // twice is once
}

func (x *simulated) drain() {
	if w := x.anyWorker(func(w *simWorker) bool { return w.session != nil }); w != nil {
		x.note("drain %s", w.id)
		w.leaving = true
		x.s.Drain(w.session)
	}
}

func (x *simulated) cancel() {
	for ref, k := range x.tasks {
		x.note("cancel %s", k.id)
		x.s.Cancel(x.now, ref, task.CancelClientGone)
		return
	}
}

func (x *simulated) anyWorker(is func(*simWorker) bool) *simWorker {
	var fit []*simWorker
	for _, w := range x.workers {
		if is(w) {
			fit = append(fit, w)
		}
	}
	if len(fit) == 0 {
		return nil
	}
	return fit[x.rng.IntN(len(fit))]
}

// observe writes the effects into the books, and complains of what must not be.
func (x *simulated) observe() {
	for _, e := range x.s.Take() {
		switch e.Kind {
		case Assign:
			x.assigned(&e)
		case CancelAssignment:
			a := x.tokens[e.Token]
			if a == nil || a.worker != e.Session.Owner.(*simWorker) || a.task.id != e.TaskID {
				x.fail("a cancellation of %s for %s, who does not have it", e.TaskID, e.Session.WorkerID)
			} else {
				a.told = true
			}
		case Finish:
			x.finished(&e)
		case Replaced:
			if w := e.Session.Owner.(*simWorker); w.session == e.Session {
				x.fail("the session of %s was replaced by itself", w.id)
			}
		}
	}
	if err := x.s.Check(); err != nil {
		x.fail("%v", err)
	}
}

func (x *simulated) assigned(e *Effect) {
	w := e.Session.Owner.(*simWorker)
	k := x.byID[e.TaskID]
	x.note("  assign %s/%d to %s", e.TaskID, e.Attempt, w.id)
	switch {
	case k == nil || k.ends > 0:
		x.fail("%s was assigned, which is not waiting", e.TaskID)
		return
	case w.session != e.Session || w.leaving:
		x.fail("%s was assigned to %s, which has left or is leaving", e.TaskID, w.id)
	case !slices.Contains(w.offers, k.function):
		x.fail("%s was assigned to %s, which offers no %s", e.TaskID, w.id, k.function)
	case len(w.holds) >= w.slots:
		x.fail("%s holds %d assignments in %d slots and got another", w.id, len(w.holds), w.slots)
	case x.tokens[e.Token] != nil:
		x.fail("token %x was given twice", e.Token)
	case e.Attempt != k.attempts+1:
		x.fail("%s: attempt %d follows %d", k.id, e.Attempt, k.attempts)
	case e.Attempt == 1 && k.number < x.first[k.function]:
		x.fail("%s had its first attempt after %d, which came later", k.id, x.first[k.function])
	case x.stopped:
		x.fail("%s was assigned after the shutdown", k.id)
	}
	if e.Attempt == 1 {
		x.first[k.function] = k.number
	}
	k.attempts = e.Attempt
	a := &simAssignment{token: e.Token, attempt: e.Attempt, task: k, worker: w}
	x.tokens[e.Token] = a
	w.holds = append(w.holds, a)
}

func (x *simulated) finished(e *Effect) {
	k := x.tasks[e.Ref]
	x.note("  finish %s: %v", e.TaskID, e.Outcome.State)
	if k == nil {
		if k = x.byID[e.TaskID]; k == nil || k.ref != e.Ref {
			x.fail("%s finished, which is unknown", e.TaskID)
			return
		}
	}
	if k.ends++; k.ends > 1 {
		x.fail("%s finished a second time", k.id)
	}
	o := &e.Outcome
	switch {
	case !o.State.Terminal():
		x.fail("%s finished as %v", k.id, o.State)
	case o.State == task.Succeeded:
		if want := fmt.Sprintf("%s/%d", k.id, o.Attempt); string(o.Result) != want {
			x.fail("%s has the result %q, want %q", k.id, o.Result, want)
		}
	case o.State == task.Failed && o.Failure == nil:
		x.fail("%s failed without a failure", k.id)
	}
	delete(x.tasks, e.Ref)
	if o.State != task.Succeeded && o.State != task.Failed {
		delete(x.byID, k.id)
	}
}

// windDown has every worker answer and time pass: in the end nothing is left.
func (x *simulated) windDown() {
	for range 200 {
		if len(x.tasks) == 0 {
			break
		}
		x.answer()
		x.observe()
		x.now = x.now.Add(50 * time.Millisecond)
		x.s.Tick(x.now)
		x.observe()
	}
	if len(x.tasks) > 0 {
		x.fail("%d tasks have no outcome, though every time limit has passed", len(x.tasks))
	}
	for _, w := range x.workers {
		if w.session != nil {
			x.s.Leave(x.now, w.session)
			w.session = nil
		}
	}
	x.s.Tick(x.now.Add(time.Hour))
	x.s.Take()
	if c := x.s.Counts(); c != (Counts{}) {
		x.fail("%+v is left", c)
	}
	if n := len(x.s.byID) + len(x.s.functions) + len(x.s.timers) + x.s.kept.len + x.s.keptBytes; n > 0 {
		x.fail("tables are left: %d ids, %d functions, %d timers, %d kept", len(x.s.byID), len(x.s.functions), len(x.s.timers), x.s.kept.len)
	}
	if free := len(x.s.unusedSlots); free != len(x.s.assignments) {
		x.fail("%d of %d assignments were never released", len(x.s.assignments)-free, len(x.s.assignments))
	}
}

// TestEveryTurnIsFair: among sessions that are free all along, counts differ by
// at most one, whatever others do.
func TestEveryTurnIsFair(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 3))
		s, now := New(Options{}), time.Unix(1, 0)
		steady := map[*Session]int{}
		for i := range 2 + rng.IntN(20) {
			steady[s.Join(now, Registration{WorkerID: fmt.Sprint("steady", i), Functions: []string{"f"}, Slots: task.MaxSlots})] = 0
		}
		var others []*Session
		for i := range 500 {
			switch rng.IntN(6) {
			case 0:
				others = append(others, s.Join(now, Registration{WorkerID: fmt.Sprint("other", i), Functions: []string{"f"}, Slots: 1 + rng.IntN(2)}))
			case 1:
				if len(others) > 0 {
					k := rng.IntN(len(others))
					s.Leave(now, others[k])
					others = slices.Delete(others, k, k+1)
				}
			}
			if _, err := s.Submit(now, &task.Task{ID: fmt.Sprint(i), Function: "f", Deadline: now.Add(time.Hour), MaxAttempts: 1}); err != nil {
				t.Fatal(err)
			}
			for _, e := range s.Take() {
				if _, ok := steady[e.Session]; ok && e.Kind == Assign {
					steady[e.Session]++
				}
			}
			least, most := 1<<30, 0
			for _, n := range steady {
				least, most = min(least, n), max(most, n)
			}
			if most-least > 1 {
				t.Fatalf("seed %d, task %d: one session had %d tasks and another %d", seed, i, least, most)
			}
		}
	}
}
