package balance

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"reparto/internal/task"
)

// shape is how large a state is in each direction.
type shape struct {
	sessions, slots int
	functions       int  // that tasks are for
	offers          int  // functions that each session offers
	inFlight        int  // tasks that run or wait
	orphans         int  // functions beside, that a task waits for and nobody offers
	mixed           bool // no two tasks have the same time limit
}

// growth is a direction in which a state grows while it stays as it is in all
// others.
type growth struct {
	name  string
	sizes []int
	shape func(n int) shape
}

var decades = []int{10, 1000, 100_000}

var growths = []growth{
	// Every session is busy and offers 10 functions of so many; 100,000 tasks wait.
	{"functions", decades, func(n int) shape {
		return shape{sessions: 10_000, slots: 1, functions: n, offers: 10, inFlight: 110_000}
	}},
	// A task waits for each of so many functions that nobody offers.
	{"orphans", decades, func(n int) shape {
		return shape{sessions: 3, slots: 4, functions: 1, offers: 1, inFlight: 22, orphans: n}
	}},
	// 10 tasks run on so many sessions.
	{"sessions", decades, func(n int) shape {
		return shape{sessions: n, slots: 4, functions: 1, offers: 1, inFlight: 10}
	}},
	// So many tasks wait for 3 busy sessions.
	{"tasks", decades, func(n int) shape {
		return shape{sessions: 3, slots: 4, functions: 1, offers: 1, inFlight: 12 + n}
	}},
	// The same, and no two tasks have the same time limit.
	{"deadlines", decades, func(n int) shape {
		return shape{sessions: 3, slots: 4, functions: 1, offers: 1, inFlight: 12 + n, mixed: true}
	}},
	// 1,000 tasks wait for 3 busy sessions, each of which offers so many functions.
	{"offers", []int{1, 16, 256}, func(n int) shape {
		return shape{sessions: 3, slots: 4, functions: n, offers: n, inFlight: 1012}
	}},
	// The same with no task that waits, and sessions that one task makes busy.
	{"idle-offers", []int{1, 16, 256}, func(n int) shape {
		return shape{sessions: 3, slots: 1, functions: n, offers: n, inFlight: 2}
	}},
}

// grown is a cycle in a state of some shape.
type grown struct {
	cycle
	timeout func() time.Duration
}

func newGrown(tb testing.TB, sh shape) *grown {
	g := &grown{timeout: func() time.Duration { return time.Hour }}
	g.cycle = cycle{
		s: New(Options{
			MaxFunctionQueuedBytes: 1 << 40, MaxBytes: 1 << 40, MaxFunctionQueuedTasks: 1 << 30, MaxQueuedTasks: 1 << 30}),
		now:     start,
		tasks:   make([]task.Task, 2*sh.inFlight+64),
		running: make([]answer, 2*sh.sessions*sh.slots+1),
	}
	names := make([]string, sh.functions)
	for i := range names {
		names[i] = fmt.Sprintf("f%d", i)
	}
	for i := range sh.sessions {
		offers := make([]string, sh.offers)
		for k := range offers {
			offers[k] = names[(i*sh.offers+k)%len(names)]
		}
		g.s.Join(g.now, Registration{WorkerID: fmt.Sprintf("w%d", i), Functions: offers, Slots: sh.slots})
	}
	for i := range sh.orphans {
		t := &task.Task{ID: fmt.Sprintf("o%d", i), Function: fmt.Sprintf("orphan%d", i), MaxAttempts: 3, Deadline: g.now.Add(24 * time.Hour)}
		if _, err := g.s.Submit(g.now, t); err != nil {
			tb.Fatal(err)
		}
	}
	g.s.Take()
	for i := range g.tasks {
		g.tasks[i] = task.Task{
			ID: fmt.Sprintf("t%d", i), Function: names[i%len(names)], Payload: []byte("1,2,3,4,5"), MaxAttempts: 3}
	}
	if sh.mixed {
		chance := rand.New(rand.NewPCG(1, 2))
		g.timeout = func() time.Duration { return time.Minute + time.Duration(chance.Int64N(int64(time.Hour))) }
	}
	for range sh.inFlight {
		g.submit(tb)
	}
	return g
}

func (g *grown) submit(tb testing.TB) {
	for {
		t := &g.tasks[g.next]
		g.next = (g.next + 1) % len(g.tasks)
		t.Deadline = g.now.Add(g.timeout())
		if _, err := g.s.Submit(g.now, t); err == nil {
			break
		} else if err != ErrIDConflict { // its turn came round while it still waits
			tb.Fatal(err)
		}
	}
	g.take()
}

// step is one task in and one result out.
func (g *grown) step(tb testing.TB) {
	g.submit(tb)
	a := &g.running[g.first]
	g.first = (g.first + 1) % len(g.running)
	g.n--
	g.s.Result(g.now, a.ses, &a.res)
	g.take()
	g.now = g.now.Add(time.Microsecond)
}

// BenchmarkGrowth is what a task costs, in, dealt, answered and out, when one
// thing grows and all else stays. docs/scaling.md has the numbers.
func BenchmarkGrowth(b *testing.B) {
	for _, g := range growths {
		for _, n := range g.sizes {
			b.Run(fmt.Sprintf("%s=%d", g.name, n), func(b *testing.B) {
				c := newGrown(b, g.shape(n))
				for range max(len(c.tasks), len(c.s.sessions)) { // the tables grow to size
					c.step(b)
				}
				var before, after runtime.MemStats
				runtime.GC() // what filling the tables has left behind
				runtime.ReadMemStats(&before)
				b.ReportAllocs()
				for b.Loop() {
					c.step(b)
				}
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N), "ns/task")
				b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(b.N), "allocs/task")
			})
		}
	}
}
