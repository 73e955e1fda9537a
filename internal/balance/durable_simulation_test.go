package balance

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"reparto/internal/task"
)

// TestDurableSimulation runs schedules with durable tasks, delays, priorities,
// retries, a disk that fails and a process that is killed. What was said to a
// client or a worker must hold for ever: see keeper.
func TestDurableSimulation(t *testing.T) {
	if *seedFlag != 0 {
		simulateDurable(t, *seedFlag)
		return
	}
	n := *schedulesFlag
	if testing.Short() {
		n /= 10
	}
	first := rand.Uint64()
	for i := range n {
		simulateDurable(t, first+uint64(i))
	}
}

func simulateDurable(t *testing.T, seed uint64) {
	k := newKeeper(seed)
	defer func() {
		if p := recover(); p != nil {
			tail := strings.Join(k.log[max(0, len(k.log)-60):], "\n")
			again := fmt.Sprintf("again: go test ./internal/balance -run TestDurableSimulation -seed %d", seed)
			if w, told := p.(wrong); told {
				t.Fatalf("%s\nWRONG: %s\n%s", tail, string(w), again)
			}
			t.Fatalf("%s\npanic: %v\n%s\n%s", tail, p, debug.Stack(), again)
		}
	}()
	for range 30 + k.rng.IntN(150) {
		k.now = k.now.Add(time.Duration(k.rng.IntN(15)) * time.Millisecond)
		k.fact()
		k.look()
		if k.rng.IntN(2) == 0 && !k.s.storeDown || k.rng.IntN(6) == 0 {
			k.write(k.rng.IntN(12) == 0, k.rng.IntN(2) == 0)
		}
	}
	k.windDown()
}

func (k *keeper) pickHand() *hand {
	return k.hands[fmt.Sprint("w", k.rng.IntN(len(k.hands)))]
}

func (k *keeper) fact() {
	switch n := k.rng.IntN(100); {
	case n < 30:
		k.enqueue()
	case n < 42:
		k.join(k.pickHand())
	case n < 66:
		k.answer(k.pickHand())
	case n < 71:
		if h := k.pickHand(); h.ses != nil {
			k.note("%s leaves", h.id)
			k.s.Leave(k.now, h.ses)
			h.ses = nil
		}
	case n < 86:
		k.note("tick")
		k.s.Tick(k.now)
	case n < 90:
		k.cancel()
	case n < 94:
		k.retry()
	case n < 97:
		k.note("pause/resume")
		k.s.Pause(k.now, "f", k.rng.IntN(2) == 0)
	default:
		k.kill()
	}
}

func (k *keeper) enqueue() {
	k.n++
	id := fmt.Sprint("t", k.n)
	t := &task.Task{
		ID: id, OwnID: k.rng.IntN(2) == 0, Function: "f", Payload: []byte(strings.Repeat(id, 1+k.rng.IntN(20))),
		Deadline: k.now.Add(time.Hour), MaxAttempts: 1 + k.rng.IntN(3), Priority: k.rng.IntN(6),
		Owner: [...]string{"", "shop"}[k.rng.IntN(2)],
	}
	if k.rng.IntN(5) == 0 { // submitted, not durable
		t.Deadline = k.now.Add(time.Second)
		_, err := k.s.Submit(k.now, t)
		k.note("submit %s: %v", id, err)
		return
	}
	t.Durable = &task.Durable{TTL: time.Hour, Retention: time.Hour}
	if k.rng.IntN(4) == 0 {
		t.Durable.RunAt = k.now.Add(time.Duration(k.rng.IntN(200)) * time.Millisecond)
	}
	if k.rng.IntN(4) == 0 {
		t.AttemptTimeout = 30 * time.Millisecond
	}
	if k.s.storeDown {
		return // the owner refuses at once
	}
	_, err := k.s.Submit(k.now, t)
	k.note("enqueue %s: %v", id, err)
	if err == nil {
		k.fresh = append(k.fresh, id)
	}
}

func (k *keeper) join(h *hand) {
	r := Registration{WorkerID: h.id, Functions: []string{"f"}, Slots: 1 + k.rng.IntN(3)}
	if k.rng.IntN(5) == 0 { // it was started anew
		h.holds, h.done = nil, map[uint64]bool{}
	}
	running := 0
	for _, g := range h.holds {
		r.Running = append(r.Running, Claim{g.taskID, g.attempt, g.token, h.done[g.token]})
		if !h.done[g.token] {
			running++
		}
	}
	r.Slots = max(r.Slots, running)
	k.note("%s joins with %v", h.id, r.Running)
	ses := k.s.Join(k.now, r)
	ses.Owner = h
	h.ses = ses
	k.claimed(h)
	for _, g := range h.holds { // finished ones follow at once
		if h.done[g.token] {
			k.result(h, g)
		}
	}
}

// claimWindow is how long a worker may take to come back after a kill.
const claimWindow = 5 * time.Millisecond

// claimed: what ran at a kill stays with the worker that comes back in time.
func (k *keeper) claimed(h *hand) {
	first := h.back
	if h.back = false; !first || !k.now.Before(k.killed.Add(claimWindow)) {
		return
	}
	for _, g := range h.holds {
		r := k.disk[g.taskID]
		n := len(r.Attempts)
		if r.State != task.Running || r.Attempts[n-1].Token != g.token {
			continue
		}
		if e := k.s.find(g.taskID); e != nil && !e.state.Terminal() && (e.current == nil || e.current.token != g.token) {
			k.wrong("%s came back for %s in time, and did not get it", h.id, g.taskID)
		}
	}
}

// answer has a worker finish something; it keeps the result for a while.
func (k *keeper) answer(h *hand) {
	if len(h.holds) == 0 {
		return
	}
	g := h.holds[k.rng.IntN(len(h.holds))]
	h.done[g.token] = true
	if h.ses != nil {
		k.result(h, g)
	}
}

func (k *keeper) result(h *hand, g grant) {
	r := &Result{TaskID: g.taskID, Attempt: g.attempt, Token: g.token, Output: []byte("out of " + g.taskID)}
	if g.token%5 == 0 {
		r.Output, r.Failure = nil, &task.Failure{Reason: "BAD", Retry: g.token%2 == 0}
	}
	durable := k.s.Result(k.now, h.ses, r)
	k.note("%s answers %s/%d (durable %v)", h.id, g.taskID, g.attempt, durable)
	if !durable || k.rng.IntN(3) > 0 && k.settleNow() {
		h.holds = slices.DeleteFunc(h.holds, func(o grant) bool { return o.token == g.token })
		delete(h.done, g.token)
	}
}

// settleNow writes, so that a result can be acknowledged.
func (k *keeper) settleNow() bool {
	k.look()
	k.write(false, false)
	return true
}

func (k *keeper) cancel() {
	ref, ok := k.s.Find(fmt.Sprint("t", 1+k.rng.IntN(k.n+1)))
	if ok && !k.s.storeDown {
		k.note("cancel %s", k.s.entry(ref).task.ID)
		k.s.Cancel(k.now, ref, task.ReasonCancelled)
	}
}

func (k *keeper) retry() {
	id := fmt.Sprint("t", 1+k.rng.IntN(k.n+1))
	r, ok := k.disk[id]
	if _, told := k.told[id]; !ok || !told || k.s.storeDown || r.State == task.Succeeded || !r.State.Terminal() {
		return
	}
	k.s.ForgetKept(id)
	if !k.s.Knows(id) {
		k.note("retry %s", id)
		k.retried[id] = true
		k.promised[id] = k.now // at once, whatever was asked for before
		r.Payload = nil
		k.s.Revive(k.now, &r)
	}
}

// kill ends the process without a word, and starts another on the same disk.
func (k *keeper) kill() {
	k.note("KILL")
	k.held, k.fresh = nil, nil
	for _, h := range k.hands {
		h.ses, h.back = nil, true
	}
	k.killed = k.now
	k.s = New(k.options())
	for _, r := range k.disk {
		if !r.State.Terminal() {
			r.Payload = nil
			k.s.Restore(k.now, r.Clone(), k.now.Add(claimWindow))
		}
	}
	k.s.Restored()
	for id, r := range k.disk {
		if ref, ok := k.s.Find(id); ok && k.s.Record(ref).State != r.State {
			k.wrong("%s was %v and is %v after a restart", id, r.State, k.s.Record(ref).State)
		}
	}
	for h := k.s.function("f").waitsFor.first; h != nil; h = h.next {
		for i := range h.queues {
			var last *entry
			for e := h.queues[i].head; e != nil; e = e.next {
				if last != nil && last.due.After(e.due) {
					k.wrong("%s waits before %s after a restart", last.task.ID, e.task.ID)
				}
				last = e
			}
		}
	}
	k.s.forget(k.s.function("f"))
}

// windDown lets everything end: every promise must have been kept.
func (k *keeper) windDown() {
	k.note("wind down")
	k.s.Pause(k.now, "f", false)
	for i := range 10_000 {
		k.now = k.now.Add(20 * time.Millisecond)
		k.s.Tick(k.now)
		k.look()
		for _, h := range k.hands {
			if h.ses == nil {
				k.join(h)
			}
			for len(h.holds) > 0 {
				n := len(h.holds)
				k.answer(h)
				if len(h.holds) == n {
					break
				}
			}
		}
		k.look()
		k.write(false, false)
		if k.s.Empty() && len(k.s.changed) == 0 {
			break
		}
		if i == 9_999 {
			k.wrong("it never ends: %+v", k.s.Counts())
		}
	}
	for id := range k.promised {
		if _, ok := k.told[id]; !ok && !k.disk[id].State.Terminal() {
			k.wrong("%s was acknowledged and never ended: %v", id, k.disk[id].State)
		}
	}
	for id, r := range k.disk {
		if !r.State.Terminal() {
			k.wrong("%s is left on disk as %v", id, r.State)
		}
		if r.State == task.Succeeded && string(r.Outcome.Result) != "out of "+id {
			k.wrong("%s brought %q", id, r.Outcome.Result)
		}
	}
}
