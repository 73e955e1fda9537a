package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"unicode/utf8"

	otelcodes "go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/task"
)

func recording() (*tracetest.SpanRecorder, *sdk.TracerProvider) {
	r := tracetest.NewSpanRecorder()
	return r, sdk.NewTracerProvider(sdk.WithSpanProcessor(r))
}

// span returns the only one that has ended.
func span(t *testing.T, r *tracetest.SpanRecorder) sdk.ReadOnlySpan {
	t.Helper()
	ended := r.Ended()
	if len(ended) != 1 || len(r.Started()) != 1 {
		t.Fatalf("%d spans were begun and %d have ended, want 1", len(r.Started()), len(ended))
	}
	return ended[0]
}

func said(s sdk.ReadOnlySpan, key string) string {
	for _, a := range s.Attributes() {
		if string(a.Key) == key {
			return a.Value.String()
		}
	}
	return ""
}

// header is a span's context as it goes over the wire.
func header(c trace.SpanContext) string { return fmt.Sprintf("00-%v-%v-01", c.TraceID(), c.SpanID()) }

const remote = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// The context travels beside the caller's metadata, and the span begins where the
// caller's ends.
func TestSubmitCarriesItsSpan(t *testing.T) {
	b := newBalancer(t)
	recorder, provider := recording()
	c := newTestClient(t, b, WithTracerProvider(provider))
	state, _ := trace.ParseTraceState("vendor=1")
	parent := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, TraceState: state,
	})
	metadata := map[string]string{"a": "b"}
	done := submitting(trace.ContextWithSpanContext(t.Context(), parent), c, Task{Function: "f", Metadata: metadata})
	s := b.stream()
	got := s.tasks(1)[0]
	s.answer(&pb.StreamOutcome{Number: got.GetNumber(), TaskId: "t", Attempt: 3, WorkerId: "w"})
	if e := wait(t, done); e.err != nil {
		t.Fatal(e.err)
	}
	made := span(t, recorder)
	if made.Name() != "submit f" || made.SpanKind() != trace.SpanKindClient || made.Parent().SpanID() != parent.SpanID() {
		t.Errorf("the span is %q, %v, below %v", made.Name(), made.SpanKind(), made.Parent().SpanID())
	}
	want := map[string]string{"a": "b", "traceparent": header(made.SpanContext()), "tracestate": "vendor=1"}
	if !maps.Equal(got.GetMetadata(), want) {
		t.Errorf("the task's metadata are %v, want %v", got.GetMetadata(), want)
	}
	if said(made, "messaging.message.id") != "t" || said(made, "reparto.worker_id") != "w" || said(made, "reparto.attempt") != "3" {
		t.Errorf("the span says %v", made.Attributes())
	}
	if len(metadata) != 1 {
		t.Errorf("the caller's metadata became %v", metadata)
	}
}

// A task that is handed on goes on with its trace, and keeps nothing of what it
// replaces.
func TestATaskThatIsHandedOnKeepsItsTrace(t *testing.T) {
	b := echoing(t)
	recorder, provider := recording()
	c := newTestClient(t, b, WithTracerProvider(provider))
	if _, err := c.Submit(t.Context(), Task{Function: "f", Metadata: map[string]string{"traceparent": remote}}); err != nil {
		t.Fatal(err)
	}
	if made := span(t, recorder); header(made.Parent()) != remote {
		t.Errorf("its parent is %v", header(made.Parent()))
	}
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled})
	ctx := trace.ContextWithSpanContext(t.Context(), parent)
	made, with := c.opt.begin(ctx, "submit", calling, "f", "", map[string]string{"traceparent": remote, "tracestate": "old=1"})
	if want := map[string]string{"traceparent": header(made.SpanContext())}; !maps.Equal(with, want) || made.SpanContext().TraceID() != parent.TraceID() {
		t.Errorf("the caller's own span gave way to the metadata's: %v, want %v", with, want)
	}
}

// A valid task stays one: what is too much for it is left out.
func TestAContextThatDoesNotFitIsLeftOut(t *testing.T) {
	state, _ := trace.ParseTraceState("v=" + strings.Repeat("x", 200))
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, TraceState: state,
	}))
	items := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprint("key", i)] = "v"
		}
		return m
	}
	bytes := func(n int) map[string]string { return map[string]string{"k": strings.Repeat("x", n-1)} }
	for _, c := range []struct {
		name          string
		m             map[string]string
		parent, state bool
	}{
		{"none", nil, true, true},
		{"62 entries", items(62), true, true},
		{"63 entries", items(63), true, false},
		{"64 entries", items(64), false, false},
		{"room for both", bytes(task.MaxMetadataBytes - 66 - 212), true, true},
		{"room for one", bytes(task.MaxMetadataBytes - 66), true, false},
		{"room for neither", bytes(task.MaxMetadataBytes - 65), false, false},
		{"too much already", bytes(task.MaxMetadataBytes + 1), false, false},
	} {
		before := maps.Clone(c.m)
		with := inject(ctx, c.m)
		_, parent := with["traceparent"]
		_, state := with["tracestate"]
		if parent != c.parent || state != c.state {
			t.Errorf("%s: traceparent %v, tracestate %v", c.name, parent, state)
		}
		if was, is := task.CheckMetadata("m", c.m), task.CheckMetadata("m", with); (was == nil) != (is == nil) {
			t.Errorf("%s: was %v, is %v", c.name, was, is)
		}
		if !maps.Equal(c.m, before) {
			t.Errorf("%s: the caller's were written to", c.name)
		}
	}
}

func TestAnErrorIsTheStatusOfTheSpan(t *testing.T) {
	for reason, outcome := range map[string]*pb.StreamOutcome{
		"BAD":        {Failure: &pb.Failure{Reason: "BAD", Message: "it is bad"}},
		"QUEUE_FULL": {Error: &pb.Error{Code: 8, Reason: "QUEUE_FULL", Message: "it is full"}},
	} {
		b := newBalancer(t)
		recorder, provider := recording()
		c := newTestClient(t, b, WithTracerProvider(provider))
		done := make(chan error, 1)
		c.SubmitFunc(t.Context(), Task{Function: "f"}, func(_ Outcome, err error) {
			if len(recorder.Ended()) != 1 {
				t.Error("done was called before the span had ended")
			}
			done <- err
		})
		s := b.stream()
		outcome.Number = s.tasks(1)[0].GetNumber()
		s.answer(outcome)
		if err := waitFor(t, done); err == nil {
			t.Fatal("no error")
		}
		if made := span(t, recorder); made.Status().Code != otelcodes.Error || !strings.HasPrefix(made.Status().Description, "it is ") || said(made, "error.type") != reason {
			t.Errorf("%s: the span ends with %v and %v", reason, made.Status(), made.Attributes())
		}
	}
}

// begun tells of each span that begins.
type begun chan struct{}

func (b begun) OnStart(context.Context, sdk.ReadWriteSpan) { b <- struct{}{} }
func (begun) OnEnd(sdk.ReadOnlySpan)                       {}
func (begun) Shutdown(context.Context) error               { return nil }
func (begun) ForceFlush(context.Context) error             { return nil }

// Whatever becomes of a call, its span ends.
func TestEverySpanEnds(t *testing.T) {
	recorder, begun := tracetest.NewSpanRecorder(), make(begun, 10)
	c := New(nowhere(t), WithTracerProvider(sdk.NewTracerProvider(sdk.WithSpanProcessor(recorder), sdk.WithSpanProcessor(begun))))
	ctx, cancel := context.WithCancel(t.Context())
	done := submitting(ctx, c, Task{Function: "waits"})
	waitFor(t, begun)
	if _, err := c.Submit(t.Context(), Task{Function: "\xff"}); err == nil {
		t.Error("a function that is not UTF-8 was taken")
	}
	waitFor(t, begun)
	cancel()
	wait(t, done)
	ctx, cancel = context.WithCancel(t.Context())
	enqueued := enqueuedLater(ctx, c, DurableTask{Function: "waits"})
	waitFor(t, begun)
	cancel()
	waitFor(t, enqueued)
	c.Close()
	told := make(chan error, 1)
	c.SubmitFunc(t.Context(), Task{Function: "f"}, func(_ Outcome, err error) { told <- err })
	wantError(t, waitFor(t, told), "CLIENT_CLOSED")
	if started, ended := len(recorder.Started()), len(recorder.Ended()); started != ended || ended != 4 {
		t.Errorf("%d spans have ended of %d", ended, started)
	}
	for _, s := range recorder.Ended() {
		if s.Status().Code != otelcodes.Error || !utf8.ValidString(s.Name()) {
			t.Errorf("%q ends with %v", s.Name(), s.Status())
		}
	}
}

func TestEnqueueCarriesItsSpan(t *testing.T) {
	k := newKeeper(t)
	recorder, provider := recording()
	c := k.client(WithTracerProvider(provider))
	tasks := []DurableTask{{Function: "f", ID: "a"}, {Function: "f", ID: "b"}}
	for _, r := range c.EnqueueAll(t.Context(), tasks) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	want := map[string]string{}
	for _, s := range recorder.Ended() {
		if s.Name() != "enqueue f" || s.SpanKind() != trace.SpanKindProducer {
			t.Errorf("the span is %q, %v", s.Name(), s.SpanKind())
		}
		want[said(s, "messaging.message.id")] = header(s.SpanContext())
	}
	got := map[string]string{}
	for _, r := range k.requests {
		for _, w := range r.GetTasks() {
			got[w.GetTaskId()] = w.GetMetadata()["traceparent"]
		}
	}
	if len(want) != 2 || !maps.Equal(got, want) {
		t.Errorf("the tasks carry %v, want %v", got, want)
	}
	if tasks[0].Metadata != nil {
		t.Errorf("the caller's task was written to: %v", tasks[0])
	}
}

// A provider of nil, also as an option, is none.
func TestWithoutAProviderNothingIsAdded(t *testing.T) {
	b := newBalancer(t)
	c := newTestClient(t, b, WithTracerProvider(nil))
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}}))
	done := submitting(ctx, c, Task{Function: "f"})
	s := b.stream()
	got := s.tasks(1)[0]
	if len(got.GetMetadata()) != 0 {
		t.Errorf("the task has metadata %v", got.GetMetadata())
	}
	s.answer(&pb.StreamOutcome{Number: got.GetNumber(), Failure: &pb.Failure{Reason: "NO"}})
	if e, ok := errors.AsType[*TaskError](wait(t, done).err); !ok || e.Reason != "NO" {
		t.Error("no outcome")
	}
}
