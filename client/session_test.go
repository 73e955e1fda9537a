package client

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	pb "reparto/gen/reparto/v1"
)

func refusal(n uint64) *pb.StreamOutcome {
	return &pb.StreamOutcome{Number: n, Error: &pb.Error{Code: int32(codes.Unavailable), Reason: "DRAINING", Message: "stopping"}}
}

func TestWhatAStoppingBalancerRefusesWaitsForTheNext(t *testing.T) {
	b := newBalancer(t)
	c := newTestClient(t, b)
	refused := submitting(t.Context(), c, Task{Function: "refused"})
	s := b.stream()
	number := s.tasks(1)[0].GetNumber()
	ran := submitting(t.Context(), c, Task{Function: "ran"})
	other := s.tasks(1)[0].GetNumber()
	ctx, cancel := context.WithCancel(t.Context())
	submitting(ctx, c, Task{Function: "unwanted"})
	s.tasks(1)
	s.answer(&pb.StreamOutcome{Number: number, Error: &pb.Error{Code: int32(codes.Unavailable), Reason: "DRAINING", Metadata: map[string]string{"attempts": "0"}}})
	// Nothing more is sent there but cancellations.
	eventually(t, "it is refused", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return !c.accepting })
	later := submitting(t.Context(), c, Task{Function: "later"})
	eventually(t, "it waits", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return len(c.pending) == 2 })
	cancel()
	if f := s.frame(); len(f.GetTasks()) != 0 || len(f.GetCancelNumbers()) != 1 {
		t.Errorf("sent %v", f)
	}
	s.answer(&pb.StreamOutcome{Number: other, Error: &pb.Error{Code: int32(codes.Unavailable), Reason: "DRAINING", Metadata: map[string]string{"attempts": "1"}}})
	wantError(t, wait(t, ran).err, "DRAINING") // it may have run
	s.end <- draining()
	s = b.stream()
	for _, got := range s.tasks(2) {
		if f := got.GetFunction(); f != "refused" && f != "later" {
			t.Errorf("sent %v", got)
		}
		s.answer(&pb.StreamOutcome{Number: got.GetNumber()})
	}
	for _, done := range []<-chan ended{refused, later} {
		if e := wait(t, done); e.err != nil {
			t.Error(e.err)
		}
	}
}

// A stopping balancer may take its time to end the stream.
func TestRefusedIsGivenUpWhileTheStreamLingers(t *testing.T) {
	b := newBalancer(t)
	c := newTestClient(t, b, WithConnectTimeout(200*time.Millisecond))
	done := submitting(t.Context(), c, Task{Function: "f"})
	s := b.stream()
	s.answer(refusal(s.tasks(1)[0].GetNumber()))
	wantError(t, wait(t, done).err, "NO_CONNECTION")
}

func TestLimitsThatAreNotToldAreNone(t *testing.T) {
	b := echoing(t)
	b.limits = &pb.ClientLimits{}
	c := newTestClient(t, b)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := c.Submit(ctx, Task{Function: "f", Payload: []byte("p")}); err != nil {
		t.Error(err)
	}
}

// At its limit the balancer reads no more, not even cancellations.
func TestTheBalancersBoundCounts(t *testing.T) {
	b := newBalancer(t)
	b.limits.MaxInFlight = 4
	c := newTestClient(t, b)
	for range 10 {
		submitting(t.Context(), c, Task{Function: "f"})
	}
	s := b.stream()
	sent := s.tasks(3)
	for range 7 {
		s.answer(&pb.StreamOutcome{Number: sent[0].GetNumber()})
		if sent = append(sent[1:], s.frame().GetTasks()...); len(sent) != 3 {
			t.Fatalf("%d in flight, want 3", len(sent))
		}
	}
}

// A cancelled task counts for the balancer until its outcome has come.
func TestCancelledTasksCountAtTheBalancer(t *testing.T) {
	b := newBalancer(t)
	b.limits.MaxInFlight = 2
	c := newTestClient(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	done := submitting(ctx, c, Task{Function: "f"})
	s := b.stream()
	number := s.tasks(1)[0].GetNumber()
	cancel()
	wait(t, done)
	if f := s.frame(); len(f.GetCancelNumbers()) != 1 {
		t.Fatalf("sent %v", f)
	}
	submitting(t.Context(), c, Task{Function: "next"})
	eventually(t, "it waits", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.asleep && len(c.pending) == 1 })
	s.answer(&pb.StreamOutcome{Number: number, Error: &pb.Error{Code: int32(codes.Canceled), Reason: "TASK_CANCELLED"}})
	if got := s.tasks(1)[0].GetFunction(); got != "next" {
		t.Errorf("sent %s", got)
	}
}
