package worker

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	pb "reparto/gen/reparto/v1"
)

const remote = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// traced runs h for one task, and returns its span and its answer.
func traced(t *testing.T, h Handler, metadata map[string]string, options ...sdk.TracerProviderOption) (sdk.ReadOnlySpan, *pb.TaskResult) {
	t.Helper()
	recorder := tracetest.NewSpanRecorder()
	provider := sdk.NewTracerProvider(append(options, sdk.WithSpanProcessor(recorder))...)
	a := assignment("f", 1)
	a.Metadata = metadata
	r := handled(t, h, Options{ID: "w", TracerProvider: provider}, a, nil)
	spans := recorder.Ended()
	if len(spans) != 1 {
		t.Fatalf("%d spans have ended, want 1", len(spans))
	}
	return spans[0], r
}

// The handler's context is within the span, which is the child of what the metadata
// name, and is still the task's: with its deadline, its end and its progress.
func TestAHandlerRunsInItsSpan(t *testing.T) {
	var within trace.SpanContext
	s, r := traced(t, func(ctx context.Context, task Task) ([]byte, error) {
		within = trace.SpanContextFromContext(ctx)
		if _, ok := ctx.Deadline(); !ok || ctx.Err() != nil {
			t.Error("the context has no deadline, or is over")
		}
		if j, ok := ctx.Value(jobKey{}).(*job); !ok || j.answer.TaskId != task.ID {
			t.Error("progress can't be reported")
		}
		derived, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		return task.Payload, derived.Err()
	}, map[string]string{"traceparent": remote, "tracestate": "v=1"})
	wantResult(t, r, 1, "in")
	if s.Name() != "process f" || s.SpanKind() != trace.SpanKindConsumer || !s.SpanContext().Equal(within) {
		t.Errorf("the span is %q, %v, and the handler was in %v", s.Name(), s.SpanKind(), within)
	}
	if got := s.Parent().TraceID().String() + " " + s.Parent().SpanID().String() + " " + s.Parent().TraceState().String(); got != "4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7 v=1" {
		t.Errorf("its parent is %s", got)
	}
	if s.Status().Code == codes.Error {
		t.Errorf("it ended with %v", s.Status())
	}
	says := map[string]string{}
	for _, a := range s.Attributes() {
		says[string(a.Key)] = a.Value.String()
	}
	for key, want := range map[string]string{
		"messaging.destination.name": "f", "messaging.message.id": taskID(1), "reparto.attempt": "2", "reparto.worker_id": "w",
	} {
		if says[key] != want {
			t.Errorf("%s is %q, want %q", key, says[key], want)
		}
	}
}

func TestAFailureIsTheStatusOfTheSpan(t *testing.T) {
	for reason, h := range map[string]Handler{
		"HANDLER_ERROR": func(context.Context, Task) ([]byte, error) { return nil, errors.New("it broke") },
		"BUSY":          func(context.Context, Task) ([]byte, error) { return nil, Retry(Fail("BUSY", errors.New("later")), 0) },
		"PANIC":         func(context.Context, Task) ([]byte, error) { panic("oh") },
		"PANIC ":        func(context.Context, Task) ([]byte, error) { runtime.Goexit(); return nil, nil },
	} {
		s, r := traced(t, h, nil)
		if s.Status().Code != codes.Error || s.Status().Description != r.GetFailure().GetMessage() {
			t.Errorf("%s: the span ended with %v, the task with %v", reason, s.Status(), r.GetFailure())
		}
		if s.Parent().IsValid() {
			t.Errorf("%s: a task without a trace has the parent %v", reason, s.Parent())
		}
	}
}

// Run's own span is none of the tasks' business, nor is what is no W3C context.
func TestATaskOfNoTraceBeginsOne(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(recorder))
	ctx, own := provider.Tracer("test").Start(t.Context(), "run")
	p := newPool(ctx, Handlers{"f": echo}, &Options{Slots: 1, TracerProvider: provider}, nil)
	for _, header := range []string{"", "what?"} {
		a := assignment("f", 1)
		a.Metadata = map[string]string{"traceparent": header}
		if err := newJob(p, a, time.Now()).run(); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range recorder.Ended() {
		if s.Parent().IsValid() || s.SpanContext().TraceID() == own.SpanContext().TraceID() {
			t.Errorf("%s is below %v", s.Name(), s.Parent())
		}
	}
	if n := len(recorder.Ended()); n != 2 {
		t.Errorf("%d spans have ended, want 2", n)
	}
}

// The client's word on sampling is the worker's too.
func TestWhatTheClientDoesNotSampleIsNot(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	p := newPool(t.Context(), Handlers{"f": echo}, &Options{Slots: 1, TracerProvider: sdk.NewTracerProvider(sdk.WithSpanProcessor(recorder))}, nil)
	a := assignment("f", 1)
	a.Metadata = map[string]string{"traceparent": remote[:len(remote)-1] + "0"}
	if err := newJob(p, a, time.Now()).run(); err != nil {
		t.Fatal(err)
	}
	if n := len(recorder.Ended()); n != 0 {
		t.Errorf("%d spans were recorded", n)
	}
}

// A job costs what its context and its answer do, which is one allocation, and
// without a provider its running none.
func TestWithoutAProviderRunningAllocatesNothing(t *testing.T) {
	p := newPool(t.Context(), Handlers{"f": echo}, &Options{Slots: 1}, nil)
	a, now := assignment("f", 1), time.Now()
	a.Metadata = map[string]string{"traceparent": remote}
	allocations := testing.AllocsPerRun(1000, func() {
		if err := newJob(p, a, now).run(); err != nil {
			t.Fatal(err)
		}
	})
	if allocations > 1 {
		t.Errorf("a task costs %v allocations, want 1", allocations)
	}
}
