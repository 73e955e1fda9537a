package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
)

// collector is a tiny OTLP collector.
type collector struct {
	collectorpb.UnimplementedTraceServiceServer
	address string

	mu    sync.Mutex
	spans []span
}

// span is one that arrived, and the service that sent it.
type span struct {
	*tracepb.Span
	service string
}

func startCollector(t *testing.T) *collector {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, s := &collector{address: l.Addr().String()}, grpc.NewServer()
	collectorpb.RegisterTraceServiceServer(s, c)
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() {
		s.Stop()
		serving.Wait()
	})
	return c
}

func (c *collector) Export(_ context.Context, req *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, from := range req.GetResourceSpans() {
		service := ""
		for _, a := range from.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range from.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				c.spans = append(c.spans, span{s, service})
			}
		}
	}
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

// traces are those that arrived, each as a line of its spans below one another, and
// sorted.
func (c *collector) traces() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.SortStableFunc(c.spans, func(a, b span) int { return int(a.StartTimeUnixNano) - int(b.StartTimeUnixNano) })
	var lines []string
	var show func(of span) string
	show = func(of span) string {
		line, below := strings.TrimPrefix(of.service, "reparto-")+": "+of.Name, []string{}
		for _, s := range c.spans {
			if string(s.ParentSpanId) == string(of.SpanId) && string(s.TraceId) == string(of.TraceId) {
				below = append(below, show(s))
			}
		}
		if len(below) > 0 {
			line += " (" + strings.Join(below, ", ") + ")"
		}
		return line
	}
	shown := 0
	for _, s := range c.spans {
		if len(s.ParentSpanId) == 0 {
			lines = append(lines, show(s))
		}
	}
	for _, line := range lines {
		shown += strings.Count(line, ": ")
	}
	if shown != len(c.spans) {
		lines = append(lines, fmt.Sprintf("and %d spans without their parents", len(c.spans)-shown))
	}
	slices.Sort(lines)
	return lines
}

// With nothing but variables set, one trace goes through all of the binaries.
func TestTracesReachACollector(t *testing.T) {
	c := startCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+c.address)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	b := startBalancer(t)
	w := startWorker(t, b, "w")
	a := start(t, "adapter", "--balancer", b.grpc, "--legacy-clients", "127.0.0.1:0", "--legacy-workers", "")
	text := a.waitLine(`listening for clients.*address=(\S+)`)[1]
	for _, args := range [][]string{{"submit", "--balancer", b.grpc, "sum", "1,2"}, {"enqueue", "--balancer", b.grpc, "--wait", "echo", "3"}} {
		if out, code := run(t, "client", args...); code != 0 || out != "3\n" && out != "3" {
			t.Fatalf("client %q: %q, exit code %d", args, out, code)
		}
	}
	conn, err := net.Dial("tcp", text)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "TASK|t1|1,2\n")
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "RESULT|t1|3\n" {
		t.Fatalf("%q, %v", line, err)
	}
	conn.Close()
	for _, p := range []*process{a, w, b.process} { // what they have left goes out
		p.signal(syscall.SIGTERM)
		if code := p.exit(); code != 0 {
			t.Errorf("%s: exit code %d", p.name, code)
		}
	}
	want := []string{
		"adapter: submit sum (balancer: queue, balancer: attempt 1 (worker: process sum))",
		"client: enqueue echo (balancer: queue, balancer: attempt 1 (worker: process echo))",
		"client: submit sum (balancer: queue, balancer: attempt 1 (worker: process sum))",
	}
	if got := c.traces(); !slices.Equal(got, want) {
		t.Errorf("there arrived\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A collector that nobody finds costs a line, and no task.
func TestWithoutTheCollectorAllGoesOn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+nobody)
	b := startBalancer(t)
	w := startWorker(t, b, "w")
	began := time.Now()
	p := start(t, "client", "submit", "--balancer", b.grpc, "sum", "1,2")
	if code := p.exit(); code != 0 || p.stdout() != "3\n" || strings.Count(p.printed(), "traces can't be sent") != 1 {
		t.Errorf("exit code %d, and it says\n%s", code, p.printed())
	}
	if took := time.Since(began); took > 4*time.Second { // it would be 5 if it waited
		t.Errorf("it took %v", took)
	}
	for _, p := range []*process{w, b.process} {
		p.signal(syscall.SIGTERM)
		if code := p.exit(); code != 0 {
			t.Errorf("%s: exit code %d", p.name, code)
		}
		if !strings.Contains(p.printed(), "traces can't be sent") {
			t.Errorf("%s does not say that traces are lost:\n%s", p.name, p.printed())
		}
	}
}

func TestAVariableThatIsWrongIsOneOfUsage(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "zipkin")
	for _, args := range [][]string{
		{"balancer", "--grpc", "127.0.0.1:0", "--store", "memory:", "--legacy-clients", "", "--legacy-workers", ""},
		{"worker"}, {"adapter", "--legacy-clients", "127.0.0.1:0", "--legacy-workers", ""},
	} {
		p := start(t, args[0], args[1:]...)
		if code := p.exit(); code != 2 || !strings.Contains(p.printed(), `OTEL_TRACES_EXPORTER is "zipkin"; give otlp or none`) {
			t.Errorf("%s: exit code %d, and it says\n%s", args[0], code, p.printed())
		}
	}
}
