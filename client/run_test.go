package client

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "reparto/gen/reparto/v1"
)

func draining() error {
	st, err := status.New(codes.Unavailable, "stopping").WithDetails(&errdetails.ErrorInfo{Domain: "reparto", Reason: "DRAINING"})
	if err != nil {
		panic(err)
	}
	return st.Err()
}

func TestASentTaskIsNotSentAgainUnlessItMay(t *testing.T) {
	b := newBalancer(t)
	c := newTestClient(t, b)
	once := submitting(t.Context(), c, Task{Function: "once"})
	s := b.stream()
	s.tasks(1)
	again := submitting(t.Context(), c, Task{Function: "again", Idempotent: true})
	id := s.tasks(1)[0].GetTaskId()
	if id == "" {
		t.Error("an idempotent task travels without an id")
	}
	s.end <- status.Error(codes.Unavailable, "torn")
	err := wait(t, once).err
	wantError(t, err, "FATE_UNKNOWN")
	if !errors.Is(err, ErrFateUnknown) || status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "torn") {
		t.Errorf("got %v", err)
	}
	s = b.stream()
	got := s.tasks(1)[0]
	if got.GetFunction() != "again" || got.GetTaskId() != id {
		t.Errorf("sent %v; want the idempotent one under its id %s", got, id)
	}
	s.answer(&pb.StreamOutcome{Number: got.GetNumber(), Result: []byte("ok")})
	if e := wait(t, again); e.err != nil || string(e.out.Result) != "ok" {
		t.Errorf("got %+v", e)
	}
}

func TestAStreamThatEndsDrainingHasReadNothingItDidNotAnswer(t *testing.T) {
	b := newBalancer(t)
	c := newTestClient(t, b)
	done := submitting(t.Context(), c, Task{Function: "f"})
	s := b.stream()
	s.tasks(1)
	s.end <- draining()
	s = b.stream()
	s.answer(&pb.StreamOutcome{Number: s.tasks(1)[0].GetNumber()})
	if e := wait(t, done); e.err != nil {
		t.Error(e.err)
	}
}

func TestTasksWaitForABalancer(t *testing.T) {
	b := newBalancer(t)
	b.down()
	c := newTestClient(t, b)
	done := submitting(t.Context(), c, Task{Function: "f"})
	eventually(t, "it waits", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return len(c.pending) == 1 })
	b.up()
	s := b.stream()
	s.answer(&pb.StreamOutcome{Number: s.tasks(1)[0].GetNumber()})
	if e := wait(t, done); e.err != nil {
		t.Error(e.err)
	}
}

func TestABalancerThatSaysNothingIsGivenUp(t *testing.T) {
	b := newBalancer(t)
	b.limits = nil
	c := newTestClient(t, b, WithConnectTimeout(100*time.Millisecond))
	_, err := c.Submit(t.Context(), Task{Function: "f"})
	wantError(t, err, "NO_CONNECTION")
}

func TestHopelessErrorsEndTasksAtOnce(t *testing.T) {
	b := newBalancer(t)
	c := newTestClient(t, b)
	done := submitting(t.Context(), c, Task{Function: "f", Idempotent: true})
	s := b.stream()
	s.tasks(1)
	s.end <- status.Error(codes.PermissionDenied, "not you")
	if err := wait(t, done).err; status.Code(err) != codes.PermissionDenied {
		t.Errorf("got %v", err)
	}
}

// answering calls first for the first tasks of each stream until the test ends.
func answering(t *testing.T, b *balancer, first func(*stream, *pb.SubmitStreamRequest)) {
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			select {
			case s := <-b.streams:
				serving.Go(func() {
					for f := range s.frames {
						if len(f.GetTasks()) > 0 {
							first(s, f)
							return
						}
					}
				})
			case <-t.Context().Done():
				return
			}
		}
	})
	t.Cleanup(serving.Wait)
}

// A task that may be sent again must not be for ever.
func TestBrokenAgainAndAgainIsGivenUp(t *testing.T) {
	for name, first := range map[string]func(*stream, *pb.SubmitStreamRequest){
		"torn": func(s *stream, _ *pb.SubmitStreamRequest) { s.end <- status.Error(codes.Unavailable, "torn") },
		"refused": func(s *stream, f *pb.SubmitStreamRequest) {
			s.answer(refusal(f.GetTasks()[0].GetNumber()))
			s.end <- draining()
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBalancer(t)
			answering(t, b, first)
			c := newTestClient(t, b, WithConnectTimeout(300*time.Millisecond))
			wantError(t, wait(t, submitting(t.Context(), c, Task{Function: "f", Idempotent: true})).err, "NO_CONNECTION")
		})
	}
}
