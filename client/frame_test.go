package client

import (
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "reparto/gen/reparto/v1"
)

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

func TestFramesStayBelowTheTransportsLimit(t *testing.T) {
	b := newBalancer(t)
	b.limits.MaxMessageBytes = 100 << 10
	b.down()
	c := newTestClient(t, b)
	const n = 64
	for range n {
		c.SubmitFunc(t.Context(), Task{Function: "f", Payload: make([]byte, 10<<10)}, func(Outcome, error) {})
	}
	b.up()
	s := b.stream()
	for got := 0; got < n; {
		f := s.frame()
		got += len(f.GetTasks())
		if size := proto.Size(f); size > 100<<10 {
			t.Fatalf("a frame of %d tasks has %d bytes", len(f.GetTasks()), size)
		}
	}
}

func TestATasksSizeIsAnUpperBound(t *testing.T) {
	s := &session{maxTimeout: math.MaxInt64}
	for _, task := range []Task{
		{},
		{Function: strings.Repeat("f", 128), ID: strings.Repeat("i", 128), Payload: make([]byte, 300<<10),
			Timeout: -1, AttemptTimeout: -1, MaxAttempts: math.MinInt, FailFast: true,
			Metadata: map[string]string{strings.Repeat("k", 200): strings.Repeat("v", 20000), "": ""}},
	} {
		k := &call{task: task, number: math.MaxUint64}
		m := &pb.StreamTask{}
		s.convert(m, k, time.Now())
		if real := proto.Size(&pb.SubmitStreamRequest{Tasks: []*pb.StreamTask{m}}); int64(real) > k.size() {
			t.Errorf("%d bytes, counted as %d", real, k.size())
		}
	}
}

func TestPriorityTravels(t *testing.T) {
	b := newBalancer(t)
	c := newTestClient(t, b)
	var s *stream
	for _, p := range []int{1, 0} { // the second in the message of the first
		done := submitting(t.Context(), c, Task{Function: "f", Priority: p})
		if s == nil {
			s = b.stream()
		}
		task := s.tasks(1)[0]
		if task.GetPriority() != int32(p) {
			t.Errorf("priority %d, want %d", task.GetPriority(), p)
		}
		s.answer(&pb.StreamOutcome{Number: task.GetNumber()})
		wait(t, done)
	}
}
