package trace_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"reparto/client"
	"reparto/internal/server"
	"reparto/internal/trace"
	"reparto/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// house is a balancer whose spans, and those of its clients and workers, are
// recorded.
type house struct {
	t        *testing.T
	recorder *tracetest.SpanRecorder
	provider *sdk.TracerProvider
	o        server.Options

	s    *server.Server
	stop func()
}

func newHouse(t *testing.T, o server.Options) *house {
	t.Helper()
	recorder := tracetest.NewSpanRecorder()
	h := &house{t: t, recorder: recorder, provider: sdk.NewTracerProvider(sdk.WithSpanProcessor(recorder)), o: o, stop: func() {}}
	h.o.Address, h.o.DrainTimeout = "127.0.0.1:0", time.Millisecond
	h.o.Dispatch.Tracer, h.o.Legacy.TracerProvider = trace.NewBalancer(h.provider), h.provider
	h.start()
	t.Cleanup(func() { h.stop() })
	return h
}

// start starts the balancer, which stops at the latest with the test.
func (h *house) start() {
	h.t.Helper()
	var err error
	if h.s, err = server.Listen(h.o); err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = h.s.Run(ctx) }) // what still runs is no error here
	h.stop = func() {
		cancel()
		running.Wait()
	}
}

func (h *house) dial() *grpc.ClientConn {
	h.t.Helper()
	conn, err := grpc.NewClient(h.s.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	return conn
}

func (h *house) client() *client.Client {
	c := client.New(h.dial(), client.WithTracerProvider(h.provider))
	h.t.Cleanup(func() { c.Close() })
	return c
}

// work runs a worker until the test ends, and returns once it is registered.
func (h *house) work(id, function string, handler worker.Handler) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	registered := make(chan struct{})
	var once sync.Once
	var running sync.WaitGroup
	conn := h.dial()
	running.Go(func() {
		_ = worker.Run(ctx, conn, worker.Handlers{function: handler}, worker.Options{ // one that abandons ends with an error
			ID: id, Slots: 1, DrainTimeout: time.Second, TracerProvider: h.provider,
			OnRegistered: func(worker.Registration) { once.Do(func() { close(registered) }) },
		})
	})
	h.t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	<-registered
}

// tree is what was recorded, a span to a line, below its parent; all of it is one
// trace.
func (h *house) tree() string {
	h.t.Helper()
	spans := h.recorder.Ended()
	slices.SortStableFunc(spans, func(a, b sdk.ReadOnlySpan) int {
		return cmp.Or(a.StartTime().Compare(b.StartTime()), a.EndTime().Compare(b.EndTime()))
	})
	byID, children := map[oteltrace.SpanID]bool{}, map[oteltrace.SpanID][]sdk.ReadOnlySpan{}
	for _, s := range spans {
		byID[s.SpanContext().SpanID()] = true
		if s.SpanContext().TraceID() != spans[0].SpanContext().TraceID() {
			h.t.Errorf("%s is in a trace of its own", s.Name())
		}
	}
	for _, s := range spans {
		parent := s.Parent().SpanID()
		if parent.IsValid() && !byID[parent] {
			h.t.Errorf("the parent of %s was not recorded", s.Name())
		}
		children[parent] = append(children[parent], s)
	}
	var out strings.Builder
	var show func(parent oteltrace.SpanID, indent string)
	show = func(parent oteltrace.SpanID, indent string) {
		for _, s := range children[parent] {
			fmt.Fprintln(&out, indent+describe(s))
			show(s.SpanContext().SpanID(), indent+"  ")
		}
	}
	show(oteltrace.SpanID{}, "")
	return out.String()
}

// describe tells what a span says, but for what differs from run to run.
func describe(s sdk.ReadOnlySpan) string {
	words := []string{s.Name()}
	if s.SpanKind() != oteltrace.SpanKindInternal {
		words = append(words, s.SpanKind().String())
	}
	for _, a := range s.Attributes() {
		switch a.Key {
		case "reparto.outcome", "reparto.worker_id", "error.type", "reparto.resumed":
			words = append(words, a.Value.String())
		}
	}
	for _, e := range s.Events() {
		words = append(words, "("+e.Name+")")
	}
	if s.Status().Code == codes.Error {
		words = append(words, "!")
	}
	return strings.Join(words, " ")
}

func (h *house) want(tree string) {
	h.t.Helper()
	want := strings.ReplaceAll(strings.TrimPrefix(tree, "\n"), "\t", "")
	if got := h.tree(); got != want {
		h.t.Errorf("got the trace\n%swant\n%s", got, want)
	}
}

func TestATaskIsOneTrace(t *testing.T) {
	h := newHouse(t, server.Options{})
	h.work("w", "f", func(ctx context.Context, task worker.Task) ([]byte, error) {
		_, own := h.provider.Tracer("test").Start(ctx, "the handler's own")
		own.End()
		return task.Payload, nil
	})
	ctx, span := h.provider.Tracer("test").Start(t.Context(), "caller")
	metadata := map[string]string{"a": "b"}
	if _, err := h.client().Submit(ctx, client.Task{Function: "f", Payload: []byte("x"), Metadata: metadata}); err != nil {
		t.Fatal(err)
	}
	span.End()
	h.want(`
	caller
	  submit f client w
	    queue
	    attempt 1 producer w succeeded
	      process f consumer w
	        the handler's own
	`)
	if len(metadata) != 1 {
		t.Errorf("the caller's metadata were written to: %v", metadata)
	}
}

func TestARetryIsASecondAttempt(t *testing.T) {
	h := newHouse(t, server.Options{})
	h.work("w", "f", func(_ context.Context, task worker.Task) ([]byte, error) {
		if task.Attempt == 1 {
			return nil, worker.Retry(worker.Fail("BUSY", errors.New("not now")), time.Millisecond)
		}
		return nil, nil
	})
	done := make(chan error, 1)
	h.client().SubmitFunc(t.Context(), client.Task{Function: "f"}, func(_ client.Outcome, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	h.want(`
	submit f client w
	  queue
	  attempt 1 producer w failed BUSY !
	    process f consumer w BUSY !
	  queue (retry)
	  attempt 2 producer w succeeded
	    process f consumer w
	`)
}

func TestALostWorkerIsSeen(t *testing.T) {
	h := newHouse(t, server.Options{})
	took := make(chan struct{})
	h.work("w1", "f", func(context.Context, worker.Task) ([]byte, error) {
		close(took)
		return nil, worker.Abandon(errors.New("the machine is on fire"))
	})
	done := make(chan error, 1)
	h.client().SubmitFunc(t.Context(), client.Task{Function: "f"}, func(_ client.Outcome, err error) { done <- err })
	<-took
	h.work("w2", "f", func(context.Context, worker.Task) ([]byte, error) { return nil, nil })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	h.want(`
	submit f client w2
	  queue
	  attempt 1 producer w1 lost WORKER_LOST (worker lost) !
	    process f consumer w1 ABANDONED !
	  queue (worker lost)
	  attempt 2 producer w2 succeeded
	    process f consumer w2
	`)
}

func TestAFailureIsTheStatusOfEachSpan(t *testing.T) {
	h := newHouse(t, server.Options{})
	h.work("w", "f", func(context.Context, worker.Task) ([]byte, error) { panic("oh") })
	if _, err := h.client().Submit(t.Context(), client.Task{Function: "f"}); err == nil {
		t.Fatal("a panic is a success")
	}
	h.want(`
	submit f client w PANIC !
	  queue
	  attempt 1 producer w failed PANIC !
	    process f consumer w PANIC !
	`)
}

func TestWhatNeverRanHasWaited(t *testing.T) {
	// The balancer's own time limit, which runs once the task is there: the
	// client's would run while it connects.
	var o server.Options
	o.Dispatch.DefaultTimeout = 5 * time.Millisecond
	h := newHouse(t, o)
	if _, err := h.client().Submit(t.Context(), client.Task{Function: "nobody"}); err == nil {
		t.Fatal("it was done by nobody")
	}
	h.want(`
	submit nobody client TASK_EXPIRED !
	  queue expired DEADLINE !
	`)
}

// A durable task's trace goes on where it was, whoever restarts meanwhile.
func TestADurableTaskKeepsItsTraceOverARestart(t *testing.T) {
	h := newHouse(t, server.Options{Store: "file:" + filepath.Join(t.TempDir(), "store")})
	ctx, span := h.provider.Tracer("test").Start(t.Context(), "caller")
	id, err := h.client().Enqueue(ctx, client.DurableTask{Function: "f"})
	if err != nil {
		t.Fatal(err)
	}
	span.End()
	accepted := time.Now()
	h.stop()
	h.start()
	h.work("w", "f", func(context.Context, worker.Task) ([]byte, error) { return nil, nil })
	if _, err := h.client().Wait(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	h.want(`
	caller
	  enqueue f producer
	    queue
	    attempt 1 producer w succeeded
	      process f consumer w
	`)
	for _, s := range h.recorder.Ended() {
		if s.Name() == "queue" && !s.StartTime().Before(accepted) {
			t.Error("the time in the queue begins with the restart, and not with the task")
		}
	}
}

func TestATextTaskIsATraceToo(t *testing.T) {
	var o server.Options
	o.Legacy.ClientAddress = "127.0.0.1:0"
	h := newHouse(t, o)
	h.work("w", "sum", func(context.Context, worker.Task) ([]byte, error) { return []byte("3"), nil })
	conn, err := net.Dial("tcp", h.s.Legacy().ClientAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "TASK|t1|1,2\n")
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "RESULT|t1|3\n" {
		t.Fatalf("%q, %v", line, err)
	}
	h.want(`
	submit sum client w
	  queue
	  attempt 1 producer w succeeded
	    process sum consumer w
	`)
}

// Where the client does not sample, the balancer makes no spans, and the worker
// follows its word.
func TestWhatIsNotSampledIsNotRecorded(t *testing.T) {
	h := newHouse(t, server.Options{})
	h.work("w", "f", func(_ context.Context, task worker.Task) ([]byte, error) {
		return []byte(task.Metadata["traceparent"]), nil
	})
	silent := sdk.NewTracerProvider(sdk.WithSampler(sdk.NeverSample()))
	c := client.New(h.dial(), client.WithTracerProvider(silent))
	defer c.Close()
	out, err := c.Submit(t.Context(), client.Task{Function: "f"})
	if err != nil || !strings.HasSuffix(string(out.Result), "-00") {
		t.Errorf("the worker got the context %q, %v", out.Result, err)
	}
	h.want("")
}
