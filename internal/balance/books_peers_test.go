package balance

import (
	"slices"

	"reparto/internal/task"
)

// hold is a slot that is taken.
type hold struct {
	place
	taskID  string
	attempt int
	job     *job // nil when nobody waits for the answer
	told    bool
}

type peer struct {
	ses      *Session
	worker   string
	offers   []string
	slots    int
	held     []*hold
	draining bool
}

func (b *books) peer(ses *Session) *peer {
	for _, p := range b.peers {
		if p.ses == ses {
			return p
		}
	}
	return nil
}

func (p *peer) free() bool { return !p.draining && len(p.held) < p.slots }

func (b *books) anybodyFree(function string) bool {
	return slices.ContainsFunc(b.peers, func(p *peer) bool { return p.free() && slices.Contains(p.offers, function) })
}

func (b *books) offered(function string) bool {
	return slices.ContainsFunc(b.peers, func(p *peer) bool { return !p.draining && slices.Contains(p.offers, function) })
}

// leave takes a session out.
func (b *books) leave(ses *Session) {
	p := b.peer(ses)
	if p == nil {
		return
	}
	var lost []*hold
	for _, h := range p.held {
		switch {
		case h.job == nil:
		case h.job.cur == h:
			lost = append(lost, h)
		default:
			h.job.late = slices.DeleteFunc(h.job.late, func(l *hold) bool { return l == h })
		}
	}
	// The oldest task ends at the head.
	slices.SortFunc(lost, func(x, y *hold) int { return slices.Index(b.jobs, y.job) - slices.Index(b.jobs, x.job) })
	for _, h := range lost {
		b.lose(h, p.worker)
	}
	b.peers = slices.DeleteFunc(b.peers, func(q *peer) bool { return q == p })
}

func (b *books) lose(h *hold, worker string) {
	j := h.job
	j.past[h.token] = &gone{h.attempt, true}
	j.cur = nil
	j.lost++
	switch {
	case b.draining:
		b.giveUp(j)
	case j.lost >= b.opt.MaxLost:
		b.end(j, task.Outcome{
			State: task.Failed, Attempt: h.attempt, WorkerID: worker, Failure: &task.Failure{Reason: task.ReasonWorkerLost},
		}, "")
	default:
		b.wait(j, true)
	}
}

// join writes a session down, which the State has made of r.
func (b *books) join(ses *Session, r *Registration) {
	for _, old := range b.peers {
		if old.worker == r.WorkerID {
			b.wantGone = old.ses
			b.leave(old.ses)
			break
		}
	}
	p := &peer{ses: ses, worker: r.WorkerID, offers: r.Functions, slots: r.Slots}
	b.peers = append(b.peers, p)
	for _, c := range r.Running {
		if slices.ContainsFunc(p.held, func(h *hold) bool { return h.token == c.Token }) {
			continue
		}
		h := &hold{place: place{ses, c.Token}, taskID: c.TaskID, attempt: c.Attempt}
		p.held = append(p.held, h)
		j := b.ids[c.TaskID]
		switch past := j.wentBy(c.Token, c.Attempt); {
		case past == nil:
			b.wantCancel(h, task.CancelSuperseded)
		case past.lost && j.state != task.Running:
			past.lost = false
			j.lost--
			b.unwait(j)
			h.job, j.cur, j.state, j.since = j, h, task.Running, b.now
		default:
			h.job = j
			j.late = append(j.late, h)
			b.wantCancel(h, task.CancelSuperseded)
		}
	}
}

func (b *books) drain(ses *Session) {
	if p := b.peer(ses); p != nil {
		p.draining = true
	}
}
