package legacy

import (
	"context"
	"sync"
	"time"
)

// outbox holds what a client is still to be told, and counts what it is owed: a
// task counts from reserve until settle, so that it bounds tasks at the balancer
// and results that the client does not read, together.
type outbox struct {
	maxTasks, maxBytes int
	// wake has an entry when take may have news; room when reserve may.
	wake, room chan struct{}

	mu      sync.Mutex
	replies []reply
	next    int // replies[next:] are waiting
	// owed counts tasks reserved and not settled, bytes their data.
	owed, bytes int
	writing     int  // of those owed, results that were taken to be written
	many        bool // a task came while another had no result on its way
	noInput     bool // no reserve will come
}

func newOutbox(o *Options) outbox {
	return outbox{
		maxTasks: o.MaxInFlight, maxBytes: o.MaxInFlightBytes,
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1),
	}
}

// reserve waits until there is room for a task of size bytes; false says that
// ctx ended first. Only one goroutine may call it.
func (b *outbox) reserve(ctx context.Context, size int) bool {
	for {
		b.mu.Lock()
		if ctx.Err() == nil && (b.owed == 0 || b.owed < b.maxTasks && b.bytes+size <= b.maxBytes) {
			b.owed++
			b.bytes += size
			// Who waits for each result may have it, and send the next task, before
			// the writer is back to settle it: that is still one at a time.
			b.many = b.many || b.owed-b.writing > 1
			b.mu.Unlock()
			return true
		}
		b.mu.Unlock()
		select {
		case <-b.room:
		case <-ctx.Done():
			return false
		}
	}
}

// put adds the reply to a task that was reserved. It does not block.
func (b *outbox) put(p reply) {
	b.mu.Lock()
	b.replies = append(b.replies, p)
	b.mu.Unlock()
	signal(b.wake)
}

// What take found.
const (
	outboxReply = iota
	outboxEmpty // wait for wake
	outboxDone  // nothing is owed and nothing can come
)

// take removes the first reply that waits, and tells how many did. The reply
// must be settled.
func (b *outbox) take() (p reply, waiting, state int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	waiting = len(b.replies) - b.next
	switch {
	case waiting > 0:
		p = b.replies[b.next]
		b.writing++
		b.replies[b.next] = reply{}
		if b.next++; b.next == len(b.replies) {
			b.replies, b.next = b.replies[:0], 0
		}
		return p, waiting, outboxReply
	case b.noInput && b.owed == 0:
		return p, 0, outboxDone
	}
	return p, 0, outboxEmpty
}

// settle says that p was written, or never will be.
func (b *outbox) settle(p *reply) {
	b.mu.Lock()
	b.owed--
	b.writing--
	b.bytes -= p.size
	b.mu.Unlock()
	signal(b.room)
}

// discard takes and settles what waits and what is to come, and returns how many
// there were. It waits for each; closeInput must have been called.
func (b *outbox) discard() (n int) {
	for {
		switch p, _, state := b.take(); state {
		case outboxReply:
			b.settle(&p)
			n++
		case outboxEmpty:
			<-b.wake
		case outboxDone:
			return n
		}
	}
}

// closeInput says that no task will come any more.
func (b *outbox) closeInput() {
	b.mu.Lock()
	b.noInput = true
	b.mu.Unlock()
	signal(b.wake)
}

func (b *outbox) inputClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.noInput
}

// pipelined reports whether the client ever sent a task before the result of its
// last was on its way.
func (b *outbox) pipelined() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.many
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// paceUpTo is how many replies may wait for a client before its RESULT lines
// are no longer kept apart.
const paceUpTo = 64

// pace keeps RESULT lines apart.
//
// Old clients take what one recv returns for one message. One that has a single
// task under way has a single message to come, so nothing is needed. One that
// sent several and then reads a message per recv would lose all but the first of
// those that reached its kernel together. Whether it has read the last one can't
// be known from here; but a program that sits in recv takes some microseconds to
// come back to it, so a millisecond between two lines is ample, and a client
// that was slower was at the mercy of chance with the old balancer as well. What
// it costs is the rate: a client with so much under way that more than paceUpTo
// replies wait is written to without a pause, as only a reader of lines ever
// worked at that rate.
type pace struct {
	gap  time.Duration // not positive: none
	last time.Time
}

// wait waits until the next line may be written, or ctx ends.
func (p *pace) wait(ctx context.Context, pipelined bool) {
	if !pipelined || p.gap <= 0 {
		return
	}
	left := p.gap - time.Since(p.last)
	if left <= 0 {
		return
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (p *pace) wrote() { p.last = time.Now() }
