package balance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"reparto/internal/task"
)

// keeper is an owner of a State with durable tasks, over a disk that may fail
// and a process that may be killed at any moment. It follows the rule (remember,
// then speak), and notes what it has said to whom: nothing of that may ever turn
// out to be untrue.
type keeper struct {
	rng  *rand.Rand
	now  time.Time
	s    *State
	log  []string
	n    int
	disk map[string]task.Record

	held  []Effect // wait for the next write
	fresh []string // ids that wait for it to be acknowledged
	hands map[string]*hand

	killed   time.Time
	promised map[string]time.Time // acknowledged ids, and from when they may run
	told     map[string]task.Outcome
	retried  map[string]bool // by hand, so that another outcome may follow
}

// hand is a worker program; what it holds outlives its session and the balancer.
type hand struct {
	id    string
	ses   *Session
	holds []grant
	done  map[uint64]bool // finished, not acknowledged
	back  bool            // it has not come back since the last kill
}

func newKeeper(seed uint64) *keeper {
	k := &keeper{
		rng: rand.New(rand.NewPCG(seed, 11)), now: start, disk: map[string]task.Record{}, hands: map[string]*hand{},
		promised: map[string]time.Time{}, told: map[string]task.Outcome{}, retried: map[string]bool{},
	}
	k.s = New(k.options())
	for i := range 1 + k.rng.IntN(3) {
		id := fmt.Sprint("w", i)
		k.hands[id] = &hand{id: id, done: map[uint64]bool{}}
	}
	return k
}

func (k *keeper) options() Options {
	return Options{
		MaxLost: 1000, Backoff: 20 * time.Millisecond, MaxBackoff: 100 * time.Millisecond, Aging: 50 * time.Millisecond,
		MaxResident: 1 + k.rng.IntN(400), KeepFor: 100 * time.Millisecond, Seed: k.rng.Uint32(),
	}
}

func (k *keeper) note(format string, args ...any) {
	k.log = append(k.log, fmt.Sprintf(format, args...))
}

func (k *keeper) wrong(format string, args ...any) { panic(wrong(fmt.Sprintf(format, args...))) }

// look checks the tables and carries out what may be carried out at once.
func (k *keeper) look() {
	for _, e := range k.s.Take() {
		if e.Durable {
			k.held = append(k.held, e)
		} else {
			k.carryOut(&e)
		}
	}
	if err := k.s.Check(); err != nil {
		k.wrong("%v", err)
	}
}

func (k *keeper) carryOut(e *Effect) {
	switch e.Kind {
	case Assign:
		k.give(e)
	case Finish:
		k.note("    %s is %v", e.TaskID, e.Outcome.State)
		if !e.Durable {
			return
		}
		k.tell(e.TaskID, e.Outcome)
	case Replaced:
		e.Session.Owner.(*hand).leftBehind(e.Session)
	}
}

func (h *hand) leftBehind(ses *Session) {
	if h.ses == ses {
		h.ses = nil
	}
}

func (k *keeper) give(e *Effect) {
	h := e.Session.Owner.(*hand)
	k.note("    %s/%d -> %s", e.TaskID, e.Attempt, h.id)
	if h.ses != e.Session {
		return // its stream is gone: nothing is sent
	}
	if from, ok := k.promised[e.TaskID]; e.Durable && ok && k.now.Before(from) {
		k.wrong("%s was given out before its time", e.TaskID)
	}
	if o, over := k.told[e.TaskID]; over && !k.retried[e.TaskID] {
		k.wrong("%s was given out after it was %v", e.TaskID, o.State)
	}
	for _, other := range k.hands {
		for _, g := range other.holds {
			if g.taskID == e.TaskID && g.token == e.Token {
				k.wrong("token %x was given twice", e.Token)
			}
		}
	}
	if want := k.disk[e.TaskID]; e.Durable && !e.Task.Absent && string(e.Task.Payload) != string(want.Payload) {
		k.wrong("%s was given out as %q, want %q", e.TaskID, e.Task.Payload, want.Payload)
	}
	h.holds = append(h.holds, grant{e.Session, e.TaskID, e.Token, e.Attempt})
}

// tell: an outcome is said once, or again as it was.
func (k *keeper) tell(id string, o task.Outcome) {
	if k.disk[id].State != o.State {
		k.wrong("%s was told to be %v; the disk says %v", id, o.State, k.disk[id].State)
	}
	if before, ok := k.told[id]; ok && !k.retried[id] && (before.State != o.State || string(before.Result) != string(o.Result)) {
		k.wrong("%s was %v, and then %v", id, before.State, o.State)
	}
	k.told[id] = o
	delete(k.retried, id)
}

// write commits what has changed; the disk may fail before or after.
func (k *keeper) write(fails, late bool) {
	changes := k.s.Changes(nil)
	if !fails || late {
		for _, c := range changes {
			r := *c.Record.Clone()
			if old, known := k.disk[r.ID]; c.New == known && !fails && k.s.storeDown == false && c.New {
				k.wrong("%s is written as new a second time (%v)", r.ID, old.State)
			}
			if !c.New {
				r.Payload = k.disk[r.ID].Payload
			}
			k.disk[r.ID] = r
		}
	}
	held := k.held
	k.held = nil
	if !fails {
		k.note("written: %d", len(changes))
		for i := range held {
			k.carryOut(&held[i])
		}
		for _, id := range k.fresh {
			k.promised[id] = k.disk[id].Durable.RunAt
		}
		k.fresh = nil
		k.s.Written(k.now)
		if k.s.storeDown {
			k.s.StoreUp(k.now)
		}
		k.look()
		return
	}
	k.note("not written: %d (late %v)", len(changes), late)
	k.s.StoreDown()
	for _, e := range slices.Backward(held) {
		if e.Kind == Assign {
			k.s.Unassign(k.now, e.Session, e.Token, 0)
		} else {
			k.held = append([]Effect{e}, k.held...)
		}
	}
	for _, id := range k.s.Unwritten(k.now) {
		delete(k.disk, id) // as the next write would; a kill before it is allowed to keep it
	}
	k.held = slices.DeleteFunc(k.held, func(e Effect) bool { return e.Kind == Finish && !k.s.Live(e.Ref) })
	k.fresh = nil
	k.look()
}
