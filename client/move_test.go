package client

import (
	"context"
	"errors"
	"testing"
	"time"

	pb "reparto/gen/reparto/v1"
)

// goAway has the balancer, or a proxy before it, say that its connections are to
// end, while the streams on them go on; whoever dials from now on gets another.
func (b *balancer) goAway() (left <-chan struct{}) {
	b.mu.Lock()
	s := b.server
	b.mu.Unlock()
	b.up()
	done := make(chan struct{})
	go func() {
		s.GracefulStop()
		close(done)
	}()
	b.t.Cleanup(func() {
		s.Stop()
		<-done
	})
	return done
}

// moved submits until a task comes to another stream, and returns that.
func moved(t *testing.T, c *Client, b *balancer, old *stream) *stream {
	t.Helper()
	for {
		done := submitting(t.Context(), c, Task{Function: "probe", Timeout: patience})
		select {
		case s := <-b.streams:
			s.answerAll(1)
			if e := wait(t, done); e.err != nil {
				t.Fatalf("a task of the new stream: %v", e.err)
			}
			return s
		case f := <-old.frames: // not moved yet
			old.answer(echoOf(f.GetTasks()[0]))
			if e := wait(t, done); e.err != nil {
				t.Fatalf("a task meanwhile: %v", e.err)
			}
		case <-time.After(patience):
			t.Fatal("the task came to no stream")
		}
	}
}

// TestGoAwayMovesOn: tasks under way are answered on the old stream, new ones travel
// on another, and the old one is left when it owes nothing.
func TestGoAwayMovesOn(t *testing.T) {
	b := newBalancer(t)
	c := newTestClient(t, b)
	held := submitting(t.Context(), c, Task{Function: "f", Payload: []byte("held")})
	old := b.stream()
	task := old.tasks(1)[0]
	left := b.goAway()
	next := moved(t, c, b, old)
	select {
	case <-left:
		t.Fatal("the old stream was left with a task under way")
	default:
	}
	old.answer(echoOf(task))
	if e := wait(t, held); e.err != nil || string(e.out.Result) != "held" {
		t.Errorf("the task from before: %q, %v", e.out.Result, e.err)
	}
	select {
	case <-left:
	case <-time.After(patience):
		t.Error("the old stream is not left, though it owes nothing")
	}
	again := submitting(t.Context(), c, Task{Function: "f"})
	next.answerAll(1)
	if e := wait(t, again); e.err != nil {
		t.Errorf("a task after it all: %v", e.err)
	}
}

// TestCancelAfterMovingOn: the end of a caller's context reaches the balancer on the
// stream that has its task.
func TestCancelAfterMovingOn(t *testing.T) {
	b := newBalancer(t)
	c := newTestClient(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	given := submitting(ctx, c, Task{Function: "f"})
	old := b.stream()
	task := old.tasks(1)[0]
	b.goAway()
	moved(t, c, b, old)
	cancel()
	wantError(t, wait(t, given).err, "CONTEXT_ENDED")
	for {
		if n := old.frame().GetCancelNumbers(); len(n) > 0 {
			if n[0] != task.GetNumber() {
				t.Errorf("cancelled %d, want %d", n[0], task.GetNumber())
			}
			return
		}
	}
}

// TestOldStreamBreaks: only what it owed is in doubt; what may be repeated goes out
// on the new one.
func TestOldStreamBreaks(t *testing.T) {
	b := newBalancer(t)
	c := newTestClient(t, b)
	once := submitting(t.Context(), c, Task{Function: "once"})
	repeatable := submitting(t.Context(), c, Task{Function: "repeatable", Idempotent: true})
	old := b.stream()
	old.tasks(2)
	b.goAway()
	next := moved(t, c, b, old)
	other := submitting(t.Context(), c, Task{Function: "other"})
	theirs := next.tasks(1)[0]
	old.end <- errors.New("cut")
	if e := wait(t, once); !errors.Is(e.err, ErrFateUnknown) {
		t.Errorf("a task of the old stream: %v", e.err)
	}
	if f := next.answerAll(1); f[0].GetFunction() != "repeatable" {
		t.Errorf("the new stream got %s", f[0].GetFunction())
	}
	if e := wait(t, repeatable); e.err != nil {
		t.Errorf("the one that may be repeated: %v", e.err)
	}
	next.answer(echoOf(theirs))
	if e := wait(t, other); e.err != nil {
		t.Errorf("a task of the new stream: %v", e.err)
	}
}

// TestRefusedOnAnOldStream: a stopping balancer never ran it, so it goes out anew.
func TestRefusedOnAnOldStream(t *testing.T) {
	b := newBalancer(t)
	c := newTestClient(t, b)
	given := submitting(t.Context(), c, Task{Function: "given"})
	old := b.stream()
	task := old.tasks(1)[0]
	b.goAway()
	next := moved(t, c, b, old)
	old.answer(refusal(task.GetNumber()))
	if f := next.answerAll(1); f[0].GetFunction() != "given" {
		t.Errorf("the new stream got %s", f[0].GetFunction())
	}
	if e := wait(t, given); e.err != nil {
		t.Error(e.err)
	}
}

// TestCloseWithTwoStreams: everybody is told that the client was closed.
func TestCloseWithTwoStreams(t *testing.T) {
	b := newBalancer(t)
	c := newTestClient(t, b)
	before := submitting(t.Context(), c, Task{Function: "before"})
	old := b.stream()
	old.tasks(1)
	b.goAway()
	next := moved(t, c, b, old)
	after := submitting(t.Context(), c, Task{Function: "after"})
	next.tasks(1)
	c.Close()
	wantError(t, wait(t, before).err, "CLIENT_CLOSED")
	wantError(t, wait(t, after).err, "CLIENT_CLOSED")
}

func echoOf(t *pb.StreamTask) *pb.StreamOutcome {
	return &pb.StreamOutcome{Number: t.GetNumber(), TaskId: t.GetTaskId(), Result: t.GetPayload(), Attempt: 1}
}

// answerAll echoes the next n tasks, and returns them.
func (s *stream) answerAll(n int) []*pb.StreamTask {
	s.t.Helper()
	tasks := s.tasks(n)
	for _, t := range tasks {
		s.answer(echoOf(t))
	}
	return tasks
}
