package dispatch

import (
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of a frame. One larger task travels alone.
const (
	MaxFrameTasks = 256
	MaxFrameBytes = 1 << 20
)

// Frame is what a session's writer sends in one go. Cancel may name assignments
// of earlier frames and of this one, never of a later one.
type Frame struct {
	Assign    []Assignment
	Cancel    []Cancel
	Heartbeat bool
	// Drain says that nothing more will be assigned. ReconnectAfter is 0 when
	// the worker asked for it.
	Drain          bool
	ReconnectAfter time.Duration
	// Leave says that the worker is to go and not to come back.
	Leave bool
	// Acked are tokens whose results need not be kept any more.
	Acked []uint64
}

// outbox is what waits to be sent to one worker. Putting in never blocks; how
// much there can be is bounded by the worker's slots.
type outbox struct {
	ready chan struct{} // holds a token when there may be something to send
	quiet atomic.Bool   // somebody is about to look, and need not be told

	// Under the Dispatcher's mutex: small assignments until putAssignments, and how
	// many of them were promised.
	gathered []Assignment
	kept     int

	mu             sync.Mutex
	pending        []Assignment // from head on
	head           int
	assigned, sent uint64 // assignments put in and taken out since the start
	// Large ones stand apart, so that what is small need not wait for all of them.
	large                    []Assignment
	assignedLarge, sentLarge uint64
	largeDue                 bool // the frame before had none though one waited
	cancels                  []heldCancel
	heartbeat                bool
	drain                    bool
	reconnectAfter           time.Duration
	promised                 int // assignments that will be put in once they are on disk
	leave                    bool
	leaving                  bool // a drain was put in: the worker goes when it has its acks
	acks                     []uint64
	ackedBytes               int       // of the results that acks are about
	acksDue                  bool      // they are worth a frame of their own
	sending                  bool      // a frame was taken and is not yet sent
	since                    time.Time // when that frame was taken, or the last was sent
}

// heldCancel waits until the assignment it names has been sent.
type heldCancel struct {
	Cancel
	after, afterLarge uint64
}

func (o *outbox) signal() {
	if o.quiet.Load() {
		return
	}
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// gather takes an assignment, which putAssignments will put in with all others of
// its batch. The caller holds the Dispatcher's mutex.
func (o *outbox) gather(a Assignment) {
	if len(a.Payload) <= largeBytes {
		o.gathered = append(o.gathered, a)
		return
	}
	o.mu.Lock()
	o.large = append(o.large, a)
	o.assignedLarge++
	o.mu.Unlock()
}

// putAssignments puts in what was gathered. It leaves it to the caller to signal,
// when all of a batch are in. The caller holds the Dispatcher's mutex.
func (o *outbox) putAssignments() {
	if len(o.gathered) == 0 && o.kept == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.promised -= o.kept
	o.assigned += uint64(len(o.gathered))
	if o.kept = 0; len(o.pending) == 0 {
		o.pending, o.gathered = o.gathered, o.pending
		return
	}
	o.pending = append(o.pending, o.gathered...)
	o.gathered = clearAll(o.gathered)
}

// promise says that an assignment will follow, which a drain notice must wait
// for. It is kept (see kept) when that is put in; breakPromise says that it does
// not come.
func (o *outbox) promise() {
	o.mu.Lock()
	o.promised++
	o.mu.Unlock()
}

func (o *outbox) breakPromise() {
	o.mu.Lock()
	o.promised--
	o.mu.Unlock()
	o.signal()
}

// Acknowledgements travel with the next frame, and get one of their own only when
// they are many, or about much, or old (beat), or when the worker waits for them to
// leave. A frame costs both sides as much as dozens of tasks: so many means more than
// a busy worker answers between two frames of tasks, and not just a frame of answers.
const (
	manyAcks = 4 * MaxFrameTasks
	muchAcks = MaxFrameBytes / 4 // bytes of results, which the worker keeps as long
)

// putAcks says that the worker need not keep these results any more, which have so
// many bytes.
func (o *outbox) putAcks(tokens []uint64, bytes int) {
	if len(tokens) == 0 {
		return
	}
	o.mu.Lock()
	o.acks = append(o.acks, tokens...)
	o.ackedBytes += bytes
	o.acksDue = o.acksDue || o.leaving || len(o.acks) >= manyAcks || o.ackedBytes >= muchAcks
	due := o.acksDue
	o.mu.Unlock()
	if due {
		o.signal()
	}
}

// putLeave tells the worker to go and not to come back.
func (o *outbox) putLeave() {
	o.mu.Lock()
	o.drain, o.leave = true, true
	o.leaving, o.acksDue = true, true
	o.mu.Unlock()
	o.signal()
}

func (o *outbox) putCancel(c Cancel) {
	o.mu.Lock()
	o.cancels = append(o.cancels, heldCancel{c, o.assigned, o.assignedLarge})
	o.mu.Unlock()
	o.signal()
}

func (o *outbox) putDrain(reconnectAfter time.Duration) {
	o.mu.Lock()
	o.drain, o.reconnectAfter = true, reconnectAfter
	o.leaving, o.acksDue = true, true
	o.mu.Unlock()
	o.signal()
}

// beat makes the writer speak if it has been quiet for an interval, or has
// acknowledgements.
func (o *outbox) beat(now time.Time, interval time.Duration) {
	o.mu.Lock()
	due := !o.sending && now.Sub(o.since) >= interval-interval/sweeps
	o.heartbeat = o.heartbeat || due
	o.acksDue = o.acksDue || len(o.acks) > 0
	due = due || o.acksDue
	o.mu.Unlock()
	if due {
		o.signal()
	}
}

// blocked tells how long the frame that was taken last has been on its way out.
func (o *outbox) blocked(now time.Time) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.sending {
		return 0
	}
	return now.Sub(o.since)
}

// done notes that the frame taken last has been sent.
func (o *outbox) done(now time.Time) {
	o.mu.Lock()
	o.sending, o.since = false, now
	o.mu.Unlock()
}

// takeAssigned is take when there is nothing but assignments, none of them large.
// Otherwise it leaves all to take, whose caller it wakes if there is anything.
func (o *outbox) takeAssigned(f *Frame) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.large) > 0 || len(o.cancels) > 0 || o.heartbeat || o.drain || o.leaving || o.sending {
		o.signal()
		return false
	}
	return o.takeLocked(f)
}

// take moves what is ready into f, whose slices are used again, and reports
// whether there was anything.
func (o *outbox) take(f *Frame) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.takeLocked(f)
}

func (o *outbox) takeLocked(f *Frame) bool {
	*f = Frame{Assign: clearAll(f.Assign), Cancel: f.Cancel[:0], Acked: f.Acked[:0]}
	o.takeAssignments(f)
	n := 0
	for n < len(o.cancels) && o.cancels[n].after <= o.sent && o.cancels[n].afterLarge <= o.sentLarge {
		f.Cancel = append(f.Cancel, o.cancels[n].Cancel)
		n++
	}
	o.cancels = append(o.cancels[:0], o.cancels[n:]...)
	if o.drain && o.sent == o.assigned && o.sentLarge == o.assignedLarge && o.promised == 0 {
		f.Drain, f.ReconnectAfter, f.Leave, o.drain = true, o.reconnectAfter, o.leave, false
	}
	if len(f.Assign) == 0 && len(f.Cancel) == 0 && !(o.acksDue && len(o.acks) > 0) && !f.Drain && !o.heartbeat {
		return false
	}
	f.Acked, o.acks = o.acks, f.Acked
	o.ackedBytes, o.acksDue = 0, false
	f.Heartbeat, o.heartbeat = o.heartbeat, false
	o.sending, o.since = true, time.Now()
	return true
}

// takeAssignments moves as many as a frame may hold: small ones, or a large one that
// has let a frame of small ones go before it.
func (o *outbox) takeAssignments(f *Frame) {
	if len(o.large) > 0 && (o.largeDue || o.head == len(o.pending)) {
		o.takeLarge(f)
		return
	}
	o.takeSmall(f)
	if o.largeDue = len(o.large) > 0; o.largeDue {
		o.signal()
	}
}

func (o *outbox) takeLarge(f *Frame) {
	f.Assign = append(f.Assign, o.large[0])
	o.large[0] = Assignment{}
	if o.large = o.large[1:]; len(o.large) == 0 {
		o.large = nil
	}
	o.sentLarge++
	o.largeDue = false
	if len(o.large) > 0 || o.head < len(o.pending) {
		o.signal()
	}
}

func (o *outbox) takeSmall(f *Frame) {
	n, size := 0, 0
	for i := o.head; i < len(o.pending); i++ {
		size += len(o.pending[i].Payload) + assignmentOverhead
		if n == MaxFrameTasks || (n > 0 && size > MaxFrameBytes) {
			break
		}
		n++
	}
	o.sent += uint64(n)
	if o.head == 0 && n == len(o.pending) {
		f.Assign, o.pending = o.pending, f.Assign
		return
	}
	taken := o.pending[o.head : o.head+n]
	f.Assign = append(f.Assign, taken...)
	clear(taken)
	o.head += n
	if o.head >= len(o.pending)-o.head { // so that a writer that never catches up costs no memory
		left := copy(o.pending, o.pending[o.head:])
		clear(o.pending[left:])
		o.pending, o.head = o.pending[:left], 0
	}
	if len(o.pending) > 0 {
		o.signal() // the rest is for the next frame
	}
}

// largeBytes is what a payload has at most to travel with others.
const largeBytes = MaxFrameBytes / 4

// assignmentOverhead is about what an assignment adds to a frame beside its
// payload: id, function, token.
const assignmentOverhead = 128

// clearAll empties a slice and lets go of what it held.
func clearAll(s []Assignment) []Assignment {
	clear(s)
	return s[:0]
}
