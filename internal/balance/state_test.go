package balance

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"reparto/internal/task"
)

// A long queue is not remembered for ever: once its tasks are over, however
// they ended, the memory is what it was.
func TestMemoryAfterAPeak(t *testing.T) {
	ends := map[string]func(s *State, refs []Ref){
		"cancelled": func(s *State, refs []Ref) {
			for _, ref := range refs {
				s.Cancel(start, ref, task.CancelClientGone)
				s.Take()
			}
		},
		"expired in one tick": func(s *State, _ []Ref) { s.Tick(start.Add(time.Hour)); s.Take() },
		"done": func(s *State, refs []Ref) {
			ses := s.Join(start, Registration{WorkerID: "w", Functions: []string{"f"}, Slots: 256})
			for effects := s.Take(); len(effects) > 0; effects = s.Take() {
				answers := make([]Result, 0, len(effects))
				for _, e := range effects {
					if e.Kind == Assign {
						answers = append(answers, Result{TaskID: e.TaskID, Attempt: e.Attempt, Token: e.Token})
					}
				}
				for i := range answers {
					s.Result(start, ses, &answers[i])
				}
			}
			s.Leave(start, ses)
		},
	}
	const tasks = 50_000
	for name, end := range ends {
		s := New(Options{})
		before := heap()
		refs := make([]Ref, tasks)
		for i := range refs {
			ref, err := s.Submit(start, &task.Task{ID: fmt.Sprint("t", i), Function: "f", Deadline: start.Add(time.Minute), MaxAttempts: 1})
			if err != nil {
				t.Fatal(err)
			}
			refs[i] = ref
		}
		s.Take()
		end(s, refs)
		refs = nil
		if err := s.Check(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		// What may stay: maxPool empty entries.
		if grown := heap() - before; grown > maxPool*1024 {
			t.Errorf("%s: %d KiB are still held after %d tasks", name, grown>>10, tasks)
		} else {
			t.Logf("%s: %d KiB are still held", name, grown>>10)
		}
		runtime.KeepAlive(s)
	}
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
