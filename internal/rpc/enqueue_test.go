package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/task"
)

// at is a timestamp that far from now.
func at(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(time.Now().Add(d)) }

func TestEnqueueTurnsTasksIntoOnesThatAreValid(t *testing.T) {
	h, k := serveShelf(t, dispatch.Options{})
	before := time.Now()
	runAt, end := at(time.Hour), at(3*time.Hour)
	resp, err := h.tasks.Enqueue(h.ctx, &pb.EnqueueRequest{Tasks: []*pb.EnqueueTask{
		{Function: "plain", Text: proto.String("péle")},
		{Function: "full", TaskId: "mine", Payload: []byte("p"), Metadata: map[string]string{"k": "v"}, RunAt: runAt, ExpireTime: end,
			Priority: 5, MaxAttempts: 7, AttemptTimeout: durationpb.New(time.Minute), Retention: durationpb.New(time.Second), FreshId: true,
			Backoff: &pb.Backoff{Initial: durationpb.New(time.Second), Multiplier: 1.5, Maximum: durationpb.New(time.Hour), Jitter: 1}},
		{Function: "later", Delay: durationpb.New(time.Minute), TimeToLive: durationpb.New(time.Second)},
		{Function: "past", RunAt: at(-time.Hour), FreshId: true},
	}})
	after := time.Now()
	if err != nil || len(resp.Results) != 4 || resp.Results[1].TaskId != "mine" || resp.Results[0].TaskId == "" {
		t.Fatalf("%v, %v", resp, err)
	}
	for i, r := range resp.Results {
		if r.Error != nil || r.Existed || r.TaskId == "" {
			t.Errorf("task %d: %v", i, r)
		}
	}
	b := k.batches[0]
	plain, full, later, past := &b[0].Task, &b[1].Task, &b[2].Task, &b[3].Task
	if string(plain.Payload) != "péle" || plain.Priority != 3 || plain.MaxAttempts != 3 || plain.OwnID || plain.AttemptTimeout != 0 ||
		!plain.Durable.RunAt.IsZero() || plain.Durable.TTL != 7*24*time.Hour || plain.Durable.Retention != 24*time.Hour || plain.Durable.Backoff != (task.Backoff{}) {
		t.Errorf("plain: %+v %+v", plain, plain.Durable)
	}
	if d := plain.Deadline.Sub(before); d < 7*24*time.Hour || plain.Deadline.After(after.Add(7*24*time.Hour)) {
		t.Errorf("plain: the deadline is %v ahead", d)
	}
	want := task.Durable{RunAt: runAt.AsTime(), TTL: end.AsTime().Sub(runAt.AsTime()), Retention: time.Second,
		Backoff: task.Backoff{Initial: time.Second, Multiplier: 1.5, Maximum: time.Hour, Jitter: 1}}
	if full.ID != "mine" || !full.OwnID || !full.FreshID || full.Fingerprint != full.Content() || full.Priority != 5 || full.MaxAttempts != 7 ||
		full.AttemptTimeout != time.Minute || !full.Deadline.Equal(end.AsTime()) || *full.Durable != want || !maps.Equal(full.Metadata, map[string]string{"k": "v"}) {
		t.Errorf("full: %+v %+v, want %+v", full, full.Durable, want)
	}
	if run := later.Durable.RunAt; run.Before(before.Add(time.Minute)) || run.After(after.Add(time.Minute)) || !later.Deadline.Equal(run.Add(time.Second)) {
		t.Errorf("later: %+v, deadline %v", later.Durable, later.Deadline)
	}
	if !past.Durable.RunAt.IsZero() || past.FreshID || past.Deadline.Before(before.Add(7*24*time.Hour)) {
		t.Errorf("past: %+v %+v: want it to run at once", past, past.Durable)
	}
}

func TestEnqueueSharesWhatTasksAgreeIn(t *testing.T) {
	h, k := serveShelf(t, dispatch.Options{})
	req := &pb.EnqueueRequest{}
	for range 100 {
		req.Tasks = append(req.Tasks, &pb.EnqueueTask{Function: "f", Delay: durationpb.New(time.Minute)})
	}
	if _, err := h.tasks.Enqueue(h.ctx, req); err != nil {
		t.Fatal(err)
	}
	for i := range k.batches[0] {
		if b := k.batches[0]; b[i].Task.Durable != b[0].Task.Durable {
			t.Fatalf("task %d has settings of its own", i)
		}
	}
}

func TestEnqueueRefusesEachTaskOnItsOwn(t *testing.T) {
	h, k := serveShelf(t, dispatch.Options{MaxPayload: 100})
	minute := durationpb.New(time.Minute)
	bad := &durationpb.Duration{Seconds: 1, Nanos: -1}
	cases := []struct {
		reason string
		task   *pb.EnqueueTask
	}{
		{"FUNCTION", &pb.EnqueueTask{}},
		{"FUNCTION", &pb.EnqueueTask{Function: "a b"}},
		{"TASK_ID", &pb.EnqueueTask{TaskId: "a/b"}},
		{"PAYLOAD", &pb.EnqueueTask{Payload: []byte("x"), Text: proto.String("y")}},
		{"PAYLOAD_TOO_LARGE", &pb.EnqueueTask{Payload: make([]byte, 101)}},
		{"METADATA", &pb.EnqueueTask{Metadata: map[string]string{"": "x"}}},
		{"PRIORITY", &pb.EnqueueTask{Priority: -1}},
		{"PRIORITY", &pb.EnqueueTask{Priority: 6}},
		{"MAX_ATTEMPTS", &pb.EnqueueTask{MaxAttempts: 101}},
		{"MAX_ATTEMPTS", &pb.EnqueueTask{MaxAttempts: -1}},
		{"ATTEMPT_TIMEOUT", &pb.EnqueueTask{AttemptTimeout: durationpb.New(1)}},
		{"ATTEMPT_TIMEOUT", &pb.EnqueueTask{AttemptTimeout: bad}},
		{"DELAY", &pb.EnqueueTask{Delay: durationpb.New(-1)}},
		{"DELAY", &pb.EnqueueTask{Delay: durationpb.New(366*24*time.Hour + 1)}},
		{"DELAY", &pb.EnqueueTask{Delay: &durationpb.Duration{}, RunAt: at(time.Hour)}},
		{"RUN_AT", &pb.EnqueueTask{RunAt: at(367 * 24 * time.Hour)}},
		{"RUN_AT", &pb.EnqueueTask{RunAt: &timestamppb.Timestamp{Seconds: math.MaxInt64}}},
		{"EXPIRE_TIME", &pb.EnqueueTask{ExpireTime: at(-time.Second)}},
		{"EXPIRE_TIME", &pb.EnqueueTask{ExpireTime: at(time.Hour), Delay: durationpb.New(2 * time.Hour)}},
		{"EXPIRE_TIME", &pb.EnqueueTask{ExpireTime: at(367 * 24 * time.Hour)}},
		{"EXPIRE_TIME", &pb.EnqueueTask{ExpireTime: &timestamppb.Timestamp{Seconds: 253402300799}}}, // the year 9999
		{"EXPIRE_TIME", &pb.EnqueueTask{ExpireTime: &timestamppb.Timestamp{Nanos: -1}}},
		{"TIME_TO_LIVE", &pb.EnqueueTask{ExpireTime: at(time.Hour), TimeToLive: minute}},
		{"TIME_TO_LIVE", &pb.EnqueueTask{TimeToLive: durationpb.New(1)}},
		{"TIME_TO_LIVE", &pb.EnqueueTask{TimeToLive: durationpb.New(366*24*time.Hour + 1)}},
		{"RETENTION", &pb.EnqueueTask{Retention: durationpb.New(time.Second - 1)}},
		{"RETENTION", &pb.EnqueueTask{Retention: durationpb.New(366*24*time.Hour + 1)}},
		{"RETENTION", &pb.EnqueueTask{Retention: durationpb.New(-1)}},
		{"BACKOFF_INITIAL", &pb.EnqueueTask{Backoff: &pb.Backoff{Initial: durationpb.New(1)}}},
		{"BACKOFF_INITIAL", &pb.EnqueueTask{Backoff: &pb.Backoff{Initial: durationpb.New(24*time.Hour + 1)}}},
		{"BACKOFF_MAXIMUM", &pb.EnqueueTask{Backoff: &pb.Backoff{Maximum: durationpb.New(-time.Second)}}},
		{"BACKOFF_MULTIPLIER", &pb.EnqueueTask{Backoff: &pb.Backoff{Multiplier: 0.5}}},
		{"BACKOFF_MULTIPLIER", &pb.EnqueueTask{Backoff: &pb.Backoff{Multiplier: 100.5}}},
		{"BACKOFF_MULTIPLIER", &pb.EnqueueTask{Backoff: &pb.Backoff{Multiplier: math.NaN()}}},
		{"BACKOFF_MULTIPLIER", &pb.EnqueueTask{Backoff: &pb.Backoff{Multiplier: math.Inf(1)}}},
		{"BACKOFF_JITTER", &pb.EnqueueTask{Backoff: &pb.Backoff{Jitter: -0.1}}},
		{"BACKOFF_JITTER", &pb.EnqueueTask{Backoff: &pb.Backoff{Jitter: 1.1}}},
		{"BACKOFF_JITTER", &pb.EnqueueTask{Backoff: &pb.Backoff{Jitter: math.NaN()}}},
	}
	req := &pb.EnqueueRequest{}
	for i, c := range cases {
		if c.task.Function == "" && i > 0 {
			c.task.Function = "f"
		}
		req.Tasks = append(req.Tasks, c.task, &pb.EnqueueTask{Function: "f", TaskId: fmt.Sprintf("good-%d", i)})
	}
	resp, err := h.tasks.Enqueue(h.ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		r, good := resp.Results[2*i], resp.Results[2*i+1]
		if e := r.Error; e == nil || codes.Code(e.Code) != codes.InvalidArgument || e.Reason != c.reason || e.Message == "" || r.TaskId != c.task.TaskId {
			t.Errorf("%v: got %v, want %s", c.task, r, c.reason)
		}
		if good.Error != nil || good.TaskId != fmt.Sprintf("good-%d", i) {
			t.Errorf("the good one after %v: %v", c.task, good)
		}
	}
	if n := len(k.records); n != len(cases) {
		t.Errorf("%d tasks were kept, want the %d good ones", n, len(cases))
	}
}

func TestEnqueueTakesOneToAThousand(t *testing.T) {
	h, k := serveShelf(t, dispatch.Options{})
	for n, ok := range map[int]bool{0: false, 1: true, 1000: true, 1001: false} {
		req := &pb.EnqueueRequest{}
		for i := range n {
			req.Tasks = append(req.Tasks, &pb.EnqueueTask{Function: "f", TaskId: fmt.Sprintf("%d-%d", n, i)})
		}
		resp, err := h.tasks.Enqueue(h.ctx, req)
		if !ok {
			wants(t, err, refused{codes.InvalidArgument, "TASKS", "tasks", false})
		} else if err != nil || len(resp.Results) != n || resp.Results[n-1].TaskId != fmt.Sprintf("%d-%d", n, n-1) {
			t.Errorf("%d tasks: %v, %v", n, resp, err)
		}
	}
	if resp, err := h.tasks.Enqueue(h.ctx, &pb.EnqueueRequest{Tasks: []*pb.EnqueueTask{{}}}); err != nil || resp.Results[0].Error == nil || len(k.batches) != 2 {
		t.Errorf("a batch of nothing good: %v, %v; want the inside not to be asked", resp, err)
	}
}

func TestEnqueueTellsWhatBecameOfEach(t *testing.T) {
	h, k := serveShelf(t, dispatch.Options{})
	k.refuses = map[string]error{
		"drain": dispatch.ErrDraining, "full": &dispatch.QueueFullError{Limit: "tasks waiting", Max: 9},
		"disk": &dispatch.StoreError{Cause: errors.New("no space left")}, "bug": errors.New("secret"), "made-b": dispatch.ErrDraining,
	}
	resp, err := h.tasks.Enqueue(h.ctx, &pb.EnqueueRequest{Tasks: []*pb.EnqueueTask{
		{Function: "f", TaskId: "a"}, {Function: "f", TaskId: "a"}, {Function: "g", TaskId: "a"}, {Function: "f", TaskId: "drain"},
		{Function: "f", TaskId: "full"}, {Function: "f", TaskId: "disk"}, {Function: "f", TaskId: "bug"}, {Function: "f"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		id      string
		existed bool
		code    codes.Code
		reason  string
		retry   bool
	}{
		{"a", false, 0, "", false}, {"a", true, 0, "", false}, {"a", false, codes.AlreadyExists, "TASK_ID_CONFLICT", false},
		{"drain", false, codes.Unavailable, "DRAINING", true}, {"full", false, codes.ResourceExhausted, "QUEUE_FULL", true},
		{"disk", false, codes.Unavailable, "STORE_UNAVAILABLE", true}, {"bug", false, codes.Internal, "INTERNAL", false},
		{"", false, codes.Unavailable, "DRAINING", true},
	} {
		r := resp.Results[i]
		if r.TaskId != want.id || r.Existed != want.existed || codes.Code(r.Error.GetCode()) != want.code ||
			r.Error.GetReason() != want.reason || r.Error.GetRetryAfterMs() > 0 != want.retry || strings.Contains(r.Error.GetMessage(), "secret") {
			t.Errorf("task %d: %v, want %+v", i, r, want)
		}
	}
	if m := resp.Results[4].Error.Metadata; m["limit"] != "9" {
		t.Errorf("metadata %v, want the limit", m)
	}
}

func TestEnqueueOfACallerThatIsGone(t *testing.T) {
	s := &taskService{refused: &refusals{log: slog.New(slog.DiscardHandler)}, keeper: &shelf{}, log: newTaskLog(Options{}.withDefaults(0).Log), limits: limits{dispatch.Options{
		MaxPayload: 1, DefaultMaxAttempts: 1, DefaultTTL: 1, MaxTTL: time.Hour, DefaultRetention: 1, MaxRetention: 1}}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Enqueue(ctx, &pb.EnqueueRequest{Tasks: []*pb.EnqueueTask{{Function: "f"}}})
	if status.Code(err) != codes.Canceled {
		t.Errorf("got %v, want CANCELLED", err)
	}
}

// FuzzEnqueue: whatever comes over the wire, each task has an answer in its
// place, and what is handed on is valid.
func FuzzEnqueue(f *testing.F) {
	for _, req := range []*pb.EnqueueRequest{
		{}, {Tasks: []*pb.EnqueueTask{{}}},
		{Tasks: []*pb.EnqueueTask{{Function: "f"}, {Function: "f", TaskId: "a", Delay: durationpb.New(5), Backoff: &pb.Backoff{Jitter: 0.5}}}},
		{Tasks: []*pb.EnqueueTask{{Function: "f", RunAt: &timestamppb.Timestamp{Seconds: 1 << 33}, ExpireTime: &timestamppb.Timestamp{Seconds: 1 << 34}}}},
		{Tasks: []*pb.EnqueueTask{{Function: "f", TimeToLive: durationpb.New(time.Hour), Retention: durationpb.New(time.Minute), Priority: 2, FreshId: true}}},
	} {
		b, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	l := limits{dispatch.Options{
		MaxPayload: 1 << 10, DefaultMaxAttempts: 3, DefaultTTL: 7 * 24 * time.Hour, MaxTTL: 366 * 24 * time.Hour,
		DefaultRetention: 24 * time.Hour, MaxRetention: 366 * 24 * time.Hour}}
	f.Fuzz(func(t *testing.T, data []byte) {
		req := &pb.EnqueueRequest{}
		if proto.Unmarshal(data, req) != nil {
			return
		}
		k := &shelf{records: map[string]*task.Record{}}
		s := &taskService{refused: &refusals{log: slog.New(slog.DiscardHandler)}, keeper: k, log: newTaskLog(Options{}.withDefaults(0).Log), limits: l}
		before := wallClock(time.Now())
		resp, err := s.Enqueue(t.Context(), req)
		if n := len(req.Tasks); err != nil || n == 0 || n > maxEnqueue {
			if err == nil || n > 0 && n <= maxEnqueue {
				t.Fatalf("%d tasks: %v", n, err)
			}
			return
		}
		if len(resp.Results) != len(req.Tasks) {
			t.Fatalf("%d answers to %d tasks", len(resp.Results), len(req.Tasks))
		}
		for i, r := range resp.Results {
			if r == nil || r.Error == nil && r.TaskId == "" || r.Error != nil && (r.Error.Reason == "" || r.Error.Reason == "INTERNAL") {
				t.Fatalf("task %v: %v", req.Tasks[i], r)
			}
		}
		for _, b := range k.batches {
			for i := range b {
				checkValid(t, &l, before, &b[i].Task)
			}
		}
	})
}

func checkValid(t *testing.T, l *limits, now time.Time, k *task.Task) {
	t.Helper()
	d := k.Durable
	start := now
	if !d.RunAt.IsZero() {
		start = d.RunAt
	}
	b := d.Backoff
	switch {
	case task.CheckFunction(k.Function) != nil, k.OwnID && task.CheckID(k.ID) != nil, task.CheckMetadata("m", k.Metadata) != nil,
		len(k.Payload) > l.MaxPayload, k.Priority < 1 || k.Priority > 5, k.MaxAttempts < 1 || k.MaxAttempts > 100,
		k.FreshID && !k.OwnID, k.AttemptTimeout < 0 || k.AttemptTimeout > l.MaxTTL,
		d.TTL <= 0 || d.TTL > l.MaxTTL, d.Retention < time.Second || d.Retention > l.MaxRetention,
		k.Deadline.Before(start.Add(d.TTL)), d.RunAt.After(now.Add(l.MaxTTL + time.Minute)),
		b.Initial < 0 || b.Initial > 24*time.Hour, b.Maximum < 0 || b.Maximum > 24*time.Hour,
		!(b.Jitter >= 0 && b.Jitter <= 1), b.Multiplier != 0 && !(b.Multiplier >= 1 && b.Multiplier <= 100):
		t.Fatalf("not valid: %+v %+v", k, d)
	}
}
