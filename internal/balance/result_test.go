package balance

import (
	"testing"
	"time"

	"reparto/internal/task"
)

// All answers of a frame may be told before the effects are taken. One of them
// frees a slot, so that a task is assigned; the next ends that very task, and a
// new one takes its place in the tables. The assignment still tells what it told.
func TestAnAssignmentIsGoodAfterItsTaskHasEnded(t *testing.T) {
	for _, own := range []bool{false, true} {
		s := New(Options{Backoff: time.Second})
		ses := s.Join(start, Registration{WorkerID: "w", Functions: []string{"f"}, Slots: 2})
		quick, slow := newTask("quick", 0), newTask("slow", 0)
		slow.AttemptTimeout, slow.OwnID = 10*time.Second, own
		slow.Payload = []byte("slow's")
		submitError(s, quick)
		submitError(s, slow)
		tokens := map[string]uint64{}
		for _, e := range s.Take() {
			tokens[e.TaskID] = e.Token
		}
		now := start.Add(12 * time.Second)
		s.Tick(start.Add(10 * time.Second)) // slow's attempt is out of time, but keeps its slot
		s.Tick(now)                         // and its retry waits
		s.Take()
		s.Result(now, ses, &Result{TaskID: "quick", Attempt: 1, Token: tokens["quick"]})
		s.Result(now, ses, &Result{TaskID: "slow", Attempt: 1, Token: tokens["slow"], Output: []byte("late")})
		other := newTask("other", 0)
		other.Payload = []byte("other's")
		submitError(s, other)
		for _, e := range s.Take() {
			if want := e.TaskID + "'s"; e.Kind == Assign && (string(e.Task.Payload) != want || e.Task.Function != "f" || e.Task.Deadline.IsZero()) {
				t.Errorf("own id %v: %s was assigned as %+v", own, e.TaskID, e.Task)
			}
		}
	}
}

// A session that reconnects, claims, and is lost again, over and over: a claim
// makes good one loss and no more, and an attempt that ran out of time is not
// lost. So the task is given up after the number of losses that count.
func TestClaimsMakeGoodOneLossEach(t *testing.T) {
	s := New(Options{MaxLost: 2, Backoff: time.Second})
	now := start
	k := newTask("t", 0)
	k.AttemptTimeout, k.MaxAttempts, k.Deadline = 10*time.Second, 5, start.Add(time.Hour)
	reg := Registration{WorkerID: "w", Functions: []string{"f"}, Slots: 2}
	ses := s.Join(now, reg)
	submitError(s, k)
	claim := Claim{TaskID: "t", Attempt: 1, Token: s.Take()[0].Token}
	rejoin := func() {
		s.Leave(now, ses)
		reg.Running = []Claim{claim}
		ses = s.Join(now, reg)
	}
	for range 5 { // each time lost and made good
		rejoin()
		if e := s.find("t"); e == nil || e.state != task.Running || e.lost != 0 || e.current.attempt != 1 {
			t.Fatalf("after a claim: %+v", e)
		}
	}
	now = now.Add(10 * time.Second)
	s.Tick(now) // out of time
	rejoin()
	if e := s.find("t"); e.state != task.Scheduled || e.lost != 0 || len(e.past()) != 1 {
		t.Errorf("claimed after its time: %v, %d lost, %d past attempts", e.state, e.lost, len(e.past()))
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

// The outcome tells of the attempt that brought it: not of the last one that was
// given out, and not of what the worker calls it.
func TestTheOutcomeNamesItsAttempt(t *testing.T) {
	for name, answer := range map[string]*Result{
		"output":  {TaskID: "whatever", Attempt: 77, Output: []byte("ok")},
		"failure": {TaskID: "whatever", Attempt: 77, Failure: &task.Failure{Reason: "BROKEN"}},
	} {
		s := New(Options{})
		one := s.Join(start, Registration{WorkerID: "one", Functions: []string{"f"}, Slots: 1})
		submitError(s, newTask("t", 0))
		first := s.Take()[0]
		s.Leave(start, one)
		two := s.Join(start, Registration{WorkerID: "two", Functions: []string{"f"}, Slots: 1})
		s.Leave(start, two) // the second attempt is lost too; then the first is claimed
		s.Take()
		one = s.Join(start, Registration{WorkerID: "one", Functions: []string{"f"}, Slots: 1, Running: []Claim{{TaskID: "t", Attempt: 1, Token: first.Token}}})
		answer.Token = first.Token
		s.Result(start, one, answer)
		effects := s.Take()
		if last := effects[len(effects)-1]; last.Kind != Finish || last.Outcome.Attempt != 1 || last.Outcome.WorkerID != "one" {
			t.Errorf("%s: %+v", name, last)
		}
	}
}

// Answers that fit nothing are ignored, whatever is wrong with them.
func TestForeignAnswersAreIgnored(t *testing.T) {
	s := New(Options{})
	one := s.Join(start, Registration{WorkerID: "one", Functions: []string{"f"}, Slots: 1})
	two := s.Join(start, Registration{WorkerID: "two", Functions: []string{"f"}, Slots: 1})
	submitError(s, newTask("t", 0))
	token := s.Take()[0].Token
	for name, c := range map[string]struct {
		ses *Session
		r   Result
	}{
		"another session's token": {two, Result{TaskID: "t", Attempt: 1, Token: token}},
		"another token":           {one, Result{TaskID: "t", Attempt: 1, Token: token + 1}},
		"an older generation":     {one, Result{TaskID: "t", Attempt: 1, Token: token - 1<<32}},
		"no token":                {one, Result{TaskID: "t", Attempt: 1}},
		"the largest token":       {one, Result{TaskID: "t", Attempt: -1, Token: 1<<64 - 1}},
		"an unknown task":         {one, Result{TaskID: "", Token: 7}},
	} {
		s.Result(start, c.ses, &c.r)
		s.Progress(c.ses, c.r.Token, Progress{Percent: 1})
		if effects := s.Take(); len(effects) > 0 {
			t.Errorf("%s: %+v", name, effects)
		}
		if s.Running() != 1 {
			t.Errorf("%s: %d run, want 1", name, s.Running())
		}
		if err := s.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The wait before the next attempt doubles up to its bound, and is what the
// worker asked for when it did ask.
func TestBackoff(t *testing.T) {
	s := New(Options{Backoff: 100 * time.Millisecond, MaxBackoff: time.Second})
	for n, want := range map[int]time.Duration{
		1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 4: 800 * time.Millisecond, 5: time.Second, 100: time.Second,
	} {
		if got := s.backoff(&entry{failed: int32(n)}, 0); got != want {
			t.Errorf("after %d failures the wait is %v, want %v", n, got, want)
		}
	}
	if got := s.backoff(&entry{failed: 50}, 3*time.Minute); got != 3*time.Minute {
		t.Errorf("a worker that asks for 3m gets %v", got)
	}
	if got := New(Options{Backoff: 5 * time.Second, MaxBackoff: time.Second}).backoff(&entry{failed: 1}, 0); got != time.Second {
		t.Errorf("the first wait is %v, over the bound", got)
	}
}
