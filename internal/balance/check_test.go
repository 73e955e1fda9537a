package balance

import (
	"testing"

	"reparto/internal/task"
)

// Check must see each of these, or it proves nothing.
func TestCheckSeesWhatIsBroken(t *testing.T) {
	for name, damage := range map[string]func(*State){
		"a queued task is in no queue": func(s *State) { s.find("q1").fn.waitsFor = shares{} },
		"a queue holds what is in no table": func(s *State) {
			s.functions["f"].waitsFor.first.queues[2].pushBack(&entry{task: task.Task{Priority: 3}})
		},
		"a queue's count of bytes is off":       func(s *State) { s.functions["f"].waitsFor.bytes++ },
		"an owner's count of tasks is off":      func(s *State) { s.functions["f"].waitsFor.first.live++ },
		"an owner's holding is off":             func(s *State) { s.owners["o"] = &holding{owner: "o"} },
		"an owner has no turn":                  func(s *State) { s.functions["f"].waitsFor.unlink(s.functions["f"].waitsFor.first) },
		"a task waits among another's":          func(s *State) { s.find("q1").task.Owner = "thief" },
		"an owner's turn leads nowhere":         func(s *State) { s.functions["f"].waitsFor.final = nil },
		"a kept outcome is in no list":          func(s *State) { s.kept = queue{} },
		"a count of the bytes kept is off":      func(s *State) { s.kept.bytes++ },
		"a running task has no assignment":      func(s *State) { s.find("r1").current = nil },
		"a queued task has an assignment":       func(s *State) { s.find("q1").current = s.find("r1").current },
		"an assignment belongs to another":      func(s *State) { s.find("r1").current.entry = s.find("q1") },
		"a running task's worker has left":      func(s *State) { s.find("r1").current.session.index = -1 },
		"a task has no timer":                   func(s *State) { s.timers.remove(s.find("q1")) },
		"a finished task has a waiter":          func(s *State) { s.Take(); s.find("own").waiter.Who = s },
		"a finished task has a timer":           func(s *State) { s.find("own").timer = 1 },
		"a finished task came back":             func(s *State) { s.find("own").state = task.Running },
		"an id leads to another task":           func(s *State) { s.byID["own"] = s.find("q2") },
		"a task's function is forgotten":        func(s *State) { delete(s.functions, "f") },
		"a count of queued is off":              func(s *State) { s.queued++ },
		"a count of running is off":             func(s *State) { s.running-- },
		"a count of bytes is off":               func(s *State) { s.bytes++ },
		"a count of sessions is off":            func(s *State) { s.freeIndices = append(s.freeIndices, 7) },
		"a function's count of tasks is off":    func(s *State) { s.functions["f"].tasks++ },
		"a function's count of sessions is off": func(s *State) { s.functions["f"].sessions++ },
		"a full session has a turn":             func(s *State) { s.functions["f"].ring.setFree(0, true) },
		"a free session has no turn":            func(s *State) { s.functions["g"].ring.setFree(0, false) },
		"a hole has a turn": func(s *State) {
			r := &s.functions["g"].ring
			r.leave(0)
			r.setFree(0, true)
		},
		"a task waits while somebody is free": func(s *State) {
			e := s.find("q1")
			e.fn.waitsFor.remove(e)
			e.fn = s.functions["g"]
			e.fn.waitsFor.pushBack(e)
			s.functions["f"].tasks--
			s.functions["g"].tasks++
		},
		"a session holds more than its slots": func(s *State) { s.byWorker["full"].Slots = 0 },
		"a session holds what is another's":   func(s *State) { s.byWorker["full"].held[0].session = s.byWorker["free"] },
		"a token leads nowhere":               func(s *State) { s.byWorker["full"].held[0].token++ },
		"an assignment of a task that is over": func(s *State) {
			a := s.byWorker["full"].held[0]
			a.entry.current, a.entry.state = nil, task.Queued // as if it had never run
			a.entry.fn.waitsFor.pushBack(a.entry)
			s.running, s.queued, a.entry.fn.running = 0, 3, 0
		},
		"nobody wants it and nobody was told":     func(s *State) { s.byWorker["full"].held[0].entry = nil },
		"a timer is sooner than its parent":       func(s *State) { s.timers.heap[0].wake = s.timers.heap[0].wake.AddDate(1, 0, 0) },
		"a timer's entry does not know its place": func(s *State) { s.timers.heap[0].entry.timer++ },
		"a move that the words do not allow":      func(s *State) { s.become(s.find("own"), task.Queued) },
	} {
		s := New(Options{})
		full := s.Join(start, Registration{WorkerID: "full", Functions: []string{"f"}, Slots: 1})
		own := newTask("own", 0)
		own.OwnID = true
		submitError(s, own)
		s.Result(start, full, &Result{TaskID: "own", Attempt: 1, Token: s.Take()[0].Token})
		s.Join(start, Registration{WorkerID: "free", Functions: []string{"g"}, Slots: 1})
		for _, id := range []string{"r1", "q1", "q2"} {
			submitError(s, newTask(id, 0))
		}
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		damage(s)
		if err := s.Check(); err == nil {
			t.Errorf("%s, and Check saw nothing", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}
