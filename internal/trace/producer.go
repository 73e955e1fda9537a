package trace

import (
	"context"
	"maps"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"reparto/internal/task"
)

// Enqueue makes the span of a task that a command enqueues without the SDK. It
// returns the metadata that the task is to travel with, and what ends the span; the
// metadata given are not written to.
func (p *Provider) Enqueue(ctx context.Context, function string, metadata map[string]string) (map[string]string, func(taskID, refusal string)) {
	if p == nil {
		return metadata, func(string, string) {}
	}
	if metadata[task.TraceParent] != "" {
		ctx = w3c.Extract(ctx, propagation.MapCarrier(metadata))
	}
	ctx, span := p.sdk.Tracer("reparto/client").Start(ctx, "enqueue "+text(function), trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(
			attribute.String("messaging.system", "reparto"),
			attribute.String("messaging.operation.type", "send"),
			attribute.String("messaging.destination.name", text(function)),
		))
	end := func(taskID, refusal string) {
		span.SetAttributes(attribute.String("messaging.message.id", text(taskID)))
		if refusal != "" {
			failed(span, "REFUSED", refusal)
		}
		span.End()
	}
	with := make(map[string]string, len(metadata)+2)
	maps.Copy(with, metadata)
	delete(with, task.TraceState)
	w3c.Inject(ctx, propagation.MapCarrier(with))
	if task.CheckMetadata("metadata", with) != nil { // the task matters more
		with = metadata
	}
	return with, end
}
