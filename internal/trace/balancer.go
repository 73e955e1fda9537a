// Package trace shows the way of tasks as OpenTelemetry traces: it makes the
// balancer's spans, and sends those of a command to a collector.
//
//	p, err := trace.Open(ctx, trace.Options{Service: "reparto-balancer"})
//	defer p.Close()                    // p is nil, and well, when nobody wants traces
//	dispatch.Options{Tracer: p.Balancer()}
//	client.WithTracerProvider(p.Tracers())
package trace

import (
	"context"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"reparto/internal/dispatch"
	"reparto/internal/task"
)

var w3c propagation.TraceContext

var producing = trace.WithSpanKind(trace.SpanKindProducer)

// balancer makes the spans of tasks whose client wants them: those with a W3C
// context that is sampled. A span "queue" is as long as the task waits, a span
// "attempt N" as long as a worker has it; both are children of the client's.
//
// Spans are made under the dispatcher's mutex, some 8 µs for a sampled task in all
// (see docs/tracing.md): that is no I/O and no waiting, since a batch span processor
// drops what its queue has no room for. So whoever has very many tasks samples.
type balancer struct{ tracer trace.Tracer }

// NewBalancer makes spans with the provider, whose processors must not block.
func NewBalancer(p trace.TracerProvider) dispatch.Tracer {
	return &balancer{p.Tracer("reparto/balancer")}
}

// Follow implements dispatch.Tracer.
func (b *balancer) Follow(t *task.Task, since time.Time) dispatch.Trail {
	if !sampled(t.Metadata[task.TraceParent]) {
		return nil
	}
	// It carries values alone, and nobody waits for its end.
	ctx := w3c.Extract(context.Background(), propagation.MapCarrier(t.Metadata))
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return nil
	}
	return &trail{
		tracer: b.tracer, parent: ctx, hasState: t.Metadata[task.TraceState] != "", since: since,
		function: t.Function, id: t.ID,
	}
}

// sampled looks for the flag in a traceparent, without judging the rest:
//
//	00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
func sampled(traceparent string) bool {
	const last = 54
	if len(traceparent) <= last {
		return false
	}
	flags, err := strconv.ParseUint(traceparent[last:last+1], 16, 8)
	return err == nil && flags&1 == 1
}

// trail is a task's. It is either waiting, or has a span for its attempt.
type trail struct {
	tracer   trace.Tracer
	parent   context.Context // a client's span; no more than that
	hasState bool
	function string
	id       string

	since   time.Time // when it began to wait
	why     string    // it waits again
	reason  string
	attempt trace.Span // nil while it waits
}

// Assigned implements dispatch.Trail.
func (t *trail) Assigned(h dispatch.Handing) map[string]string {
	now := time.Now()
	t.waited(now, nil)
	ctx, span := t.tracer.Start(t.parent, "attempt "+strconv.Itoa(h.Attempt), trace.WithTimestamp(now), producing,
		trace.WithAttributes(attribute.String("messaging.system", "reparto"), attribute.String("messaging.destination.name", t.function),
			attribute.String("messaging.message.id", t.id), attribute.Int("reparto.attempt", h.Attempt), attribute.String("reparto.worker_id", h.WorkerID)))
	t.attempt = span
	if h.Resumed {
		span.SetAttributes(attribute.Bool("reparto.resumed", true))
	}
	if !span.IsRecording() { // the sampler does not want it: the worker's parent stays the client's
		return nil
	}
	carry := propagation.MapCarrier{}
	w3c.Inject(ctx, carry)
	if t.hasState && carry[task.TraceState] == "" {
		carry[task.TraceState] = "" // the client's is about another span
	}
	return carry
}

// waited makes the span of a time of waiting, which ended with the outcome or an
// assignment.
func (t *trail) waited(now time.Time, o *task.Outcome) {
	_, span := t.tracer.Start(t.parent, "queue", trace.WithTimestamp(t.since), trace.WithAttributes(
		attribute.String("messaging.system", "reparto"), attribute.String("messaging.destination.name", t.function), attribute.String("messaging.message.id", t.id)))
	if t.why != "" {
		span.AddEvent(t.why, trace.WithTimestamp(t.since), trace.WithAttributes(attribute.String("reason", text(t.reason))))
	}
	if o != nil {
		over(span, o)
	}
	span.End(trace.WithTimestamp(now))
}

// again says that the task waits from now on, and why.
func (t *trail) again(why, reason string) { t.why, t.reason = why, reason }

// Ended implements dispatch.Trail.
func (t *trail) Ended(e dispatch.Ending) {
	span := t.attempt
	if span == nil {
		return
	}
	t.attempt, t.since = nil, time.Now()
	switch f := e.Failure; {
	case e.Kind == dispatch.CancelledAttempt:
		t.again("retry", e.Reason)
		span.AddEvent("cancel", trace.WithAttributes(attribute.String("reason", text(e.Reason))))
		outcome(span, "cancelled")
		if e.Reason == task.CancelAttemptTimeout || e.Reason == task.CancelDeadline {
			failed(span, e.Reason, "it took too long")
		}
	case e.Kind == dispatch.WorkerLost:
		t.again("worker lost", e.Reason)
		span.AddEvent("worker lost", trace.WithAttributes(attribute.String("reason", text(e.Reason))))
		outcome(span, "lost")
		failed(span, task.ReasonWorkerLost, e.Reason)
	case e.Kind == dispatch.NotSent:
		t.again("not sent", e.Reason)
		outcome(span, "not sent")
		failed(span, task.CancelStore, e.Reason)
	case f != nil:
		t.again("retry", f.Reason)
		outcome(span, "failed")
		failed(span, f.Reason, f.Message)
	default:
		outcome(span, "succeeded")
	}
	span.End(trace.WithTimestamp(t.since))
}

// Finished implements dispatch.Trail.
func (t *trail) Finished(o *task.Outcome) {
	switch {
	case t.attempt != nil:
		over(t.attempt, o)
		t.attempt.End()
		t.attempt = nil
	case !o.WasRunning:
		t.waited(time.Now(), o)
	}
}

// over says how a task ended, on the span that it ended in.
func over(span trace.Span, o *task.Outcome) {
	outcome(span, strings.ToLower(o.State.String()))
	reason, message := "", ""
	if o.Failure != nil {
		reason, message = o.Failure.Reason, o.Failure.Message
	}
	switch o.State {
	case task.Expired:
		failed(span, task.CancelDeadline, "its time was up")
	case task.Failed:
		failed(span, reason, message)
	case task.Cancelled:
		span.AddEvent("cancel", trace.WithAttributes(attribute.String("reason", text(reason))))
	}
}

func outcome(span trace.Span, word string) {
	span.SetAttributes(attribute.String("reparto.outcome", word))
}

func failed(span trace.Span, reason, message string) {
	span.SetAttributes(attribute.String("error.type", text(reason)))
	span.SetStatus(codes.Error, text(message))
}

// maxSpanText is how much of a text goes into a span, in bytes.
const maxSpanText = 1024

// text makes a text fit for a span: one that is not UTF-8 would spoil all that are
// exported with it.
func text(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxSpanText)], "\uFFFD")
}
