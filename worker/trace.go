package worker

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	pb "reparto/gen/reparto/v1"
)

// tracing makes the spans of a Run.
type tracing struct {
	tracer   trace.Tracer
	workerID string
}

var w3c propagation.TraceContext

func newTracing(o *Options) *tracing {
	if o.TracerProvider == nil {
		return nil
	}
	return &tracing{tracer: o.TracerProvider.Tracer("reparto/worker"), workerID: o.ID}
}

var (
	consumer = trace.WithSpanKind(trace.SpanKindConsumer)
	newRoot  = trace.WithNewRoot()
)

// begin starts the span of a job, and returns its handler's context. A task that
// belongs to no trace begins one: whatever span Run's own context has, it is none
// of the task's.
func (t *tracing) begin(j *job) context.Context {
	function := text(j.function)
	about := trace.WithAttributes(
		attribute.String("messaging.system", "reparto"),
		attribute.String("messaging.operation.type", "process"),
		attribute.String("messaging.destination.name", function),
		attribute.String("messaging.message.id", text(j.answer.TaskId)),
		attribute.Int("reparto.attempt", int(j.answer.Attempt)),
		attribute.String("reparto.worker_id", t.workerID),
	)
	ctx := w3c.Extract(j, propagation.MapCarrier(j.metadata))
	if ctx == context.Context(j) { // there was nothing to be found
		ctx, _ = t.tracer.Start(j, "process "+function, consumer, about, newRoot)
		return ctx
	}
	ctx, _ = t.tracer.Start(ctx, "process "+function, consumer, about)
	return ctx
}

// endSpan ends the span of a handler's context. A failure becomes its status.
func endSpan(ctx context.Context, f *pb.Failure, abandoned error) {
	span := trace.SpanFromContext(ctx)
	switch {
	case f != nil:
		span.SetAttributes(attribute.String("error.type", text(f.GetReason())))
		span.SetStatus(codes.Error, text(f.GetMessage()))
	case abandoned != nil:
		span.SetAttributes(attribute.String("error.type", "ABANDONED"))
		span.SetStatus(codes.Error, text(abandoned.Error()))
	}
	span.End()
}

// maxSpanText is how much of a text goes into a span, in bytes.
const maxSpanText = 1024

// text makes a text fit for a span: one that is not UTF-8 would spoil all that are
// exported with it.
func text(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxSpanText)], "\uFFFD")
}
