package dispatch

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"reparto/internal/balance"
	"reparto/internal/task"
)

type counter struct{ n int }

func (c *counter) Done(finished []Finished) { c.n += len(finished) }

// BenchmarkDispatch is a task's whole way through the dispatcher: submitted,
// taken by a writer, answered by a reader. An operation is one task.
func BenchmarkDispatch(b *testing.B) {
	for _, size := range []int{1, 64} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			d := open(b, Options{})
			ses := attach(b, d, "w1", 1024, "echo")
			c := &counter{}
			batch, results := make([]Submission, size), make([]Result, 0, size)
			payload := []byte("123456789")
			var f Frame
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += size {
				now := time.Now()
				for i := range batch {
					batch[i] = Submission{Number: uint64(i), Task: task.Task{
						Function: "echo", Payload: payload, Deadline: now.Add(time.Minute), MaxAttempts: 3}}
				}
				d.Submit(c, batch)
				if err := ses.Next(&f); err != nil {
					b.Fatal(err)
				}
				results = results[:0]
				for i := range f.Assign {
					a := &f.Assign[i]
					results = append(results, Result{TaskID: a.TaskID, Attempt: a.Attempt, Token: a.Token, Output: a.Payload})
				}
				ses.Results(results)
			}
			b.StopTimer()
			if c.n < b.N {
				b.Fatalf("%d outcomes of %d", c.n, b.N)
			}
		})
	}
}

// BenchmarkOwner compares two owners of one balance.State: a mutex, as built,
// and one loop that is fed by a channel. Each caller submits a batch and then
// answers it; an operation is one task. docs/adr/0001 has the numbers.
func BenchmarkOwner(b *testing.B) {
	for _, size := range []int{1, 64} {
		for _, callers := range []int{1, 8, 64} {
			for _, kind := range []string{"mutex", "loop"} {
				b.Run(fmt.Sprintf("batch=%d/callers=%d/%s", size, callers, kind), func(b *testing.B) {
					benchmarkOwner(b, size, callers, kind)
				})
			}
		}
	}
}

func benchmarkOwner(b *testing.B, size, callers int, kind string) {
	var o owner
	if kind == "mutex" {
		o = &mutexOwner{core: newCore(callers * size)}
	} else {
		l := &loopOwner{core: newCore(callers * size), requests: make(chan *request, 1024), stopped: make(chan struct{})}
		go l.run()
		defer func() { close(l.requests); <-l.stopped }()
		o = l
	}
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for caller := range callers {
		wg.Go(func() {
			r := &request{done: make(chan struct{}, 1), tasks: make([]task.Task, size), tokens: make([]uint64, 0, size)}
			for i := range r.tasks { // an id is free again once its task is answered
				r.tasks[i] = task.Task{
					ID: fmt.Sprint(caller, "-", i), Function: "echo", Deadline: time.Now().Add(time.Hour), MaxAttempts: 3}
			}
			for n := 0; n < b.N/callers; n += size {
				o.submit(r)
				o.results(r)
			}
		})
	}
	wg.Wait()
}

// owner is what a border calls.
type owner interface {
	submit(*request)
	results(*request)
}

// request is a batch on its way to a core: tasks to submit, or tokens to answer.
type request struct {
	tasks  []task.Task
	tokens []uint64
	answer bool
	done   chan struct{}
}

// core is a state and the carrying out of its effects, as short as it can be.
type core struct {
	state *balance.State
	ses   *balance.Session
}

func newCore(slots int) core {
	s := balance.New(balance.Options{})
	return core{s, s.Join(time.Now(), balance.Registration{WorkerID: "w1", Functions: []string{"echo"}, Slots: slots})}
}

func (c *core) serve(r *request) {
	now := time.Now()
	if r.answer {
		for _, token := range r.tokens {
			c.state.Result(now, c.ses, &balance.Result{Token: token, Attempt: 1})
		}
		c.state.Take()
		return
	}
	r.tokens = r.tokens[:0]
	for i := range r.tasks {
		if _, err := c.state.Submit(now, &r.tasks[i]); err != nil {
			panic(err)
		}
		for _, e := range c.state.Take() {
			if e.Kind == balance.Assign {
				r.tokens = append(r.tokens, e.Token)
			}
		}
	}
}

type mutexOwner struct {
	mu   sync.Mutex
	core core
}

func (o *mutexOwner) submit(r *request) {
	r.answer = false
	o.mu.Lock()
	o.core.serve(r)
	o.mu.Unlock()
}

func (o *mutexOwner) results(r *request) {
	r.answer = true
	o.mu.Lock()
	o.core.serve(r)
	o.mu.Unlock()
}

type loopOwner struct {
	core     core
	requests chan *request
	stopped  chan struct{}
}

func (o *loopOwner) run() {
	defer close(o.stopped)
	for r := range o.requests {
		o.core.serve(r)
		r.done <- struct{}{}
	}
}

func (o *loopOwner) submit(r *request) {
	r.answer = false
	o.requests <- r
	<-r.done
}

// results waits too, since the caller uses its request again at once; a border
// that did not would have to copy.
func (o *loopOwner) results(r *request) {
	r.answer = true
	o.requests <- r
	<-r.done
}
