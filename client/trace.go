package client

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// WithTracerProvider has the Client make an OpenTelemetry span of each task: of
// kind CLIENT from Submit or SubmitFunc to the outcome, of kind PRODUCER from
// Enqueue to the task's being on disk. The span is a child of the one in the
// context, or in the task's metadata where the context has none.
//
// The W3C context (traceparent, tracestate) travels in the task's metadata, and
// replaces what is there under these keys. What would make the metadata larger
// than a balancer takes is left out. Default, and for nil: no spans, at no cost.
func WithTracerProvider(p trace.TracerProvider) Option {
	return func(c *options) {
		if c.tracer = nil; p != nil {
			c.tracer = p.Tracer("reparto/client")
		}
	}
}

// What a balancer takes as metadata, and the keys of a W3C context.
const (
	maxMetadataItems = 64
	maxMetadataBytes = 16 << 10

	traceParent = "traceparent"
	traceState  = "tracestate"
)

var w3c propagation.TraceContext

// The kinds of spans.
var (
	calling   = trace.WithSpanKind(trace.SpanKindClient)
	producing = trace.WithSpanKind(trace.SpanKindProducer)
)

// begin starts the span of a task, and returns the metadata that the task is to
// travel with. Those given are not written to.
func (o *options) begin(ctx context.Context, verb string, kind trace.SpanStartOption, function, id string, metadata map[string]string) (trace.Span, map[string]string) {
	if metadata[traceParent] != "" && !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = w3c.Extract(ctx, propagation.MapCarrier(metadata))
	}
	function = text(function)
	attributes := make([]attribute.KeyValue, 3, 4)
	attributes[0] = attribute.String("messaging.system", "reparto")
	attributes[1] = attribute.String("messaging.operation.type", "send")
	attributes[2] = attribute.String("messaging.destination.name", function)
	if id != "" {
		attributes = append(attributes, attribute.String("messaging.message.id", text(id)))
	}
	ctx, span := o.tracer.Start(ctx, verb+" "+function, kind, trace.WithAttributes(attributes...))
	return span, inject(ctx, metadata)
}

// inject returns the metadata with the W3C context in it, as much of it as fits.
func inject(ctx context.Context, metadata map[string]string) map[string]string {
	carrier := propagation.MapCarrier{}
	w3c.Inject(ctx, carrier)
	if len(carrier) == 0 {
		return metadata
	}
	if len(metadata) == 0 {
		return carrier
	}
	with := make(map[string]string, len(metadata)+len(carrier))
	maps.Copy(with, metadata)
	delete(with, traceState) // it belongs to the parent that was there
	maps.Copy(with, carrier)
	if !fits(with) {
		delete(with, traceState)
	}
	if !fits(with) {
		return metadata
	}
	return with
}

func fits(metadata map[string]string) bool {
	size := 0
	for k, v := range metadata {
		size += len(k) + len(v)
	}
	return len(metadata) <= maxMetadataItems && size <= maxMetadataBytes
}

// submitTraced is submit with a span around it.
func (c *Client) submitTraced(ctx context.Context, k *call) (Outcome, error) {
	var span trace.Span
	span, k.task.Metadata = c.opt.begin(ctx, "submit", calling, k.task.Function, k.task.ID, k.task.Metadata)
	out, err := c.submit(ctx, k)
	endSubmit(span, out, err)
	return out, err
}

// trace makes a span of a call of SubmitFunc, which ends before done is called, and
// returns the function that is to be called instead.
func (t *Task) trace(ctx context.Context, o *options, done func(Outcome, error)) func(Outcome, error) {
	var span trace.Span
	span, t.Metadata = o.begin(ctx, "submit", calling, t.Function, t.ID, t.Metadata)
	return func(out Outcome, err error) {
		endSubmit(span, out, err)
		done(out, err)
	}
}

func endSubmit(span trace.Span, out Outcome, err error) {
	if span.IsRecording() {
		if e, ok := errors.AsType[*TaskError](err); ok { // a verdict too
			out = Outcome{TaskID: e.TaskID, Attempt: e.Attempt, WorkerID: e.WorkerID}
		}
		if out.TaskID != "" {
			span.SetAttributes(attribute.String("messaging.message.id", text(out.TaskID)))
		}
		if out.Attempt > 0 {
			span.SetAttributes(attribute.Int("reparto.attempt", out.Attempt), attribute.String("reparto.worker_id", text(out.WorkerID)))
		}
	}
	endSpan(span, err)
}

// endSpan ends a span; an error becomes its status.
func endSpan(span trace.Span, err error) {
	if err != nil && span.IsRecording() {
		reason := "ERROR"
		if e, ok := errors.AsType[*TaskError](err); ok {
			reason = cmp.Or(e.Reason, reason)
		} else if e, ok := errors.AsType[*Error](err); ok {
			reason = cmp.Or(e.Reason, e.Code.String())
		}
		span.SetAttributes(attribute.String("error.type", text(reason)))
		span.SetStatus(codes.Error, text(err.Error()))
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
