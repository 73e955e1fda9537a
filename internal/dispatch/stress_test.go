package dispatch

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reparto/internal/balance"
	"reparto/internal/task"
)

// Everything at once from many goroutines, with the clock running: each task
// that was accepted and not given up has exactly one outcome, and nothing is
// left in the end.
func TestManyGoroutines(t *testing.T) {
	d := open(t, Options{Heartbeat: 10 * time.Millisecond, Balance: balance.Options{
		MaxFunctionQueuedTasks: 200, Backoff: time.Millisecond, MaxLost: 1000, KeepFor: time.Millisecond}})
	stop := make(chan struct{})
	var workers, clients sync.WaitGroup
	for i := range 6 {
		workers.Go(func() { stressWorker(d, i, stop) })
	}
	var accepted, told atomic.Int64
	for i := range 8 {
		clients.Go(func() { stressClient(t, d, uint64(i), &accepted, &told) })
	}
	checks := make(chan struct{})
	go func() {
		defer close(checks)
		for {
			select {
			case <-stop:
				return
			default:
				d.mu.Lock()
				if err := d.state.Check(); err != nil {
					t.Error(err)
				}
				d.mu.Unlock()
				d.Info()
				d.Workers("", "", 10)
				d.Functions("", 10)
			}
		}
	}()
	clients.Wait()
	close(stop)
	workers.Wait()
	<-checks
	if accepted.Load() == 0 || told.Load() == 0 {
		t.Fatalf("%d accepted, %d outcomes: nothing was tried", accepted.Load(), told.Load())
	}
	empty(t, d)
	if f := d.Functions("", 10); len(f) != 0 {
		t.Errorf("functions are left: %+v", f)
	}
	t.Logf("%d accepted, %d outcomes", accepted.Load(), told.Load())
}

// stressWorker attaches, answers in every way, vanishes and comes back.
func stressWorker(d *Dispatcher, n int, stop chan struct{}) {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	var claims []Claim
	for {
		select {
		case <-stop:
			return
		default:
		}
		ses, err := d.Attach(Registration{WorkerID: name(n % 4), Slots: 4, Functions: []string{"a", "b"}, Running: claims})
		if err != nil {
			panic(err)
		}
		claims = nil
		ended := make(chan struct{})
		go func() {
			select {
			case <-stop:
				ses.Detach()
			case <-ended:
			}
		}()
		var f Frame
		for range 1 + r.IntN(200) {
			if ses.Next(&f) != nil {
				break
			}
			ses.Heard()
			var results []Result
			for _, a := range f.Assign {
				res := Result{TaskID: a.TaskID, Attempt: a.Attempt, Token: a.Token}
				switch r.IntN(10) {
				case 0:
					res.Failure = &task.Failure{Reason: "BUSY", Retry: true}
				case 1:
					res.Failure = &task.Failure{Reason: task.ReasonCancelled}
				case 2:
					if len(claims) < 4 {
						claims = append(claims, Claim{TaskID: a.TaskID, Attempt: a.Attempt, Token: a.Token})
					}
					continue // keeps its slot until the worker leaves
				}
				results = append(results, res)
			}
			for _, c := range f.Cancel {
				results = append(results, Result{TaskID: c.TaskID, Token: c.Token, Failure: &task.Failure{Reason: task.ReasonCancelled}})
				ses.Progress(c.Token, Progress{Percent: 1})
			}
			ses.Results(results)
			if r.IntN(50) == 0 {
				ses.Drain()
			}
		}
		ses.Detach()
		close(ended)
	}
}

// stressClient submits, gives up, and checks that it is told once of each task.
func stressClient(t *testing.T, d *Dispatcher, n uint64, accepted, told *atomic.Int64) {
	r := rand.New(rand.NewPCG(n, 2))
	c := newClient()
	abandoned := map[uint64]bool{}
	var tickets []Submission
	for i := range uint64(150) {
		batch := make([]Submission, 1+r.IntN(5))
		for j := range batch {
			tk := newTask([]string{"a", "b"}[r.IntN(2)], "x")
			switch r.IntN(4) {
			case 0:
				tk = ownTask("own-"+name(r.IntN(5)), "a", "x")
			case 1:
				tk.Deadline = time.Now().Add(time.Duration(1+r.IntN(5)) * time.Millisecond)
			case 2:
				tk.AttemptTimeout = time.Millisecond
			}
			batch[j] = Submission{Number: i*10 + uint64(j), Task: tk}
		}
		d.Submit(c, batch)
		for _, b := range batch {
			if b.Err == nil {
				accepted.Add(1)
				tickets = append(tickets, b)
			}
		}
		if len(tickets) > 0 && r.IntN(3) == 0 {
			b := tickets[r.IntN(len(tickets))]
			abandoned[b.Number] = true
			d.Abandon(c, b.Ticket)
		}
	}
	deadline := time.Now().Add(20 * time.Second)
	for _, b := range tickets {
		for c.count(b.Number) == 0 && !abandoned[b.Number] {
			if time.Now().After(deadline) {
				t.Errorf("task %s has had no outcome for 20s", b.Task.ID)
				return
			}
			<-time.After(100 * time.Microsecond)
		}
		if n := c.count(b.Number); n > 1 {
			t.Errorf("task %s has %d outcomes", b.Task.ID, n)
		} else {
			told.Add(int64(n))
		}
	}
}

// A thousand deadlines in one bubble, in no order: each is met to the
// nanosecond by the one timer.
func TestEveryDeadlineIsMet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, Options{})
		w := &punctual{t: t, due: map[uint64]time.Time{}}
		r := rand.New(rand.NewPCG(1, 2))
		for i := range uint64(1000) {
			tk := newTask("f", "")
			tk.Deadline = time.Now().Add(time.Duration(1 + r.Int64N(int64(time.Minute))))
			w.mu.Lock()
			w.due[i] = tk.Deadline
			w.mu.Unlock()
			batch := []Submission{{Number: i, Task: tk}}
			if d.Submit(w, batch); batch[0].Err != nil {
				t.Fatal(batch[0].Err)
			}
			time.Sleep(time.Duration(r.Int64N(int64(time.Millisecond))))
		}
		passes(t, 2*time.Minute)
		if len(w.due) != 0 {
			t.Errorf("%d tasks have no outcome", len(w.due))
		}
		empty(t, d)
	})
}

type punctual struct {
	t   *testing.T
	mu  sync.Mutex
	due map[uint64]time.Time
}

func (p *punctual) Done(finished []Finished) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range finished {
		if late := time.Since(p.due[f.Number]); late != 0 || f.Outcome.State != task.Expired {
			p.t.Errorf("task %d ended %v, %v after its deadline", f.Number, f.Outcome.State, late)
		}
		delete(p.due, f.Number)
	}
}
