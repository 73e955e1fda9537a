package dispatch

import (
	"fmt"
	"testing"
	"time"
)

func newOutbox() *outbox { return &outbox{ready: make(chan struct{}, 1)} }

func (o *outbox) fill(n, size int) {
	for range n {
		token := o.assigned + o.assignedLarge
		o.gather(Assignment{TaskID: fmt.Sprint(token), Token: token, Payload: make([]byte, size)})
		o.putAssignments()
	}
	o.signal()
}

// frames takes all there is, in order.
func (o *outbox) frames(t *testing.T) []int {
	t.Helper()
	var sizes []int
	var f Frame
	seen := uint64(0)
	for o.take(&f) {
		sizes = append(sizes, len(f.Assign))
		for _, a := range f.Assign {
			if a.Token != seen {
				t.Fatalf("assignment %d came when %d was due", a.Token, seen)
			}
			seen++
		}
	}
	return sizes
}

func TestFrameSizes(t *testing.T) {
	fits := (MaxFrameBytes - 4*assignmentOverhead) / 4
	for _, c := range []struct {
		what    string
		n, size int
		want    []int
	}{
		{"one under the limit", 255, 10, []int{255}},
		{"the limit", 256, 10, []int{256}},
		{"one over the limit", 257, 10, []int{256, 1}},
		{"three frames", 600, 10, []int{256, 256, 88}},
		{"a megabyte", 4, fits, []int{4}},
		{"a byte over", 4, fits + 1, []int{3, 1}},
		{"each larger than a frame", 3, MaxFrameBytes + 1, []int{1, 1, 1}},
	} {
		o := newOutbox()
		o.fill(c.n, c.size)
		if got := o.frames(t); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %d tasks of %d bytes went in frames of %v, want %v", c.what, c.n, c.size, got, c.want)
		}
	}
}

// Large ones go one a frame, in turn with frames of small ones.
func TestLargeOnesDoNotHoldUpWhatIsSmall(t *testing.T) {
	o := newOutbox()
	o.fill(1, 10)
	o.fill(3, 2*MaxFrameBytes)
	o.fill(2, largeBytes)
	o.fill(300, 10)
	var got []string
	var f Frame
	for o.take(&f) {
		large := 0
		for _, a := range f.Assign {
			if len(a.Payload) > largeBytes {
				large++
			}
		}
		got = append(got, fmt.Sprint(large, "+", len(f.Assign)-large))
		select {
		case <-o.ready:
		default:
			if len(o.large) > 0 || o.head < len(o.pending) {
				t.Fatalf("nothing tells the writer of the rest after %q", got)
			}
		}
	}
	if want := "[0+256 1+0 0+47 1+0 1+0]"; fmt.Sprint(got) != want {
		t.Errorf("frames of large and small ones %v, want %s", got, want)
	}
}

// The notice that a large one is cancelled waits for it, though small ones pass.
func TestCancelOfALargeOneWaitsForIt(t *testing.T) {
	o := newOutbox()
	o.fill(1, 10)
	o.fill(1, 2*MaxFrameBytes)
	o.putCancel(Cancel{Token: 1})
	o.putDrain(time.Second)
	var f Frame
	if !o.take(&f) || len(f.Assign) != 1 || len(f.Cancel) != 0 || f.Drain {
		t.Fatalf("the first frame is %d assignments, %v, drain %v; want the small one", len(f.Assign), f.Cancel, f.Drain)
	}
	if !o.take(&f) || len(f.Assign) != 1 || len(f.Cancel) != 1 || !f.Drain {
		t.Fatalf("the second frame is %d assignments, %v, drain %v; want the large one and all that is about it", len(f.Assign), f.Cancel, f.Drain)
	}
}

func TestCancelNeverOvertakesItsAssignment(t *testing.T) {
	o := newOutbox()
	o.fill(256, 1)
	o.putCancel(Cancel{Token: 0})
	o.fill(256, 1)
	o.putCancel(Cancel{Token: 300})
	o.putCancel(Cancel{Token: 511})
	var f Frame
	sent := uint64(0)
	for n, want := range []int{1, 2} {
		if !o.take(&f) {
			t.Fatalf("no frame %d", n)
		}
		sent += uint64(len(f.Assign))
		for _, c := range f.Cancel {
			if c.Token >= sent {
				t.Fatalf("frame %d cancels %d, but only %d were assigned", n, c.Token, sent)
			}
		}
		if len(f.Cancel) != want {
			t.Fatalf("frame %d has %d cancels, want %d", n, len(f.Cancel), want)
		}
	}
	if o.take(&f) {
		t.Fatalf("something is left: %+v", f)
	}
}

func TestDrainNoticeComesAfterTheLastAssignment(t *testing.T) {
	o := newOutbox()
	o.fill(300, 1)
	o.putDrain(3 * time.Second)
	var f Frame
	if !o.take(&f) || f.Drain {
		t.Fatalf("first frame has drain=%v with 44 assignments to come", f.Drain)
	}
	select {
	case <-o.ready:
	default:
		t.Fatal("nothing tells the writer of the second frame")
	}
	if !o.take(&f) || !f.Drain || len(f.Assign) != 44 || f.ReconnectAfter != 3*time.Second {
		t.Fatalf("second frame %d assignments, drain %v after %v; want 44, true after 3s", len(f.Assign), f.Drain, f.ReconnectAfter)
	}
	if o.take(&f) {
		t.Fatalf("the notice came twice: %+v", f)
	}
}

// A writer that never catches up must not cost more memory than there is
// waiting at one time.
func TestBackloggedOutboxStaysSmall(t *testing.T) {
	o := newOutbox()
	o.fill(2*MaxFrameTasks, 1)
	var f Frame
	next := uint64(0)
	for range 1000 {
		o.fill(MaxFrameTasks, 1)
		if !o.take(&f) || len(f.Assign) != MaxFrameTasks {
			t.Fatalf("a frame of %d, want %d", len(f.Assign), MaxFrameTasks)
		}
		for _, a := range f.Assign {
			if a.Token != next {
				t.Fatalf("assignment %d came when %d was due", a.Token, next)
			}
			next++
		}
	}
	if n := cap(o.pending); n > 16*MaxFrameTasks {
		t.Errorf("the outbox has grown to %d entries for %d that wait", n, len(o.pending)-o.head)
	}
}

func TestTakenFrameIsLetGoOf(t *testing.T) {
	o := newOutbox()
	o.fill(300, 1)
	var f Frame
	o.take(&f)
	o.take(&f)
	o.take(&f)
	for _, held := range [][]Assignment{f.Assign[:cap(f.Assign)], o.pending[:cap(o.pending)]} {
		for i, a := range held {
			if a.Payload != nil {
				t.Fatalf("payload %d of an earlier frame is still held", i)
			}
		}
	}
}

// TestAcknowledgementsTravelWithOthers: they get a frame of their own only when
// there is a reason for it.
func TestAcknowledgementsTravelWithOthers(t *testing.T) {
	now := time.Now()
	few := make([]uint64, manyAcks-1)
	for _, c := range []struct {
		what string
		do   func(*outbox)
		want bool
	}{
		{"one, alone", func(o *outbox) { o.putAcks([]uint64{1}, 9) }, false},
		{"as many as may wait", func(o *outbox) { o.putAcks(few, 0) }, false},
		{"one more than may wait", func(o *outbox) { o.putAcks(few, 0); o.putAcks([]uint64{1}, 0) }, true},
		{"about as much as may wait", func(o *outbox) { o.putAcks([]uint64{1}, muchAcks-1) }, false},
		{"about more than may wait", func(o *outbox) { o.putAcks([]uint64{1}, muchAcks-1); o.putAcks([]uint64{2}, 1) }, true},
		{"with an assignment", func(o *outbox) { o.putAcks([]uint64{1}, 9); o.fill(1, 9) }, true},
		{"at the next look at the session", func(o *outbox) { o.putAcks([]uint64{1}, 9); o.beat(now, time.Hour) }, true},
		{"before the worker leaves", func(o *outbox) { o.putAcks([]uint64{1}, 9); o.putDrain(0) }, true},
		{"before a worker leaves that is sent away", func(o *outbox) { o.putAcks([]uint64{1}, 9); o.putLeave() }, true},
		{"after it said that it would leave", func(o *outbox) {
			o.putDrain(0)
			o.take(&Frame{})
			<-o.ready
			o.putAcks([]uint64{1}, 9)
		}, true},
	} {
		o := newOutbox()
		o.since = now
		c.do(o)
		select {
		case <-o.ready:
			if !c.want {
				t.Errorf("%s: the writer is woken", c.what)
			}
		default:
			if c.want {
				t.Errorf("%s: the writer is not woken", c.what)
			}
		}
		var f Frame
		if got := o.take(&f); got != c.want || got != (len(f.Acked) > 0) {
			t.Errorf("%s: a frame %v, with %d acknowledgements; want one: %v", c.what, got, len(f.Acked), c.want)
		}
		if c.want && (o.acksDue || o.ackedBytes != 0 || len(o.acks) != 0) {
			t.Errorf("%s: what was sent is still there", c.what)
		}
	}
}
