package dispatch

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"reparto/internal/balance"
)

// diary is a Waiter that remembers with how many outcomes it was called, each time.
type diary struct {
	mu    sync.Mutex
	calls []int
}

func (d *diary) Done(finished []Finished) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, len(finished))
}

// read returns what was written since it was called last.
func (d *diary) read() []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	calls := d.calls
	d.calls = nil
	return calls
}

// TestABatchStaysTogether: a worker's writer that waits is woken when all of a batch
// is there, and not by its first task; a client's border is told all outcomes at once.
func TestABatchStaysTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = MaxFrameTasks
		d := open(t, Options{})
		ses := attach(t, d, "w", n, "echo")
		var who diary
		frames := make(chan Frame)
		for round := range 50 {
			go func() { frames <- next(t, ses) }()
			synctest.Wait()
			batch := make([]Submission, n)
			for i := range batch {
				batch[i] = Submission{Number: uint64(i), Task: newTask("echo", "x")}
			}
			d.Submit(&who, batch)
			f := <-frames
			if len(f.Assign) != n {
				t.Fatalf("round %d: the frame has %d assignments, want the whole batch of %d", round, len(f.Assign), n)
			}
			var results []Result
			for _, a := range f.Assign {
				results = append(results, Result{TaskID: a.TaskID, Attempt: a.Attempt, Token: a.Token})
			}
			ses.Results(results)
			if got, want := who.read(), []int{n}; !slices.Equal(got, want) {
				t.Fatalf("round %d: the client's border was told %v outcomes, want %v", round, got, want)
			}
		}
	})
}

// TestAllWhoWaitAreTold: several who wait for the same task too.
func TestAllWhoWaitAreTold(t *testing.T) {
	d := open(t, Options{})
	ses := attach(t, d, "w", 1, "echo")
	var first, second diary
	for _, w := range []*diary{&first, &second} {
		batch := []Submission{{Task: ownTask("mine", "echo", "x")}}
		if d.Submit(w, batch); batch[0].Err != nil {
			t.Fatal(batch[0].Err)
		}
	}
	a := assigned(t, ses)
	ses.Results([]Result{{TaskID: a.TaskID, Attempt: a.Attempt, Token: a.Token}})
	for i, w := range []*diary{&first, &second} {
		if got, want := w.read(), []int{1}; !slices.Equal(got, want) {
			t.Errorf("waiter %d was told %v outcomes, want %v", i, got, want)
		}
	}
}

// TestOutcomesGoToThoseWhoWait: each waiter of a batch gets its own, whatever their
// order.
func TestOutcomesGoToThoseWhoWait(t *testing.T) {
	d := open(t, Options{})
	ses := attach(t, d, "w", 4, "echo")
	first, second := newClient(), newClient()
	for i, c := range []*client{first, second, first, second} {
		submit(t, d, c, uint64(i), newTask("echo", fmt.Sprint(i)))
	}
	var results []Result
	for _, a := range next(t, ses).Assign {
		results = append(results, Result{TaskID: a.TaskID, Attempt: a.Attempt, Token: a.Token, Output: a.Payload})
	}
	ses.Results(results)
	for i, c := range []*client{first, second, first, second} {
		if got := c.told[uint64(i)]; len(got) != 1 || string(got[0].o.Result) != fmt.Sprint(i) {
			t.Errorf("task %d: its client was told %v", i, got)
		}
	}
}

// TestACancelDoesNotOvertakeItsAssignment: not within one step of the core either.
func TestACancelDoesNotOvertakeItsAssignment(t *testing.T) {
	o := newOutbox()
	o.gather(Assignment{TaskID: "a", Token: 1})
	d := &Dispatcher{state: balance.New(balance.Options{})}
	ses := &Session{outbox: outbox{ready: o.ready, gathered: o.gathered}}
	d.carryOut(&balance.Effect{Kind: balance.CancelAssignment, Session: &balance.Session{Owner: ses}, Token: 1})
	var f Frame
	if !ses.take(&f) || len(f.Assign) != 1 || len(f.Cancel) != 1 {
		t.Errorf("the frame has %d assignments and %d cancels, want one of each", len(f.Assign), len(f.Cancel))
	}
}

// TestADrainWaitsForWhatIsBeingPutIn: a promise is kept when its assignment can be
// taken, and not before.
func TestADrainWaitsForWhatIsBeingPutIn(t *testing.T) {
	o := newOutbox()
	o.promise()
	o.putDrain(0)
	o.kept++
	o.gather(Assignment{TaskID: "a"})
	var f Frame
	if o.take(&f) {
		t.Errorf("before its assignment the worker gets %+v", f)
	}
	o.putAssignments()
	if !o.take(&f) || len(f.Assign) != 1 || !f.Drain {
		t.Errorf("the worker gets %+v, want an assignment and the drain", f)
	}
}

// TestAnAssignmentWakesNobodyByItself: it is for who puts in a batch to do so, once.
func TestAnAssignmentWakesNobodyByItself(t *testing.T) {
	o := newOutbox()
	o.gather(Assignment{TaskID: "a"})
	o.putAssignments()
	select {
	case <-o.ready:
		t.Error("the writer is woken by the first assignment of a batch")
	default:
	}
}

// fragile is a Waiter that panics when it is told for the first time.
type fragile struct{ calls int }

func (f *fragile) Done([]Finished) {
	if f.calls++; f.calls == 1 {
		panic("told")
	}
}

// TestAWaiterThatPanicsIsNotToldTwice: what ends its own call spoils no other's.
func TestAWaiterThatPanicsIsNotToldTwice(t *testing.T) {
	d := open(t, Options{})
	ses := attach(t, d, "w", 2, "echo")
	var f fragile
	d.Submit(&f, []Submission{{Task: newTask("echo", "x")}})
	a := assigned(t, ses)
	func() {
		defer func() { _ = recover() }()
		answer(ses, a, "x")
	}()
	c := newClient()
	submit(t, d, c, 1, newTask("echo", "y"))
	answer(ses, assigned(t, ses), "y")
	if f.calls != 1 || c.count(1) != 1 {
		t.Errorf("the one that panicked was told %d times, the other %d times, want once each", f.calls, c.count(1))
	}
}

// TestOneLongListIsNotRememberedForEver: of outcomes that came together.
func TestOneLongListIsNotRememberedForEver(t *testing.T) {
	d := open(t, Options{})
	batch := make([]Submission, maxGathered+1)
	for i := range batch {
		batch[i].Task = newTask("echo", "x")
	}
	c := &counter{}
	d.Submit(c, batch)
	d.Close() // which ends them all in one step
	if c.n != len(batch) || cap(d.finished) > maxGathered {
		t.Errorf("%d outcomes of %d; room is kept for %d", c.n, len(batch), cap(d.finished))
	}
}
