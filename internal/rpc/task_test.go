package rpc

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/balance"
	"reparto/internal/dispatch"
	"reparto/internal/task"
)

func TestSubmitRefusesWhatIsInvalid(t *testing.T) {
	h := serve(t, dispatch.Options{MaxPayload: 100}, Options{})
	for what, c := range map[string]struct {
		req  *pb.SubmitRequest
		want refused
	}{
		"no function":        {&pb.SubmitRequest{}, refused{codes.InvalidArgument, "FUNCTION", "function", false}},
		"bad function":       {&pb.SubmitRequest{Function: "a b"}, refused{codes.InvalidArgument, "FUNCTION", "function", false}},
		"long function":      {&pb.SubmitRequest{Function: strings.Repeat("f", 129)}, refused{codes.InvalidArgument, "FUNCTION", "function", false}},
		"bad id":             {&pb.SubmitRequest{Function: "f", TaskId: "a/b"}, refused{codes.InvalidArgument, "TASK_ID", "task_id", false}},
		"long id":            {&pb.SubmitRequest{Function: "f", TaskId: strings.Repeat("i", 129)}, refused{codes.InvalidArgument, "TASK_ID", "task_id", false}},
		"text and payload":   {&pb.SubmitRequest{Function: "f", Payload: []byte("x"), Text: proto.String("y")}, refused{codes.InvalidArgument, "PAYLOAD", "payload", false}},
		"payload too large":  {&pb.SubmitRequest{Function: "f", Payload: make([]byte, 101)}, refused{codes.InvalidArgument, "PAYLOAD_TOO_LARGE", "payload", false}},
		"text too large":     {&pb.SubmitRequest{Function: "f", Text: proto.String(strings.Repeat("x", 101))}, refused{codes.InvalidArgument, "PAYLOAD_TOO_LARGE", "payload", false}},
		"empty key":          {&pb.SubmitRequest{Function: "f", Metadata: map[string]string{"": "x"}}, refused{codes.InvalidArgument, "METADATA", "metadata", false}},
		"much metadata":      {&pb.SubmitRequest{Function: "f", Metadata: map[string]string{"k": strings.Repeat("x", 16<<10)}}, refused{codes.InvalidArgument, "METADATA", "metadata", false}},
		"negative timeout":   {&pb.SubmitRequest{Function: "f", Timeout: durationpb.New(-1)}, refused{codes.InvalidArgument, "TIMEOUT", "timeout", false}},
		"short timeout":      {&pb.SubmitRequest{Function: "f", Timeout: durationpb.New(time.Millisecond - 1)}, refused{codes.InvalidArgument, "TIMEOUT", "timeout", false}},
		"long timeout":       {&pb.SubmitRequest{Function: "f", Timeout: durationpb.New(24*time.Hour + 1)}, refused{codes.InvalidArgument, "TIMEOUT", "timeout", false}},
		"no duration":        {&pb.SubmitRequest{Function: "f", Timeout: &durationpb.Duration{Seconds: 1, Nanos: -1}}, refused{codes.InvalidArgument, "TIMEOUT", "timeout", false}},
		"attempt timeout":    {&pb.SubmitRequest{Function: "f", AttemptTimeout: durationpb.New(-1)}, refused{codes.InvalidArgument, "ATTEMPT_TIMEOUT", "attempt_timeout", false}},
		"attempt no time":    {&pb.SubmitRequest{Function: "f", AttemptTimeout: &durationpb.Duration{Nanos: 1e9}}, refused{codes.InvalidArgument, "ATTEMPT_TIMEOUT", "attempt_timeout", false}},
		"negative attempts":  {&pb.SubmitRequest{Function: "f", MaxAttempts: -1}, refused{codes.InvalidArgument, "MAX_ATTEMPTS", "max_attempts", false}},
		"too many attempts":  {&pb.SubmitRequest{Function: "f", MaxAttempts: 101}, refused{codes.InvalidArgument, "MAX_ATTEMPTS", "max_attempts", false}},
		"priority below":     {&pb.SubmitRequest{Function: "f", Priority: -1}, refused{codes.InvalidArgument, "PRIORITY", "priority", false}},
		"priority above":     {&pb.SubmitRequest{Function: "f", Priority: 6}, refused{codes.InvalidArgument, "PRIORITY", "priority", false}},
		"fail fast, no help": {&pb.SubmitRequest{Function: "f", FailFast: true}, refused{codes.Unavailable, "NO_WORKER", "", true}},
	} {
		t.Run(what, func(t *testing.T) {
			_, err := h.tasks.Submit(h.ctx, c.req)
			wants(t, err, c.want)
		})
	}
	if n := h.d.Info(); n.Queued != 0 {
		t.Errorf("%+v: a refused task was kept", n.Counts)
	}
}

func TestSubmitTakesWhatIsAtTheLimits(t *testing.T) {
	h := serve(t, dispatch.Options{MaxPayload: 100}, Options{})
	h.worker("w1", 4, "f", strings.Repeat("f", 128)).work(echo)
	for what, req := range map[string]*pb.SubmitRequest{
		"payload":   {Function: "f", Payload: make([]byte, 100)},
		"names":     {Function: strings.Repeat("f", 128), TaskId: strings.Repeat("i", 128)},
		"timeouts":  {Function: "f", Timeout: durationpb.New(24 * time.Hour), AttemptTimeout: durationpb.New(24 * time.Hour)},
		"attempts":  {Function: "f", MaxAttempts: 100},
		"empty":     {Function: "f"},
		"zero time": {Function: "f", Timeout: durationpb.New(0), AttemptTimeout: durationpb.New(0)},
	} {
		resp, err := h.tasks.Submit(h.ctx, req)
		if err != nil || len(resp.Result) != len(req.Payload) || resp.Failure != nil || resp.Text != nil {
			t.Errorf("%s: %v, %v", what, resp, err)
		}
	}
}

func TestSubmitAnswersWithTheOutcome(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	w := h.worker("w1", 1, "sum")
	got := submitting(h, &pb.SubmitRequest{Function: "sum", TaskId: "mine", Payload: []byte("1,2"), Metadata: map[string]string{"k": "v"}, Timeout: durationpb.New(time.Minute)})
	a := w.task()
	if a.TaskId != "mine" || string(a.Payload) != "1,2" || a.Metadata["k"] != "v" || a.Function != "sum" || a.Attempt != 1 ||
		a.TimeRemainingMs <= 0 || a.TimeRemainingMs > 20_000 { // the call's own deadline is sooner than its timeout
		t.Fatalf("assignment %v", a)
	}
	w.answer(a, "3")
	if r := <-got; r.err != nil || r.resp.TaskId != "mine" || string(r.resp.Result) != "3" || r.resp.WorkerId != "w1" || r.resp.Attempt != 1 {
		t.Fatalf("%v, %v", r.resp, r.err)
	}
	resp, err := h.tasks.Submit(h.ctx, &pb.SubmitRequest{Function: "sum", TaskId: "mine", Payload: []byte("1,2"), Metadata: map[string]string{"k": "v"}})
	if err != nil || string(resp.Result) != "3" {
		t.Fatalf("asked again: %v, %v", resp, err)
	}
	_, err = h.tasks.Submit(h.ctx, &pb.SubmitRequest{Function: "sum", TaskId: "mine", Payload: []byte("9")})
	wants(t, err, refused{codes.AlreadyExists, "TASK_ID_CONFLICT", "", false})
}

func TestVerdictIsAnAnswer(t *testing.T) {
	h := serve(t, dispatch.Options{MaxPayload: 10}, Options{})
	w := h.worker("w1", 1, "sum")
	got := submitting(h, &pb.SubmitRequest{Function: "sum", Text: proto.String("x"), MaxAttempts: 1})
	w.fail(w.task(), &pb.Failure{Message: "no number", Retry: true, RetryAfterMs: -5})
	if r := <-got; r.err != nil || r.resp.Failure.GetReason() != "HANDLER_ERROR" || r.resp.Failure.Message != "no number" ||
		!r.resp.Failure.Retry || r.resp.Failure.RetryAfterMs != 0 || r.resp.Text != nil || r.resp.Result != nil {
		t.Fatalf("%v, %v", r.resp, r.err)
	}
	got = submitting(h, &pb.SubmitRequest{Function: "sum"})
	w.answer(w.task(), "eleven byte")
	if r := <-got; r.err != nil || r.resp.Failure.GetReason() != task.ReasonResultTooLarge {
		t.Fatalf("%v, %v", r.resp, r.err)
	}
}

func TestTextComesBackAsText(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	w := h.worker("w1", 1, "f")
	for _, c := range []struct {
		text   *string
		result string
		asText bool
	}{
		{proto.String("ñ"), "né", true},
		{proto.String(""), "", true},
		{proto.String("x"), "\xff\xfe", false},
		{nil, "plain", false},
	} {
		got := submitting(h, &pb.SubmitRequest{Function: "f", Text: c.text})
		a := w.task()
		if c.text != nil && string(a.Payload) != *c.text {
			t.Fatalf("the worker got %q for the text %q", a.Payload, *c.text)
		}
		w.answer(a, c.result)
		r := <-got
		if r.err != nil {
			t.Fatal(r.err)
		}
		if (r.resp.Text != nil) != c.asText || r.resp.GetText()+string(r.resp.Result) != c.result {
			t.Errorf("%q came back as %v, want text=%v", c.result, r.resp, c.asText)
		}
	}
}

func TestTaskExpires(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	_, err := h.tasks.Submit(h.ctx, &pb.SubmitRequest{Function: "f", Timeout: durationpb.New(time.Millisecond)})
	if m := wants(t, err, refused{codes.DeadlineExceeded, "TASK_EXPIRED", "", false}); m["state"] != "QUEUED" {
		t.Errorf("metadata %v, want QUEUED", m)
	}
	w := h.worker("w1", 1, "f")
	got := submitting(h, &pb.SubmitRequest{Function: "f", Timeout: durationpb.New(50 * time.Millisecond)})
	a := w.task()
	if m := wants(t, (<-got).err, refused{codes.DeadlineExceeded, "TASK_EXPIRED", "", false}); m["state"] != "RUNNING" {
		t.Errorf("metadata %v, want RUNNING", m)
	}
	if c := w.cancelled(); c.Token != a.Token || c.Reason != task.CancelDeadline {
		t.Errorf("cancel %v, want %v for DEADLINE", c, a)
	}
}

func TestCallersDeadlineIsTheTasks(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	ctx, cancel := context.WithTimeout(h.ctx, 50*time.Millisecond)
	defer cancel()
	_, err := h.tasks.Submit(ctx, &pb.SubmitRequest{Function: "f", Timeout: durationpb.New(time.Hour)})
	if status.Code(err) != codes.DeadlineExceeded {
		t.Fatal(err)
	}
	h.eventually("the task leaves the queue", func() bool { return h.d.Info().Queued == 0 })
}

func TestCallerThatGoesAwayCancels(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	ctx, cancel := context.WithCancel(h.ctx)
	queued := h.submit(ctx, &pb.SubmitRequest{Function: "f"})
	h.eventually("the task is queued", func() bool { return h.d.Info().Queued == 1 })
	cancel()
	if r := <-queued; status.Code(r.err) != codes.Canceled {
		t.Fatal(r.err)
	}
	h.eventually("the task leaves the queue", func() bool { return h.d.Info().Queued == 0 })

	w := h.worker("w1", 1, "f")
	ctx, cancel = context.WithCancel(h.ctx)
	running := h.submit(ctx, &pb.SubmitRequest{Function: "f"})
	a := w.task()
	cancel()
	<-running
	if c := w.cancelled(); c.Token != a.Token || c.TaskId != a.TaskId || c.Reason != task.CancelClientGone {
		t.Fatalf("cancel %v, want %v for CLIENT_GONE", c, a)
	}
	w.fail(a, &pb.Failure{Reason: "CANCELLED"})
	next := submitting(h, &pb.SubmitRequest{Function: "f"}) // the slot is free again
	w.answer(w.task(), "x")
	if r := <-next; r.err != nil {
		t.Fatal(r.err)
	}
}

func TestQueueFull(t *testing.T) {
	h := serve(t, dispatch.Options{Balance: balance.Options{MaxQueuedTasks: 1}}, Options{})
	submitting(h, &pb.SubmitRequest{Function: "f"})
	h.eventually("the task is queued", func() bool { return h.d.Info().Queued == 1 })
	_, err := h.tasks.Submit(h.ctx, &pb.SubmitRequest{Function: "f"})
	if m := wants(t, err, refused{codes.ResourceExhausted, "QUEUE_FULL", "", true}); m["limit"] != "1" {
		t.Errorf("metadata %v, want the limit of 1", m)
	}
}

func TestMessageOverTheTransportsLimit(t *testing.T) {
	h := serve(t, dispatch.Options{MaxPayload: 1000}, Options{MaxMessage: 4000})
	_, err := h.tasks.Submit(h.ctx, &pb.SubmitRequest{Function: "f", Payload: make([]byte, 3900)})
	wants(t, err, refused{codes.InvalidArgument, "PAYLOAD_TOO_LARGE", "payload", false})
	_, err = h.tasks.Submit(h.ctx, &pb.SubmitRequest{Function: "f", Payload: make([]byte, 4000)})
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "4000") {
		t.Fatalf("%v, want RESOURCE_EXHAUSTED that names the limit of 4000", err)
	}
}

type submitted struct {
	resp *pb.SubmitResponse
	err  error
}

// submitting calls Submit in the background.
func submitting(h *house, req *pb.SubmitRequest) <-chan submitted { return h.submit(h.ctx, req) }

func (h *house) submit(ctx context.Context, req *pb.SubmitRequest) <-chan submitted {
	got := make(chan submitted, 1)
	go func() {
		resp, err := h.tasks.Submit(ctx, req)
		got <- submitted{resp, err}
	}()
	return got
}
