package balance

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"reparto/internal/task"
)

// schedule makes facts up and tells them to a State and to the books. Every
// choice comes from pick, which returns a number below n: from a seed in the
// simulation, from the input in fuzzing.
type schedule struct {
	pick  func(n int) int
	s     *State
	b     *books
	log   []string
	tasks int

	programs []*program
	left     []*Session // sessions that have ended, whose answers may still come
}

// program is a worker program, which may outlive its session.
type program struct {
	id    string
	ses   *Session // nil while it has none
	mute  bool     // it never answers
	holds []grant  // what it has not answered, of this session and of earlier ones
}

var scheduleFunctions = []string{"a", "b", "c"}

func newSchedule(pick func(int) int) *schedule {
	o := Options{
		MaxLost: 1 + pick(4), Backoff: time.Duration(1+pick(100)) * time.Millisecond, MaxBackoff: 150 * time.Millisecond,
		KeepFor: time.Duration(1+pick(2000)) * time.Millisecond, MaxKeptBytes: 1 + pick(6000), Seed: uint32(pick(1000)),
	}
	if pick(2) == 0 { // tight queues
		o.MaxQueuedTasks, o.MaxFunctionQueuedTasks = 1+pick(20), 1+pick(15)
		o.MaxFunctionQueuedBytes, o.MaxBytes = 600+pick(10_000), 2000+pick(20_000)
	}
	s := New(o)
	return &schedule{pick: pick, s: s, b: newBooks(s.Options(), start)}
}

func (x *schedule) note(format string, args ...any) {
	x.log = append(x.log, fmt.Sprintf(format, args...))
}

// run tells n facts and then winds down. It returns what was wrong, with the
// facts that led there.
func (x *schedule) run(n int) (report string) {
	defer func() {
		if p := recover(); p != nil {
			w, told := p.(wrong)
			if !told {
				panic(p)
			}
			report = strings.Join(append(x.log[max(0, len(x.log)-60):], "WRONG: "+string(w)), "\n")
		}
	}()
	for range n {
		if x.pick(20) == 0 {
			x.b.watch(scheduleFunctions)
		}
		if x.pick(3) == 0 {
			x.b.now = x.b.now.Add(time.Duration(x.pick(40)) * time.Millisecond) // and no tick yet
		}
		x.fact()
		x.look()
	}
	x.windDown()
	return ""
}

func (x *schedule) look() {
	seen := len(x.b.known)
	x.b.observe(x.s)
	for _, g := range x.b.known[seen:] {
		p := g.ses.Owner.(*program)
		p.holds = append(p.holds, g)
		x.note("    %s/%d -> %s", g.taskID, g.attempt, p.id)
	}
}

func (x *schedule) fact() {
	switch n := x.pick(100); {
	case n < 34:
		x.submit()
	case n < 42:
		x.join()
	case n < 64:
		x.answer()
	case n < 70:
		x.lateAnswer()
	case n < 76:
		x.leave()
	case n < 79:
		x.drain()
	case n < 83:
		x.cancel()
	case n < 98:
		x.tick()
	case n < 99 && x.pick(4) == 0:
		x.note("shutdown")
		x.b.shutdown()
		x.s.Shutdown(x.b.now)
	default:
		x.progress()
	}
}

func (x *schedule) submit() {
	x.tasks++
	t := &task.Task{
		ID: fmt.Sprint("t", x.tasks), Function: scheduleFunctions[x.pick(3)], Payload: make([]byte, x.pick(300)),
		Deadline:    x.b.now.Add(time.Duration(1+x.pick(2000)) * time.Millisecond),
		MaxAttempts: 1 + x.pick(4), FailFast: x.pick(8) == 0, Owner: [...]string{"", "heavy", "light"}[x.pick(8)/3],
	}
	copy(t.Payload, t.ID)
	if x.pick(4) == 0 { // its own id, mostly with the same content
		t.ID, t.OwnID, t.Fingerprint = fmt.Sprint("own", x.pick(5)), true, task.Fingerprint(fmt.Sprint(x.pick(6)/5))
	}
	if x.pick(3) == 0 {
		t.AttemptTimeout = time.Duration(1+x.pick(300)) * time.Millisecond
	}
	ref, err := x.s.Submit(x.b.now, t)
	x.note("submit %s function=%s: %v", t.ID, t.Function, err)
	x.b.submit(t, ref, err)
}

func (x *schedule) join() {
	n := x.pick(6)
	if n >= len(x.programs) {
		n = len(x.programs)
		x.programs = append(x.programs, &program{id: fmt.Sprint("w", n)})
	}
	p := x.programs[n] // new, again, or in place of its own session
	p.mute = x.pick(8) == 0
	r := Registration{WorkerID: p.id, Functions: x.someFunctions(), Slots: 1 + x.pick(4)}
	switch x.pick(3) {
	case 0: // started anew
		p.holds = nil
	case 1: // it lost its memory of some
		p.holds = p.holds[x.pick(len(p.holds)+1):]
	}
	for _, g := range p.holds {
		r.Running = append(r.Running, Claim{TaskID: g.taskID, Attempt: g.attempt, Token: g.token})
	}
	if x.pick(6) == 0 { // something that is not its own, or twice
		if g, ok := x.anyGrant(); ok {
			r.Running = append(r.Running, Claim{TaskID: g.taskID, Attempt: g.attempt + x.pick(2), Token: g.token})
		} else {
			r.Running = append(r.Running, Claim{TaskID: "nobody", Attempt: 1, Token: 1<<63 | uint64(x.pick(9))})
		}
	}
	r.Slots = max(r.Slots, len(r.Running))
	if err := r.Check(); err != nil {
		x.b.wrong("%v", err)
	}
	claims := slices.Clone(r.Running)
	if p.ses != nil {
		x.left = append(x.left, p.ses)
	}
	p.ses = x.s.Join(x.b.now, r)
	p.ses.Owner = p
	x.note("join %s slots=%d functions=%v running=%v", p.id, r.Slots, r.Functions, claims)
	x.b.join(p.ses, &r)
}

// someFunctions picks a set that is not empty, in any order.
func (x *schedule) someFunctions() []string {
	set := slices.Clone(scheduleFunctions)
	first := x.pick(3)
	set[0], set[first] = set[first], set[0]
	return set[:1+x.pick(3)]
}

// live picks a program that has a session and satisfies is.
func (x *schedule) live(is func(*program) bool) *program {
	var fit []*program
	for _, p := range x.programs {
		if p.ses != nil && is(p) {
			fit = append(fit, p)
		}
	}
	if len(fit) == 0 {
		return nil
	}
	return fit[x.pick(len(fit))]
}

func anyProgram(*program) bool { return true }

// anyGrant picks one of the tokens that were given last.
func (x *schedule) anyGrant() (grant, bool) {
	known := x.b.known[max(0, len(x.b.known)-30):]
	if len(known) == 0 {
		return grant{}, false
	}
	return known[x.pick(len(known))], true
}

// answer has a worker answer something that it holds.
func (x *schedule) answer() {
	p := x.live(func(p *program) bool { return len(p.holds) > 0 && !p.mute })
	if p == nil {
		return
	}
	i := x.pick(len(p.holds))
	g := p.holds[i]
	p.holds = slices.Delete(p.holds, i, i+1)
	x.tell(p.ses, x.outcome(g))
}

// lateAnswer tells an answer that was given, lost or made up: again, in another
// session, in one that has ended, with another attempt, token or task.
func (x *schedule) lateAnswer() {
	g, ok := x.anyGrant()
	if !ok {
		return
	}
	r := x.outcome(g)
	switch x.pick(8) {
	case 0:
		r.Attempt += 1 + x.pick(3)
	case 1:
		r.Token ^= 1 << x.pick(64)
	case 2:
		if other, ok := x.anyGrant(); ok {
			r.TaskID = other.taskID
		}
	}
	ses := g.ses
	if p := x.live(anyProgram); p != nil && x.pick(2) == 0 {
		ses = p.ses
	} else if len(x.left) > 0 && x.pick(2) == 0 {
		ses = x.left[x.pick(len(x.left))]
	}
	if p := ses.Owner.(*program); p.ses == ses {
		p.holds = slices.DeleteFunc(p.holds, func(h grant) bool { return h.token == r.Token })
	}
	x.tell(ses, r)
}

func (x *schedule) outcome(g grant) *Result {
	r := &Result{TaskID: g.taskID, Attempt: g.attempt, Token: g.token}
	switch x.pick(8) {
	case 0:
		r.Failure = &task.Failure{Reason: "BROKEN"}
	case 1, 2:
		r.Failure = &task.Failure{Reason: "BUSY", Retry: true, RetryAfter: time.Duration(max(0, x.pick(300)-100)) * time.Millisecond}
	case 3:
		r.Failure = &task.Failure{Reason: task.ReasonCancelled}
	default:
		r.Output = fmt.Appendf(nil, "%s/%x", g.taskID, g.token)
	}
	return r
}

func (x *schedule) tell(ses *Session, r *Result) {
	x.note("result %s/%d token=%x from %s: %+v", r.TaskID, r.Attempt, r.Token, ses.WorkerID, r.Failure)
	x.b.result(ses, r)
	x.s.Result(x.b.now, ses, r)
}

func (x *schedule) leave() {
	if p := x.live(anyProgram); p != nil {
		x.note("leave %s", p.id)
		x.b.leave(p.ses)
		x.s.Leave(x.b.now, p.ses)
		x.left = append(x.left, p.ses)
		p.ses = nil
	} else if len(x.left) > 0 { // twice is once
		x.s.Leave(x.b.now, x.left[0])
		x.s.Drain(x.left[0])
	}
}

func (x *schedule) drain() {
	if p := x.live(anyProgram); p != nil {
		x.note("drain %s", p.id)
		x.b.drain(p.ses)
		x.s.Drain(p.ses)
	}
}

func (x *schedule) cancel() {
	ref := Ref{uint32(x.pick(40)), uint32(x.pick(400))} // no good, most likely
	if n := len(x.b.jobs); n > 0 {
		ref = x.b.jobs[x.pick(n)].ref
	}
	x.note("cancel %v", ref)
	x.b.cancel(ref, task.CancelClientGone)
	x.s.Cancel(x.b.now, ref, task.CancelClientGone)
}

func (x *schedule) tick() {
	wake, ok := x.s.NextDeadline()
	switch n := x.pick(4); {
	case n == 0 && ok && wake.After(x.b.now):
		x.b.now = wake // to the instant
	case n == 1 && ok && wake.After(x.b.now):
		x.b.now = wake.Add(-1) // just before
	default:
		x.b.now = x.b.now.Add(time.Duration(x.pick(200)) * time.Millisecond)
	}
	x.tickNow()
}

func (x *schedule) tickNow() {
	x.note("tick to %v", x.b.now.Sub(start))
	x.b.tick()
	x.s.Tick(x.b.now)
	x.b.forget()
}

func (x *schedule) progress() {
	if g, ok := x.anyGrant(); ok {
		x.s.Progress(g.ses, g.token, Progress{Percent: 50})
	}
}

// windDown has every worker answer and time pass: in the end nothing is left.
func (x *schedule) windDown() {
	for _, p := range x.programs {
		for p.ses != nil && len(p.holds) > 0 && !p.mute {
			g := p.holds[0]
			p.holds = p.holds[1:]
			x.tell(p.ses, &Result{TaskID: g.taskID, Attempt: g.attempt, Token: g.token, Output: []byte("late")})
			x.look()
		}
	}
	for range 10_000 {
		wake, ok := x.s.NextDeadline()
		if !ok {
			break
		}
		if wake.After(x.b.now) {
			x.b.now = wake
		}
		x.tickNow()
		x.look()
	}
	if n := len(x.b.jobs) + len(x.b.kept); n > 0 {
		x.b.wrong("%d tasks are left when no time limit is", n)
	}
	for _, p := range x.programs {
		if p.ses != nil {
			x.b.leave(p.ses)
			x.s.Leave(x.b.now, p.ses)
			x.look()
		}
	}
	s := x.s
	if n := len(s.byID) + len(s.functions) + s.timers.len() + len(s.byWorker) + s.kept.len + s.kept.bytes; n > 0 || s.Counts() != (Counts{}) {
		x.b.wrong("tables are left: %+v, %d ids, %d functions, %d timers, %d kept", s.Counts(), len(s.byID), len(s.functions), s.timers.len(), s.kept.len)
	}
	if used := len(s.assignments) - len(s.unusedSlots); used != 0 {
		x.b.wrong("%d assignments were never released", used)
	}
}
