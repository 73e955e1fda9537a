package balance

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"reparto/internal/task"
)

// order gives out what waits for f, one task at a time, and returns the ids.
func order(t *testing.T, s *State, now time.Time) (ids []string) {
	t.Helper()
	ses := s.Join(now, Registration{WorkerID: "w", Functions: []string{"f"}, Slots: 1})
	for {
		n := len(ids)
		for _, e := range s.Take() {
			if e.Kind == Assign {
				ids = append(ids, e.TaskID)
				s.Result(now, ses, &Result{TaskID: e.TaskID, Token: e.Token, Attempt: e.Attempt})
			}
		}
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		if len(ids) == n {
			return ids
		}
	}
}

func waiting(id string, priority int, durable *task.Durable) *task.Task {
	return &task.Task{ID: id, Function: "f", Priority: priority, Durable: durable, Deadline: start.Add(24 * time.Hour), MaxAttempts: 1}
}

func put(t *testing.T, s *State, now time.Time, tk *task.Task) {
	t.Helper()
	if _, err := s.Submit(now, tk); err != nil {
		t.Fatal(err)
	}
}

// Urgent tasks go first, those of one priority as they came, whether submitted or
// enqueued; no priority is 3.
func TestPrioritiesGoInTheirOrder(t *testing.T) {
	s := New(Options{})
	kept := &task.Durable{TTL: time.Hour, Retention: time.Hour}
	for i, p := range []int{5, 3, 1, 0, 2, 1, 4, 5, 3} {
		var d *task.Durable
		if i%2 == 0 {
			d = kept
		}
		put(t, s, start.Add(time.Duration(i)*time.Millisecond), waiting(fmt.Sprintf("p%d-%d", p, i), p, d))
	}
	got := strings.Join(order(t, s, start.Add(time.Second)), " ")
	if want := "p1-2 p1-5 p2-4 p3-1 p0-3 p3-8 p4-6 p5-0 p5-7"; got != want {
		t.Errorf("the order is %s, want %s", got, want)
	}
}

// A step of priority is worth the aging: whoever waited longer than that goes
// first, so nothing starves.
func TestAging(t *testing.T) {
	s := New(Options{Aging: time.Minute})
	put(t, s, start, waiting("idle", task.Idle, nil))
	put(t, s, start.Add(4*time.Minute-time.Second), waiting("urgent, and within four minutes", task.Urgent, nil))
	put(t, s, start.Add(4*time.Minute+time.Second), waiting("urgent, and later", task.Urgent, nil))
	got := order(t, s, start.Add(5*time.Minute))
	if want := []string{"urgent, and within four minutes", "idle", "urgent, and later"}; !slices.Equal(got, want) {
		t.Errorf("the order is %q, want %q", got, want)
	}
}

// A delayed task waits for its time, and counts its age from then.
func TestADelayedTask(t *testing.T) {
	s := New(Options{})
	later := &task.Durable{RunAt: start.Add(time.Hour), TTL: time.Hour, Retention: time.Hour}
	put(t, s, start, waiting("delayed", 3, later))
	put(t, s, start.Add(59*time.Minute), waiting("earlier", 3, nil))
	if wake, ok := s.NextDeadline(); !ok || !wake.Equal(later.RunAt) {
		t.Fatalf("the next deadline is %v, want %v", wake, later.RunAt)
	}
	s.Tick(start.Add(time.Hour - time.Nanosecond))
	if c := s.Counts(); c.Scheduled != 1 || c.Queued != 1 {
		t.Fatalf("before its time: %+v", c)
	}
	s.Tick(start.Add(time.Hour))
	put(t, s, start.Add(61*time.Minute), waiting("after", 3, nil))
	if got, want := order(t, s, start.Add(62*time.Minute)), []string{"earlier", "delayed", "after"}; !slices.Equal(got, want) {
		t.Errorf("the order is %q, want %q", got, want)
	}
}

// A paused function gives out nothing and takes everything.
func TestAPausedFunction(t *testing.T) {
	s := New(Options{})
	if s.Pause(start, "f", true) {
		t.Error("it was paused before anybody did it")
	}
	put(t, s, start, waiting("t", 3, nil))
	if got := order(t, s, start); len(got) != 0 {
		t.Fatalf("%q was given out", got)
	}
	if !s.Pause(start, "f", false) {
		t.Error("it was not paused")
	}
	if e := s.Take(); len(e) != 1 || e[0].Kind != Assign {
		t.Fatalf("%+v follows the end of the pause, want the task given out", e)
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	s.Pause(start, "nobody's", true)
	s.Pause(start, "nobody's", false)
	if s.functions["nobody's"] != nil {
		t.Error("a function that is not paused any more is remembered")
	}
}

// Durable tasks have limits of their own.
func TestDurableTasksDontCountAgainstTheQueue(t *testing.T) {
	s := New(Options{MaxQueuedTasks: 2, MaxFunctionQueuedTasks: 2, MaxDurableTasks: 3, MaxBytes: 2000})
	kept := &task.Durable{TTL: time.Hour, Retention: time.Hour}
	for i := range 3 {
		put(t, s, start, waiting(fmt.Sprint("d", i), 3, kept))
	}
	if _, err := s.Submit(start, waiting("d3", 3, kept)); err == nil || !strings.Contains(err.Error(), "at most 3 durable tasks") {
		t.Errorf("the fourth durable task: %v", err)
	}
	put(t, s, start, waiting("s0", 3, nil))
	put(t, s, start, waiting("s1", 3, nil))
	if _, err := s.Submit(start, waiting("s2", 3, nil)); err == nil {
		t.Error("the third submitted task was accepted")
	}
}

// A task's own backoff, with chance in it, stays within its bounds.
func TestATasksOwnBackoff(t *testing.T) {
	s := New(Options{})
	own := &task.Durable{Backoff: task.Backoff{Initial: time.Second, Multiplier: 3, Maximum: 20 * time.Second, Jitter: 0.5}}
	seen := map[time.Duration]bool{}
	for seq := range uint64(200) {
		for failed, mean := range map[int]time.Duration{1: time.Second, 2: 3 * time.Second, 3: 9 * time.Second, 4: 20 * time.Second, 9: 20 * time.Second} {
			e := &entry{seq: seq, failed: int32(failed), d: &durable{}, task: task.Task{Durable: own}}
			got := s.backoff(e, 0)
			if got < mean/2 || got > mean*3/2 {
				t.Fatalf("after %d failures the wait is %v, want %v to %v", failed, got, mean/2, mean*3/2)
			}
			seen[got] = true
		}
	}
	if len(seen) < 500 {
		t.Errorf("only %d different waits among 1000", len(seen))
	}
}
