package trace_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"reparto/client"
	"reparto/internal/dispatch"
	"reparto/internal/server"
	"reparto/internal/task"
	"reparto/internal/trace"
	"reparto/worker"
)

// nowhere is an exporter that forgets.
type nowhere struct{}

func (nowhere) ExportSpans(context.Context, []sdk.ReadOnlySpan) error { return nil }
func (nowhere) Shutdown(context.Context) error                        { return nil }

// provider samples a part of the traces that begin with it, and sends spans as a
// command would: in batches, from a queue with an end.
func provider(b *testing.B, part float64) *sdk.TracerProvider {
	p := sdk.NewTracerProvider(sdk.WithBatcher(nowhere{}), sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(part))))
	b.Cleanup(func() { _ = p.Shutdown(context.Background()) })
	return p
}

type counter struct{}

func (counter) Done([]dispatch.Finished) {}

// BenchmarkDispatch is what the balancer's spans cost under the dispatcher's mutex:
// a task's whole way, in batches of 64.
func BenchmarkDispatch(b *testing.B) {
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0"
	for _, c := range []struct {
		name, header string
		on           bool
	}{{"off", parent + "1", false}, {"not sampled", parent + "0", true}, {"sampled", parent + "1", true}} {
		b.Run(c.name, func(b *testing.B) {
			var o dispatch.Options
			if c.on {
				o.Tracer = trace.NewBalancer(provider(b, 1))
			}
			d, err := dispatch.Open(o)
			if err != nil {
				b.Fatal(err)
			}
			defer d.Close()
			ses, err := d.Attach(dispatch.Registration{WorkerID: "w", Slots: 64, Functions: []string{"f"}})
			if err != nil {
				b.Fatal(err)
			}
			batch, results := make([]dispatch.Submission, 64), make([]dispatch.Result, 0, 64)
			metadata := map[string]string{"traceparent": c.header}
			var f dispatch.Frame
			b.ReportAllocs()
			for b.Loop() {
				for i := range batch {
					batch[i] = dispatch.Submission{Task: task.Task{
						Function: "f", Metadata: metadata, Deadline: time.Now().Add(time.Minute), MaxAttempts: 3}}
				}
				d.Submit(counter{}, batch)
				if err := ses.Next(&f); err != nil {
					b.Fatal(err)
				}
				results = results[:0]
				for i := range f.Assign {
					results = append(results, dispatch.Result{TaskID: f.Assign[i].TaskID, Attempt: f.Assign[i].Attempt, Token: f.Assign[i].Token})
				}
				ses.Results(results)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/task")
		})
	}
}

// BenchmarkTasks is the whole: client, balancer and worker in one process, over
// loopback, 1,024 tasks in flight, all of them with traces of which a part is
// sampled.
func BenchmarkTasks(b *testing.B) {
	for _, part := range []float64{-1, 0, 0.01, 0.1, 1} {
		name := "off"
		if part >= 0 {
			name = fmt.Sprintf("sampled=%v%%", 100*part)
		}
		b.Run(name, func(b *testing.B) { benchmarkTasks(b, part) })
	}
}

func benchmarkTasks(b *testing.B, part float64) {
	o := server.Options{Address: "127.0.0.1:0", DrainTimeout: time.Millisecond}
	var tracers oteltrace.TracerProvider
	if part >= 0 {
		p := provider(b, part)
		tracers, o.Dispatch.Tracer = p, trace.NewBalancer(p)
	}
	s, err := server.Listen(o)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	conn, err := grpc.NewClient(s.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	var running sync.WaitGroup
	serve, stop := context.WithCancel(context.Background())
	running.Go(func() { _ = s.Run(serve) })
	registered := make(chan struct{})
	working := make(chan struct{})
	go func() {
		defer close(working)
		_ = worker.Run(ctx, conn, worker.Handlers{"f": func(_ context.Context, t worker.Task) ([]byte, error) { return t.Payload, nil }},
			worker.Options{Slots: 512, Prefetch: 512, TracerProvider: tracers, OnRegistered: func(worker.Registration) { close(registered) }})
	}()
	<-registered
	c, err := client.Dial(s.Addr().String(), client.WithMaxInFlight(1024), client.WithTracerProvider(tracers))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		c.Close()
		cancel()
		<-working
		stop()
		running.Wait()
		conn.Close()
	})
	payload := []byte(strings.Repeat("x", 9))
	b.ReportAllocs()
	b.ResetTimer()
	var done sync.WaitGroup
	done.Add(b.N)
	for range b.N {
		c.SubmitFunc(b.Context(), client.Task{Function: "f", Payload: payload}, func(_ client.Outcome, err error) {
			if err != nil {
				b.Error(err)
			}
			done.Done()
		})
	}
	done.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
}
