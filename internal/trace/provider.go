package trace

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"reparto/internal/dispatch"
)

// Options of a Provider. What else there is to choose is in the environment, under
// the names that OpenTelemetry gives it.
type Options struct {
	// Service is what OTEL_SERVICE_NAME says by default, e.g. "reparto-balancer".
	Service string
	// Version is the command's.
	Version string
	// Log is told, at most once a minute, that spans are lost. Default: nobody.
	Log *slog.Logger
}

// Provider sends spans to a collector, in batches, from a goroutine of its own:
// what has no room in its queue (2,048 spans by default) is dropped, and nobody
// ever waits for the collector. A nil Provider is one that wants no spans.
type Provider struct {
	sdk    *sdk.TracerProvider
	export *patient
}

// closeTimeout bounds Close.
const closeTimeout = 5 * time.Second

// Open does what the environment says: nil, and no error, where it asks for no
// traces. It does not block for the collector. The error names the variable that
// is wrong.
func Open(ctx context.Context, o Options) (*Provider, error) {
	wanted, err := wanted()
	if !wanted || err != nil {
		return nil, err
	}
	exporter, err := newExporter(ctx)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p := &Provider{export: newPatient(exporter, o.Log)}
	// What the SDK finds wrong with its variables it tells this one, and what a
	// collector has against single spans.
	otel.SetErrorHandler(newQuiet(o.Log))
	attributes := []attribute.KeyValue{attribute.String("service.name", o.Service)}
	if o.Version != "" {
		attributes = append(attributes, attribute.String("service.version", o.Version))
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(attributes...), resource.WithFromEnv()) // the last word is the environment's
	if err != nil {
		o.Log.Warn("traces tell less than they should of where they come from", "error", err)
	}
	p.sdk = sdk.NewTracerProvider(sdk.WithResource(about), sdk.WithBatcher(p.export))
	return p, nil
}

// wanted reports whether the environment asks for traces.
func wanted() (bool, error) {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return false, nil
	}
	switch name := os.Getenv("OTEL_TRACES_EXPORTER"); name {
	case "none":
		return false, nil
	case "otlp":
		return true, nil
	case "":
		return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "", nil
	default:
		return false, fmt.Errorf("OTEL_TRACES_EXPORTER is %q; give otlp or none", name)
	}
}

// newExporter makes one for the protocol that the environment names. Everything
// else, endpoint, headers, certificates and time limits, the exporters read there
// themselves.
func newExporter(ctx context.Context) (sdk.SpanExporter, error) {
	protocol := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), "http/protobuf")
	switch protocol {
	case "grpc": // trying again is patient's
		return otlptracegrpc.New(ctx, otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{}))
	case "http/protobuf":
		return otlptracehttp.New(ctx, otlptracehttp.WithRetry(otlptracehttp.RetryConfig{}))
	}
	return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q; give grpc or http/protobuf", protocol)
}

// Tracers makes spans; nil when nobody wants them.
func (p *Provider) Tracers() trace.TracerProvider {
	if p == nil {
		return nil
	}
	return p.sdk
}

// Balancer makes a balancer's spans; nil when nobody wants them.
func (p *Provider) Balancer() dispatch.Tracer {
	if p == nil {
		return nil
	}
	return NewBalancer(p.sdk)
}

// Close sends what is left, for at most 5 s; a collector that refuses is not tried
// twice.
func (p *Provider) Close() {
	if p == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	p.export.leave()
	// What can't be sent was logged; here only the time limit is news.
	if err := p.sdk.Shutdown(ctx); errors.Is(err, context.DeadlineExceeded) {
		p.export.log.Warn("the collector did not take the last traces in time", "within", closeTimeout)
	}
}
