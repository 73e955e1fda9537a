package balance

import (
	"fmt"
	"testing"
	"time"

	"reparto/internal/task"
)

// cycle drives a State through its main job in a steady state: a task comes in,
// the oldest assignment is answered, and what follows is taken.
type cycle struct {
	s        *State
	now      time.Time
	tasks    []task.Task
	next     int
	running  []answer // a ring buffer, the oldest at first
	first, n int
}

type answer struct {
	ses *Session
	res Result
}

// newCycle has sessions with the slots given, each of which offers the functions
// (at most as many as it may), and so many tasks that run or wait all the time.
func newCycle(tb testing.TB, sessions, slots, functions, inFlight int) *cycle {
	c := &cycle{
		s:       New(Options{MaxFunctionQueuedBytes: 1 << 40, MaxBytes: 1 << 40, MaxFunctionQueuedTasks: 1 << 30}),
		now:     start,
		tasks:   make([]task.Task, 2*inFlight+64),
		running: make([]answer, 2*sessions*slots+1),
	}
	names := make([]string, functions)
	for i := range names {
		names[i] = fmt.Sprintf("f%d", i)
	}
	// More functions than a session may offer are spread over the sessions.
	each := min(functions, task.MaxWorkerFuncs)
	for i := range sessions {
		offers := make([]string, each)
		for k := range offers {
			offers[k] = names[(i*each+k)%functions]
		}
		c.s.Join(c.now, Registration{WorkerID: fmt.Sprintf("w%d", i), Functions: offers, Slots: slots})
	}
	c.s.Take()
	for i := range c.tasks {
		c.tasks[i] = task.Task{
			ID: fmt.Sprintf("t%d", i), Function: names[i%functions], Payload: []byte("1,2,3,4,5"),
			MaxAttempts: 3,
		}
	}
	for range inFlight {
		c.submit(tb)
	}
	return c
}

func (c *cycle) submit(tb testing.TB) {
	for {
		t := &c.tasks[c.next]
		c.next = (c.next + 1) % len(c.tasks)
		t.Deadline = c.now.Add(time.Hour)
		if _, err := c.s.Submit(c.now, t); err == nil {
			break
		} else if err != ErrIDConflict { // its turn came round while it still waits
			tb.Fatal(err)
		}
	}
	c.take()
}

func (c *cycle) take() {
	for _, e := range c.s.Take() {
		if e.Kind == Assign {
			c.running[(c.first+c.n)%len(c.running)] = answer{e.Session, Result{TaskID: e.TaskID, Attempt: e.Attempt, Token: e.Token}}
			c.n++
		}
	}
}

// step is one task in and one result out.
func (c *cycle) step(tb testing.TB) {
	c.submit(tb)
	a := &c.running[c.first]
	c.first = (c.first + 1) % len(c.running)
	c.n--
	c.s.Result(c.now, a.ses, &a.res)
	c.take()
	c.now = c.now.Add(time.Microsecond)
}

// One task in, dealt, answered, out. In ns, bytes and allocations per task.
func BenchmarkCycle(b *testing.B) {
	for _, sessions := range []int{1, 3, 1000, 10_000} {
		for _, waiting := range []int{0, 10, 1000, 100_000} {
			b.Run(fmt.Sprintf("sessions=%d/waiting=%d", sessions, waiting), func(b *testing.B) {
				const slots = 4
				run(b, newCycle(b, sessions, slots, 1, sessions*slots/2+waiting))
			})
		}
	}
}

// The same, with tasks spread over functions that every session offers as many
// of as it may.
func BenchmarkFunctions(b *testing.B) {
	for _, functions := range []int{10, 256, 1000, 100_000} {
		for _, sessions := range []int{1000, 10_000} {
			if functions > sessions*task.MaxWorkerFuncs || sessions*min(functions, task.MaxWorkerFuncs) > 1_000_000 {
				continue // nobody would offer some of them; or the tables alone fill the machine
			}
			b.Run(fmt.Sprintf("functions=%d/sessions=%d", functions, sessions), func(b *testing.B) {
				run(b, newCycle(b, sessions, 4, functions, sessions*2))
			})
		}
	}
}

func run(b *testing.B, c *cycle) {
	b.ReportAllocs()
	for b.Loop() {
		c.step(b)
	}
}

// A session that comes and goes, among many.
func BenchmarkJoinLeave(b *testing.B) {
	for _, sessions := range []int{1, 1000, 10_000} {
		b.Run(fmt.Sprint("sessions=", sessions), func(b *testing.B) {
			c := newCycle(b, sessions, 4, 10, sessions)
			r := Registration{WorkerID: "guest", Functions: []string{"f0", "f1", "f2"}, Slots: 4}
			b.ReportAllocs()
			for b.Loop() {
				c.s.Leave(c.now, c.s.Join(c.now, r))
				c.s.Take()
			}
		})
	}
}

// A cycle allocates nothing once the tables have grown to size: what a task
// costs is what its border made for it.
func TestCycleDoesNotAllocate(t *testing.T) {
	for name, c := range map[string]*cycle{
		"slots are free": newCycle(t, 100, 4, 1, 200),
		"tasks wait":     newCycle(t, 100, 4, 1, 1000),
		"many functions": newCycle(t, 100, 4, 50, 200),
	} {
		for range 5000 { // grow
			c.step(t)
		}
		if n := testing.AllocsPerRun(5000, func() { c.step(t) }); n != 0 {
			t.Errorf("%s: %v allocations per task, want 0", name, n)
		}
		if err := c.s.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
