package trace_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"reparto/internal/trace"
)

// cleared has the environment ask for no traces.
func cleared(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
		"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER",
	} {
		t.Setenv(name, "")
	}
}

func TestTheEnvironmentDecides(t *testing.T) {
	const endpoint = "http://127.0.0.1:1"
	for _, c := range []struct {
		env   map[string]string
		on    bool
		wrong string
	}{
		{nil, false, ""},
		{map[string]string{"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"}, false, ""},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, true, ""},
		{map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint}, true, ""},
		{map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, true, ""},
		{map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, false, ""},
		{map[string]string{"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, false, ""},
		{map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"}, false, `OTEL_TRACES_EXPORTER is "zipkin"`},
		{map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, true, ""},
		{map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, false, `OTEL_EXPORTER_OTLP_PROTOCOL is "http/json"`},
		{map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "x", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, true, ""},
	} {
		t.Run("", func(t *testing.T) {
			cleared(t)
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			p, err := trace.Open(t.Context(), trace.Options{Service: "s"})
			if on := p != nil; on != c.on || (err != nil) != (c.wrong != "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%v: on is %v, want %v; error %v, want %q", c.env, on, c.on, err, c.wrong)
			}
			if on := p.Tracers() != nil && p.Balancer() != nil; on != c.on { // what is nil must be so for its users too
				t.Errorf("%v: there are tracers: %v", c.env, on)
			}
			p.Close()
		})
	}
}

// received is a collector: a gRPC service, or a handler for HTTP.
type received struct {
	collector.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans map[string]string // names, with the service that sent them
}

func (r *received) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, from := range req.GetResourceSpans() {
		service := ""
		for _, a := range from.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range from.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				r.spans[s.GetName()] = service
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func (r *received) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	var req collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &req)
	}
	if err != nil || q.URL.Path != "/v1/traces" {
		http.Error(w, "what?", http.StatusBadRequest)
		return
	}
	_, _ = r.Export(q.Context(), &req) // it has no errors
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func TestSpansReachTheCollector(t *testing.T) {
	for _, c := range []struct{ protocol, name, want string }{
		{"grpc", "", "reparto-test"},
		{"http/protobuf", "mine", "mine"},
		{"", "mine", "mine"},
	} {
		t.Run(c.protocol, func(t *testing.T) {
			cleared(t)
			r := &received{spans: map[string]string{}}
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+r.listen(t, c.protocol))
			t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", c.protocol)
			t.Setenv("OTEL_SERVICE_NAME", c.name)
			p, err := trace.Open(t.Context(), trace.Options{Service: "reparto-test", Version: "v1"})
			if err != nil {
				t.Fatal(err)
			}
			_, span := p.Tracers().Tracer("test").Start(t.Context(), "mine")
			span.End()
			_, end := p.Enqueue(t.Context(), "f", nil)
			end("id", "")
			p.Close()
			r.mu.Lock()
			defer r.mu.Unlock()
			if want := map[string]string{"mine": c.want, "enqueue f": c.want}; !maps.Equal(r.spans, want) {
				t.Errorf("there arrived %v, want %v", r.spans, want)
			}
		})
	}
}

// listen serves the protocol until the test ends.
func (r *received) listen(t *testing.T, protocol string) string {
	t.Helper()
	if protocol != "grpc" {
		s := httptest.NewServer(r)
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	collector.RegisterTraceServiceServer(s, r)
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() {
		s.Stop()
		serving.Wait()
	})
	return l.Addr().String()
}

// Where nobody listens, an end is not held up, and says so once.
func TestAnUnreachableCollectorHoldsNobodyUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		cleared(t)
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+nobody)
		t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
		var log bytes.Buffer
		p, err := trace.Open(t.Context(), trace.Options{Service: "s", Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for range 10_000 { // more than there is room for
			_, span := p.Tracers().Tracer("test").Start(t.Context(), "lost")
			span.End()
		}
		p.Close()
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("%s: it took %v", protocol, took)
		}
		if strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "refused") {
			t.Errorf("%s: the log says\n%s", protocol, &log)
		}
	}
}
