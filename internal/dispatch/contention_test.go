package dispatch

import (
	"fmt"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"testing"
	"time"

	"reparto/internal/balance"
	"reparto/internal/task"
)

// The benchmarks of this file ask what many tasks and many cores do to the one
// mutex. docs/scaling.md has the numbers, and what they mean.

var noLimits = balance.Options{
	MaxQueuedTasks: 1 << 30, MaxFunctionQueuedTasks: 1 << 30, MaxFunctionQueuedBytes: 1 << 40, MaxBytes: 1 << 40}

// BenchmarkGrowth is a task's way through the dispatcher, one task a call, when
// one thing grows and all else stays.
func BenchmarkGrowth(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000} {
		// A task waits for each of so many functions that nobody offers.
		b.Run(fmt.Sprint("orphans=", n), func(b *testing.B) {
			d := open(b, Options{Balance: noLimits})
			ses := attach(b, d, "w", 16, "echo")
			for i := range n {
				submitAll(d, fmt.Sprintf("orphan%d", i), 1)
			}
			perTask(b, d, 1000, func(int) *Session { return ses })
		})
		// One task runs at a time, on each of so many sessions in turn.
		b.Run(fmt.Sprint("sessions=", n), func(b *testing.B) {
			d := open(b, Options{Balance: noLimits})
			all := make([]*Session, n)
			for i := range all {
				all[i] = attach(b, d, fmt.Sprint("w", i), 1, "echo")
			}
			perTask(b, d, n, func(i int) *Session { return all[i%n] })
		})
		// So many tasks wait for one busy session.
		b.Run(fmt.Sprint("tasks=", n), func(b *testing.B) {
			d := open(b, Options{Balance: noLimits})
			ses := attach(b, d, "w", 1, "echo")
			submitAll(d, "echo", n)
			perTask(b, d, 2*n, func(int) *Session { return ses })
		})
	}
}

// perTask submits a task, and takes and answers one at the session whose turn it
// is, again and again; so many times before it measures.
func perTask(b *testing.B, d *Dispatcher, warm int, turn func(int) *Session) {
	var f Frame
	c, i := &counter{}, 0
	batch, results := make([]Submission, 1), make([]Result, 0, 1)
	step := func() {
		batch[0] = Submission{Task: echoTask(time.Now())}
		d.Submit(c, batch)
		ses := turn(i)
		i++
		if err := ses.Next(&f); err != nil {
			b.Fatal(err)
		}
		results = appendResults(results[:0], &f)
		ses.Results(results)
	}
	for range warm {
		step()
	}
	var before, after runtime.MemStats
	runtime.GC() // what filling the tables has left behind
	runtime.ReadMemStats(&before)
	b.ReportAllocs()
	for b.Loop() {
		step()
	}
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N), "ns/task")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(b.N), "allocs/task")
}

var echoPayload = []byte("1,2,3,4,5")

func echoTask(now time.Time) task.Task {
	return task.Task{Function: "echo", Payload: echoPayload, Deadline: now.Add(time.Hour), MaxAttempts: 3}
}

// submitAll submits n tasks whose outcome nobody looks at.
func submitAll(d *Dispatcher, function string, n int) {
	now := time.Now()
	for batch := range slices.Chunk(make([]Submission, n), 1000) {
		for i := range batch {
			batch[i].Task = echoTask(now)
			batch[i].Task.Function = function
		}
		d.Submit(&counter{}, batch)
	}
}

// appendResults answers what a frame assigns.
func appendResults(results []Result, f *Frame) []Result {
	for i := range f.Assign {
		a := &f.Assign[i]
		results = append(results, Result{TaskID: a.TaskID, Attempt: a.Attempt, Token: a.Token, Output: a.Payload})
	}
	return results
}

// BenchmarkContention has so many processors, as far as the machine has cores,
// and as many callers that do nothing but submit a batch, take it and answer it:
// what they wait for each other, and the rate at which the mutex is full.
func BenchmarkContention(b *testing.B) {
	for _, batch := range []int{1, 16, 256} {
		for _, procs := range []int{1, 2, 4, 8, 16} {
			b.Run(fmt.Sprintf("batch=%d/procs=%d", batch, procs), func(b *testing.B) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
				contend(b, procs, batch)
			})
		}
	}
}

func contend(b *testing.B, callers, size int) {
	d := open(b, Options{Balance: noLimits})
	var callersDone sync.WaitGroup
	all := make([]*caller, callers)
	for g := range all {
		all[g] = newCaller(b, d, g, size)
		for range 100 {
			all[g].round()
		}
		all[g].held = 0
	}
	before := mutexWait()
	b.ResetTimer()
	for _, c := range all {
		callersDone.Go(func() {
			for n := 0; n < b.N/callers; n += size {
				c.round()
			}
		})
	}
	callersDone.Wait()
	b.StopTimer()
	tasks := float64(b.N)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/tasks, "ns/task")
	b.ReportMetric(float64(mutexWait()-before)/tasks, "wait-ns/task")
	b.ReportMetric(tasks/b.Elapsed().Seconds(), "tasks/s")
	if callers == 1 {
		// Nobody else wants the mutex, so nearly all the time in these calls is time
		// under it. Ids are made before.
		b.ReportMetric(float64(all[0].held.Nanoseconds())/tasks, "held-ns/task")
	}
}

// mutexWait is how long goroutines have waited for mutexes, since the start.
func mutexWait() time.Duration {
	s := []metrics.Sample{{Name: "/sync/mutex/wait/total:seconds"}}
	metrics.Read(s)
	return time.Duration(s[0].Value.Float64() * float64(time.Second))
}

// caller is a client and a worker that know nothing of others.
type caller struct {
	b       *testing.B
	d       *Dispatcher
	ses     *Session
	counter counter
	batch   []Submission
	tasks   []task.Task
	results []Result
	frame   Frame
	held    time.Duration // in the calls that take the mutex
}

func newCaller(b *testing.B, d *Dispatcher, g, size int) *caller {
	c := &caller{b: b, d: d, batch: make([]Submission, size), tasks: make([]task.Task, size)}
	function := fmt.Sprint("echo", g)
	c.ses = attach(b, d, fmt.Sprint("w", g), size, function)
	for i := range c.tasks { // an id is free again once its task is answered
		c.tasks[i] = echoTask(time.Now())
		c.tasks[i].ID, c.tasks[i].Function = fmt.Sprint(g, "-", i), function
	}
	return c
}

// round is one batch in and its results out.
func (c *caller) round() {
	for i := range c.batch {
		c.batch[i] = Submission{Task: c.tasks[i]}
	}
	start := time.Now()
	c.d.Submit(&c.counter, c.batch)
	c.held += time.Since(start)
	for answered := 0; answered < len(c.batch); answered += len(c.results) {
		if err := c.ses.Next(&c.frame); err != nil {
			c.b.Error(err)
			return
		}
		c.results = appendResults(c.results[:0], &c.frame)
		start = time.Now()
		c.ses.Results(c.results)
		c.held += time.Since(start)
	}
}

// BenchmarkLongHold is how long everybody waits for one step that is large by
// itself, as the median. Each is done from outside, so the figure is a little more
// than the mutex is held. Run it with -benchtime 5x.
func BenchmarkLongHold(b *testing.B) {
	for _, step := range []struct {
		name string
		hold func(b *testing.B, n int) time.Duration
	}{
		{"join with slots for waiting tasks", holdJoin},
		{"leave with running tasks", holdLeave},
		{"list functions", holdFunctions},
		{"list workers", holdWorkers},
		{"a task limit passes for tasks", holdExpire},
		{"heartbeats of sessions", holdSweep},
	} {
		for _, n := range []int{1000, 50_000} {
			b.Run(fmt.Sprintf("%s=%d", step.name, n), func(b *testing.B) {
				var all []time.Duration
				for b.Loop() {
					all = append(all, step.hold(b, n))
				}
				slices.Sort(all)
				b.ReportMetric(float64(all[len(all)/2].Nanoseconds())/1e6, "held-ms")
				b.ReportMetric(0, "ns/op") // most of it is preparation
			})
		}
	}
}

func holdJoin(b *testing.B, n int) time.Duration {
	d, done := openOnce(b)
	defer done()
	submitAll(d, "echo", n)
	start := time.Now()
	attach(b, d, "w", n, "echo")
	return time.Since(start)
}

func holdLeave(b *testing.B, n int) time.Duration {
	d, done := openOnce(b)
	defer done()
	ses := attach(b, d, "w", n, "echo")
	submitAll(d, "echo", n)
	start := time.Now()
	ses.Detach()
	return time.Since(start)
}

func holdFunctions(b *testing.B, n int) time.Duration {
	d, done := openOnce(b)
	defer done()
	for i := range n {
		submitAll(d, fmt.Sprint("f", i), 1)
	}
	start := time.Now()
	d.Functions("", 100)
	return time.Since(start)
}

func holdWorkers(b *testing.B, n int) time.Duration {
	d, done := openOnce(b)
	defer done()
	for i := range n {
		attach(b, d, fmt.Sprint("w", i), 1, "echo")
	}
	start := time.Now()
	d.Workers("", "", 100)
	return time.Since(start)
}

func holdExpire(b *testing.B, n int) time.Duration {
	d, done := openOnce(b)
	defer done()
	batch := make([]Submission, n)
	limit := time.Now().Add(time.Duration(n)*2*time.Microsecond + 200*time.Millisecond)
	for i := range batch {
		batch[i].Task = echoTask(limit)
		batch[i].Task.Deadline = limit
	}
	d.Submit(&counter{}, batch)
	return longestWait(d, time.Until(limit)+100*time.Millisecond)
}

func holdSweep(b *testing.B, n int) time.Duration {
	const heartbeat = 800 * time.Millisecond
	d, err := Open(Options{Heartbeat: heartbeat})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	for i := range n {
		attach(b, d, fmt.Sprint("w", i), 1, "echo")
	}
	return longestWait(d, heartbeat/sweeps*3/2)
}

// longestWait asks again and again, for so long, and tells how long the slowest
// answer took.
func longestWait(d *Dispatcher, span time.Duration) (longest time.Duration) {
	for end := time.Now().Add(span); time.Now().Before(end); {
		start := time.Now()
		d.Info()
		longest = max(longest, time.Since(start))
		runtime.Gosched()
	}
	return longest
}

// openOnce starts a dispatcher for one measurement.
func openOnce(b *testing.B) (d *Dispatcher, done func()) {
	d, err := Open(Options{Balance: noLimits})
	if err != nil {
		b.Fatal(err)
	}
	return d, func() { d.Close(); runtime.GC() }
}
