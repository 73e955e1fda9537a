package dispatch

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"reparto/internal/task"
)

// diary is a Waiter that remembers in which order it was called.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) write(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

func (d *diary) Done(uint64, string, task.Outcome) { d.write("done") }
func (d *diary) Told()                             { d.write("told") }

// read returns what was written since it was called last.
func (d *diary) read() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := d.lines
	d.lines = nil
	return lines
}

// TestABatchStaysTogether: a worker's writer that waits is woken when all of a batch
// is there, and not by its first task; a client's is told when all outcomes are.
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
			want := append(slices.Repeat([]string{"done"}, n), "told")
			if got := who.read(); !slices.Equal(got, want) {
				t.Fatalf("round %d: the client's border was called %v, want %v", round, got, want)
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
		if got, want := w.read(), []string{"done", "told"}; !slices.Equal(got, want) {
			t.Errorf("waiter %d was called %v, want %v", i, got, want)
		}
	}
}

// TestAnAssignmentWakesNobodyByItself: it is for who puts in a batch to do so, once.
func TestAnAssignmentWakesNobodyByItself(t *testing.T) {
	o := newOutbox()
	o.putAssignment(Assignment{TaskID: "a"})
	select {
	case <-o.ready:
		t.Error("the writer is woken by the first assignment of a batch")
	default:
	}
}
