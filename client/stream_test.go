package client

import (
	"errors"
	"strings"
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

func TestWhatAStoppingBalancerRefusesWaitsForTheNext(t *testing.T) {
	b := newBalancer(t)
	c := newTestClient(t, b)
	refused := submitting(t.Context(), c, Task{Function: "refused"})
	s := b.stream()
	number := s.tasks(1)[0].GetNumber()
	ran := submitting(t.Context(), c, Task{Function: "ran"})
	other := s.tasks(1)[0].GetNumber()
	s.answer(&pb.StreamOutcome{Number: number, Error: &pb.Error{Code: int32(codes.Unavailable), Reason: "DRAINING", Metadata: map[string]string{"attempts": "0"}}})
	for range s.frames { // the client sends nothing more here, but reads on
	}
	s.answer(&pb.StreamOutcome{Number: other, Error: &pb.Error{Code: int32(codes.Unavailable), Reason: "DRAINING", Metadata: map[string]string{"attempts": "1"}}})
	wantError(t, wait(t, ran).err, "DRAINING") // it may have run
	s.end <- draining()
	s = b.stream()
	got := s.tasks(1)[0]
	if got.GetFunction() != "refused" {
		t.Errorf("sent %v", got)
	}
	s.answer(&pb.StreamOutcome{Number: got.GetNumber()})
	if e := wait(t, refused); e.err != nil {
		t.Error(e.err)
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

func TestNoConnectionInTime(t *testing.T) {
	b := newBalancer(t)
	b.down()
	c := newTestClient(t, b, WithConnectTimeout(100*time.Millisecond))
	_, err := c.Submit(t.Context(), Task{Function: "f"})
	if e := wantError(t, err, "NO_CONNECTION"); e.Code != codes.Unavailable || !strings.Contains(e.Message, "nobody listens") {
		t.Errorf("got %+v", e)
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

func TestFramesKeepToTheirBounds(t *testing.T) {
	b := newBalancer(t)
	b.down()
	c := newTestClient(t, b)
	const small, large = 600, 5
	for range small {
		c.SubmitFunc(t.Context(), Task{Function: "small"}, func(Outcome, error) {})
	}
	for range large {
		c.SubmitFunc(t.Context(), Task{Function: "large", Payload: make([]byte, 600<<10)}, func(Outcome, error) {})
	}
	b.up()
	s := b.stream()
	for n := 0; n < small+large; {
		f := s.frame()
		n += len(f.GetTasks())
		size := 0
		for _, task := range f.GetTasks() {
			size += len(task.GetPayload())
		}
		if len(f.GetTasks()) > 256 || size > 1<<20 {
			t.Errorf("a frame of %d tasks and %d bytes", len(f.GetTasks()), size)
		}
	}
}
