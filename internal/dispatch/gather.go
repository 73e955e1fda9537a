package dispatch

import "time"

// A worker that has many tasks without an answer can wait for more: it has enough to
// do, or they take so long that a moment is nothing. So what is assigned to it
// gathers until it answers some, or until there is much, or for a moment: a frame
// costs both sides as much as many tasks. Who has n tasks without an answer, each of
// which takes t, answers one every t/n in the mean; so a task comes later by some
// part in manyUnanswered of what it takes.
const (
	manyUnanswered = 64
	manyPending    = MaxFrameTasks / 2
	moment         = 500 * time.Microsecond
)

// gathers reports whether what is pending is to gather. Those who make it due then
// signal: putAssignment, answered, and whoever puts in something else.
func (o *outbox) gathers() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gathering = o.head < len(o.pending) && o.mayGather()
	return o.gathering
}

func (o *outbox) mayGather() bool {
	return !o.ripe && o.unanswered >= manyUnanswered && len(o.pending)-o.head < manyPending &&
		len(o.large) == 0 && len(o.cancels) == 0 && !o.acksDue && !o.heartbeat
}

// answered notes that the worker has answered so many; with 0, that it is time.
func (o *outbox) answered(n int) {
	o.mu.Lock()
	o.unanswered = max(o.unanswered-n, 0) // there may be answers to what an earlier session sent
	o.ripe = o.gathering
	due := o.ripe
	o.mu.Unlock()
	if due {
		o.signal()
	}
}

// gather waits until what is pending is due, or the session has ended.
func (s *Session) gather() {
	if s.moment == nil {
		s.moment = time.NewTimer(moment)
	} else {
		s.moment.Reset(moment)
	}
	defer s.moment.Stop()
	select {
	case <-s.ready:
	case <-s.moment.C:
		s.answered(0)
	case <-s.ended:
	}
}
