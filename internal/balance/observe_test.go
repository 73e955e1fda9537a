package balance

import (
	"bytes"
	"slices"
	"time"

	"reparto/internal/task"
)

// observe holds what the State wants done against the books, after each fact.
func (b *books) observe(s *State) {
	for _, e := range s.Take() {
		switch e.Kind {
		case Assign:
			b.assigned(&e)
		case CancelAssignment:
			at := place{e.Session, e.Token}
			if reason, ok := b.wantCancels[at]; !ok || reason != e.Reason {
				b.wrong("%s was told to stop %s (%s), want %q", e.Session.WorkerID, e.TaskID, e.Reason, reason)
			}
			delete(b.wantCancels, at)
		case Finish:
			b.ended(&e)
		case Replaced:
			if e.Session != b.wantGone {
				b.wrong("the session of %s was replaced", e.Session.WorkerID)
			}
			b.wantGone = nil
		default:
			b.wrong("effect of kind %d", e.Kind)
		}
	}
	for ref, o := range b.wantEnds {
		b.wrong("task %v has no outcome, want %v", ref, o)
	}
	for at, reason := range b.wantCancels {
		b.wrong("%s was not told to stop %x (%s)", at.ses.WorkerID, at.token, reason)
	}
	if b.wantGone != nil {
		b.wrong("%s was not told that it was replaced", b.wantGone.WorkerID)
	}
	b.facts++
	b.fair()
	b.totalsAgree(s)
	b.wakesAgree(s)
	if err := s.Check(); err != nil {
		b.wrong("Check: %v", err)
	}
}

// assigned: the task at the head of its queue, to a session that may get it,
// under a new token.
func (b *books) assigned(e *Effect) {
	p, j := b.peer(e.Session), b.ids[e.TaskID]
	switch {
	case j == nil || j.state != task.Queued:
		b.wrong("%s was assigned, which is not waiting", e.TaskID)
	case p == nil || p.draining:
		b.wrong("%s was assigned to %s, which has left or leaves", e.TaskID, e.Session.WorkerID)
	case len(p.held) >= p.slots:
		b.wrong("%s was assigned to %s, whose %d slots are taken", e.TaskID, p.worker, p.slots)
	case !slices.Contains(p.offers, j.t.Function):
		b.wrong("%s was assigned to %s, which does not offer %s", e.TaskID, p.worker, j.t.Function)
	case b.given[e.Token]:
		b.wrong("token %x was given twice", e.Token)
	case e.Attempt != j.attempt+1:
		b.wrong("attempt %d of %s follows attempt %d", e.Attempt, e.TaskID, j.attempt)
	case b.firstOf(j).tie != j.tie:
		b.wrong("%s was assigned before %s", e.TaskID, b.firstOf(j).t.ID)
	case e.Task.Function != j.t.Function || !bytes.Equal(e.Task.Payload, j.t.Payload) || !e.Task.Deadline.Equal(j.t.Deadline):
		b.wrong("%s was assigned as %+v, want %+v", e.TaskID, e.Task, j.t)
	}
	b.given[e.Token] = true
	b.known = append(b.known, grant{e.Session, e.TaskID, e.Token, e.Attempt})
	b.turn(j)
	b.unwait(j)
	h := &hold{place: place{e.Session, e.Token}, taskID: e.TaskID, attempt: e.Attempt, job: j}
	j.state, j.cur, j.attempt, j.since = task.Running, h, e.Attempt, b.now
	p.held = append(p.held, h)
	if e.Attempt > 1 {
		b.totalsOf(j.t.Function).Retried++
	}
	if w := b.window[j.t.Function]; w != nil {
		if _, all := w[e.Session]; all {
			w[e.Session]++
		}
	}
}

// firstOf is the first of j's owner that waits for its function.
func (b *books) firstOf(j *job) *job {
	for _, w := range b.waiting[j.t.Function] {
		if w.t.Owner == j.t.Owner {
			return w
		}
	}
	return nil
}

// ended: what the books say must come, once, and nothing else.
func (b *books) ended(e *Effect) {
	want, ok := b.wantEnds[e.Ref]
	if !ok {
		b.wrong("%s ended a second time, or without a cause: %+v", e.TaskID, e.Outcome)
	}
	delete(b.wantEnds, e.Ref)
	got := e.Outcome
	reason := func(f *task.Failure) string {
		if f == nil {
			return ""
		}
		return f.Reason
	}
	if got.State != want.State || got.Attempt != want.Attempt || got.WorkerID != want.WorkerID ||
		got.WasRunning != want.WasRunning || !bytes.Equal(got.Result, want.Result) || reason(got.Failure) != reason(want.Failure) {
		b.wrong("%s ended as %+v (%s), want %+v (%s)", e.TaskID, got, reason(got.Failure), want, reason(want.Failure))
	}
	j := b.ids[e.TaskID]
	if j == nil || j.ref != e.Ref || !j.until.IsZero() {
		return // not kept, or kept before
	}
	j.outcome, j.bytes, j.until = got, got.Bytes(), b.now.Add(b.opt.KeepFor)
	b.kept = append(b.kept, j)
	size := 0
	for _, k := range b.kept {
		size += k.bytes
	}
	for size > b.opt.MaxKeptBytes {
		size -= b.kept[0].bytes
		b.unkeep()
	}
}

func (b *books) unkeep() {
	delete(b.ids, b.kept[0].t.ID)
	b.kept = b.kept[1:]
}

// forget drops what has been kept for long enough; after a tick.
func (b *books) forget() {
	for len(b.kept) > 0 && !b.kept[0].until.After(b.now) {
		b.unkeep()
	}
}

// fair: nothing waits while somebody is free, and among the sessions that were
// free all along, the numbers of tasks differ by at most one.
func (b *books) fair() {
	for function, q := range b.waiting {
		if len(q) > 0 && b.anybodyFree(function) {
			b.wrong("%s waits for %s while somebody is free", q[0].t.ID, function)
		}
	}
	for function, w := range b.window {
		least, most := 1<<30, 0
		for ses, n := range w {
			if p := b.peer(ses); p == nil || !p.free() {
				delete(w, ses)
				continue
			}
			least, most = min(least, n), max(most, n)
		}
		if most > least+1 {
			b.wrong("of the sessions free for %s all along, one had %d tasks and another %d", function, most, least)
		}
	}
}

// watch begins to count turns anew.
func (b *books) watch(functions []string) {
	for _, f := range functions {
		b.window[f] = map[*Session]int{}
		for _, p := range b.peers {
			if p.free() && slices.Contains(p.offers, f) {
				b.window[f][p.ses] = 0
			}
		}
	}
}

// totalsAgree: what the State says of itself is what the books say.
func (b *books) totalsAgree(s *State) {
	want := Counts{
		Sessions: len(b.peers), Queued: b.count(task.Queued), Scheduled: b.count(task.Scheduled),
		Running: b.count(task.Running), Bytes: b.bytes(),
	}
	if got := s.Counts(); got != want {
		b.wrong("counts are %+v, want %+v", got, want)
	}
	for function := range b.totals {
		if !b.inUse(function) {
			delete(b.totals, function)
		}
	}
	infos := s.Functions(b.now, "", 1000)
	for _, f := range infos {
		if !b.inUse(f.Name) {
			b.wrong("function %s is remembered, though nobody offers it or waits for it", f.Name)
		}
		if f.Queued != len(b.waiting[f.Name]) || f.Totals != *b.totalsOf(f.Name) {
			b.wrong("function %s has %d queued and %+v, want %d and %+v", f.Name, f.Queued, f.Totals, len(b.waiting[f.Name]), *b.totalsOf(f.Name))
		}
	}
	for _, info := range s.Sessions(b.now, "", "", 1000, 1000) {
		p := b.peer(info.Session)
		if p == nil || info.FreeSlots != p.slots-len(p.held) || len(info.Running) != len(p.held) || info.Draining != p.draining || info.Done != b.done[info.Session] {
			b.wrong("session of %s is listed as %+v", info.WorkerID, info)
		}
	}
}

func (b *books) inUse(function string) bool {
	return slices.ContainsFunc(b.peers, func(p *peer) bool { return slices.Contains(p.offers, function) }) ||
		slices.ContainsFunc(b.jobs, func(j *job) bool { return j.t.Function == function })
}

// wakesAgree: the State wants to be woken by when the next thing is due, if anything
// will be.
func (b *books) wakesAgree(s *State) {
	var want time.Time
	at := func(t time.Time) {
		if want.IsZero() || t.Before(want) {
			want = t
		}
	}
	for _, j := range b.jobs {
		at(j.t.Deadline)
		switch {
		case j.state == task.Scheduled:
			at(j.runAt)
		case j.state == task.Running && j.t.AttemptTimeout > 0:
			at(j.since.Add(j.t.AttemptTimeout))
		}
	}
	if len(b.kept) > 0 {
		at(b.kept[0].until)
	}
	if got, ok := s.NextDeadline(); ok == want.IsZero() || got.After(want) {
		b.wrong("the next deadline is %v (%v), want %v or sooner", got, ok, want)
	}
}
