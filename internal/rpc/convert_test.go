package rpc

import (
	"math"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/task"
)

func TestMillisNeverOverflows(t *testing.T) {
	for ms, want := range map[int64]time.Duration{
		0: 0, 1: time.Millisecond, -1: -time.Millisecond,
		math.MaxInt64: math.MaxInt64 / 1_000_000 * 1_000_000, math.MinInt64: -(math.MaxInt64 / 1_000_000 * 1_000_000),
	} {
		if got := millis(ms); got != want {
			t.Errorf("millis(%d) = %d, want %d", ms, got, want)
		}
	}
}

func TestTaskFromTheWireIsComplete(t *testing.T) {
	l := limits{dispatch.Options{MaxPayload: 10, DefaultTimeout: time.Minute, MaxTimeout: time.Hour, DefaultMaxAttempts: 3}}
	now := time.Now()
	var got, a, b task.Task
	err := l.task(&got, now, &pb.StreamTask{Function: "f"}, nil, 0, 0)
	if err != nil || !got.Deadline.Equal(now.Add(time.Minute)) || got.MaxAttempts != 3 || got.OwnID || got.ID != "" {
		t.Errorf("task %+v, %v: want the defaults and no id", got, err)
	}
	_ = l.task(&a, now, &pb.StreamTask{Function: "f", TaskId: "i", Payload: []byte("x"), MaxAttempts: 9, FailFast: true}, nil, time.Hour, time.Second)
	if !a.OwnID || a.MaxAttempts != 9 || !a.FailFast || a.AttemptTimeout != time.Second || !a.Deadline.Equal(now.Add(time.Hour)) {
		t.Errorf("task %+v: want what was given", a)
	}
	text := "x"
	_ = l.task(&b, now, &pb.SubmitRequest{Function: "f", TaskId: "i"}, &text, 0, 0)
	if a.Fingerprint != b.Fingerprint {
		t.Error("the same content as text and as payload has two fingerprints")
	}
}

func TestPriorityFromTheWire(t *testing.T) {
	l := limits{dispatch.Options{DefaultTimeout: time.Minute, DefaultMaxAttempts: 3}}
	for given, want := range map[int32]int{0: 3, 1: 1, 5: 5} {
		for _, f := range []submitFields{&pb.SubmitRequest{Function: "f", Priority: given}, &pb.StreamTask{Function: "f", Priority: given}} {
			var k task.Task
			if err := l.task(&k, time.Now(), f, nil, 0, 0); err != nil || k.Priority != want {
				t.Errorf("priority %d became %d, %v; want %d", given, k.Priority, err, want)
			}
		}
	}
}

func TestClaimsFromTheWire(t *testing.T) {
	r := registrationFromWire(&pb.Register{Running: []*pb.RunningTask{
		{TaskId: "a", Attempt: 2, Token: 3}, {TaskId: "b", Token: 4, Finished: true}}}, "")
	if want := []dispatch.Claim{{TaskID: "a", Attempt: 2, Token: 3}, {TaskID: "b", Token: 4, Finished: true}}; !slices.Equal(r.Running, want) {
		t.Errorf("claims %+v, want %+v", r.Running, want)
	}
}

func TestFrameTellsWhatIsAcknowledgedAndWhoMustLeave(t *testing.T) {
	var w workFrame
	got := w.fill(&dispatch.Frame{Acked: []uint64{7, 8}, Drain: true, Leave: true})
	if !proto.Equal(got, &pb.WorkResponse{AckedTokens: []uint64{7, 8}, Drain: &pb.Drain{Leave: true}}) {
		t.Errorf("frame %v", got)
	}
	if got = w.fill(&dispatch.Frame{Heartbeat: true}); !proto.Equal(got, &pb.WorkResponse{Heartbeat: &pb.Heartbeat{}}) {
		t.Errorf("frame %v: something of the one before was left", got)
	}
}

func TestFailureFromTheWire(t *testing.T) {
	f := failureFromWire(&pb.Failure{RetryAfterMs: math.MaxInt64, Retry: true})
	if f.Reason != "HANDLER_ERROR" || f.RetryAfter != 24*time.Hour || !f.Retry {
		t.Errorf("%+v: want a reason and at most a day", f)
	}
	if f = failureFromWire(&pb.Failure{Reason: "MINE", RetryAfterMs: 5}); f.Reason != "MINE" || f.RetryAfter != 5*time.Millisecond {
		t.Errorf("%+v: want what was given", f)
	}
	if failureFromWire(nil) != nil || failureToWire(nil) != nil {
		t.Error("no failure became one")
	}
}

func TestProgressFromTheWire(t *testing.T) {
	for in, want := range map[float64]float64{-1: 0, 0: 0, 50: 50, 100: 100, 101: 100, math.Inf(1): 100, math.Inf(-1): 0} {
		if got := progressFromWire(&pb.Progress{Percent: in}).Percent; got != want {
			t.Errorf("percent %v became %v, want %v", in, got, want)
		}
	}
	if got := progressFromWire(&pb.Progress{Percent: math.NaN()}).Percent; got != 0 {
		t.Errorf("NaN became %v", got)
	}
	long := make([]byte, 0, 2000)
	for len(long) < 1023 {
		long = append(long, 'x')
	}
	p := progressFromWire(&pb.Progress{Message: string(long) + "ñ…"})
	if p.Message != string(long) {
		t.Errorf("the message was cut to %d bytes, want 1023: the next character does not fit", len(p.Message))
	}
	if p = progressFromWire(&pb.Progress{Message: string(long) + "y"}); len(p.Message) != 1024 {
		t.Errorf("a message at the limit was cut to %d bytes", len(p.Message))
	}
}
