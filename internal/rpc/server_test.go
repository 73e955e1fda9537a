package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
)

// lines is a log that tests look into.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// errors is a logger that takes errors only.
func (l *lines) errors() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelError}))
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *lines) has(text string) error {
	if all := l.String(); !strings.Contains(all, text) {
		return fmt.Errorf("the log has no %q: %s", text, all)
	}
	return nil
}

// buggy is an inside that panics when it is told to.
type buggy struct {
	*dispatch.Dispatcher
	bad atomic.Bool
}

func (b *buggy) wrap(d *dispatch.Dispatcher) Inside { b.Dispatcher = d; return b }

func (b *buggy) Submit(w dispatch.Waiter, batch []dispatch.Submission) {
	b.panics()
	b.Dispatcher.Submit(w, batch)
}

func (b *buggy) Attach(r dispatch.Registration) (*dispatch.Session, error) {
	b.panics()
	return b.Dispatcher.Attach(r)
}

func (b *buggy) panics() {
	if b.bad.Load() {
		panic("buggy")
	}
}

func TestBugInACallEndsItAlone(t *testing.T) {
	log := &lines{}
	in := &buggy{}
	h := serveInside(t, dispatch.Options{}, Options{Log: log.logger()}, in.wrap)
	in.bad.Store(true)
	_, err := h.tasks.Submit(h.ctx, &pb.SubmitRequest{Function: "f"})
	wants(t, err, refused{codes.Internal, "INTERNAL", "", false})
	if strings.Contains(err.Error(), "buggy") {
		t.Errorf("the caller learned the details: %v", err)
	}
	w := h.openWork()
	w.send(&pb.WorkRequest{Register: &pb.Register{Slots: 1, Functions: []string{"f"}}})
	wants(t, w.end(), refused{codes.Internal, "INTERNAL", "", false})
	if err := errors.Join(log.has("a call panicked"), log.has("buggy"), log.has("task.go")); err != nil {
		t.Error(err)
	}
	in.bad.Store(false)
	h.worker("w1", 1, "f").work(echo)
	if _, err := h.tasks.Submit(h.ctx, &pb.SubmitRequest{Function: "f"}); err != nil {
		t.Fatal(err)
	}
}

func TestHealth(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	hc := healthpb.NewHealthClient(h.conn)
	for _, service := range []string{"", "reparto.v1.TaskService", "reparto.v1.WorkerService", "reparto.v1.AdminService"} {
		r, err := hc.Check(h.ctx, &healthpb.HealthCheckRequest{Service: service})
		if err != nil || r.Status != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health of %q: %v, %v", service, r, err)
		}
	}
}

func TestReflectionListsTheServices(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	stream, err := reflectionpb.NewServerReflectionClient(h.conn).ServerReflectionInfo(h.ctx)
	if err != nil {
		t.Fatal(err)
	}
	stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	names := fmt.Sprint(resp.GetListServicesResponse().GetService())
	for _, want := range []string{"reparto.v1.TaskService", "reparto.v1.WorkerService", "reparto.v1.AdminService", "grpc.health.v1.Health"} {
		if !strings.Contains(names, want) {
			t.Errorf("reflection lists %s, without %s", names, want)
		}
	}
	stream.CloseSend()
}

func TestDrain(t *testing.T) {
	h := serve(t, dispatch.Options{ReconnectAfter: 1234 * time.Millisecond}, Options{})
	watch, err := healthpb.NewHealthClient(h.conn).Watch(h.ctx, &healthpb.HealthCheckRequest{Service: "reparto.v1.TaskService"})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := watch.Recv(); err != nil || r.Status != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("health %v, %v", r, err)
	}
	w := h.worker("w1", 1, "f")
	idle, busy := h.client(), h.client()
	busy.submit(streamTask(1, "f", "running"), streamTask(2, "f", "queued"))
	a := w.task()
	unary := submitting(h, &pb.SubmitRequest{Function: "f"})
	h.eventually("the call's task is queued", func() bool { return h.d.Info().Queued == 2 })
	late := h.openWork()

	ctx, cancel := context.WithTimeout(h.ctx, patience)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- h.s.Drain(ctx) }()

	if r, err := watch.Recv(); err != nil || r.Status != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Fatalf("health %v, %v; want NOT_SERVING", r, err)
	}
	wants(t, idle.end(), refused{codes.Unavailable, "DRAINING", "", true})
	if m := wants(t, (<-unary).err, refused{codes.Unavailable, "DRAINING", "", true}); m["attempts"] != "0" {
		t.Errorf("metadata %v, want no attempt", m)
	}
	if e := busy.outcome(2).Error; e.GetReason() != "DRAINING" || e.GetRetryAfterMs() <= 0 || e.Metadata["attempts"] != "0" {
		t.Errorf("the queued task: %v, want DRAINING", e)
	}
	if f := w.recv(); f.Drain.GetReconnectAfterMs() != 1234 {
		t.Errorf("the worker was told %v, want drain for 1234 ms", f)
	}
	busy.submit(streamTask(3, "f", "new"))
	if e := busy.outcome(3).Error; e.GetReason() != "DRAINING" || e.GetRetryAfterMs() <= 0 {
		t.Errorf("a new task: %v, want DRAINING", e)
	}
	_, err = h.tasks.Submit(h.ctx, &pb.SubmitRequest{Function: "f"})
	wants(t, err, refused{codes.Unavailable, "DRAINING", "", true})
	late.send(&pb.WorkRequest{Register: &pb.Register{Slots: 1, Functions: []string{"f"}}})
	wants(t, late.end(), refused{codes.Unavailable, "DRAINING", "", true})
	if info, err := h.admin.GetServerInfo(h.ctx, &pb.GetServerInfoRequest{}); err != nil || !info.Draining || info.Running != 1 {
		t.Errorf("info %v, %v", info, err)
	}
	select {
	case err := <-drained:
		t.Fatalf("Drain returned %v while a task runs", err)
	default:
	}
	w.answer(a, "done")
	if o := busy.outcome(1); string(o.Result) != "done" {
		t.Errorf("the running task: %v", o)
	}
	wants(t, busy.end(), refused{codes.Unavailable, "DRAINING", "", true})
	w.stream.CloseSend()
	if err := w.end(); err != nil {
		t.Errorf("the worker's stream: %v, want OK", err)
	}
	h.conn.Close() // the watch
	if err := <-drained; err != nil {
		t.Errorf("Drain: %v", err)
	}
}

func TestDrainDoesNotWaitForThoseWhoWatch(t *testing.T) {
	h := serve(t, dispatch.Options{SendLimit: 50 * time.Millisecond}, Options{})
	if _, err := healthpb.NewHealthClient(h.conn).Watch(h.ctx, &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	h.worker("w1", 1, "f") // nor for a worker that does not care
	if err := h.s.Drain(h.ctx); err != nil {
		t.Errorf("Drain: %v", err)
	}
}

func TestDrainEndsWithItsContext(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	w := h.worker("w1", 1, "f")
	got := submitting(h, &pb.SubmitRequest{Function: "f"})
	w.task()
	ctx, cancel := context.WithTimeout(h.ctx, 20*time.Millisecond)
	defer cancel()
	if err := h.s.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Drain: %v, want the context's end", err)
	}
	h.s.Close()
	h.s.Close()
	if err := (<-got).err; err == nil {
		t.Fatal("a call outlived Close")
	}
}

func TestCloseWaitsForEveryStream(t *testing.T) {
	in := &counting{}
	h := serveInside(t, dispatch.Options{}, Options{}, in.wrap)
	c, w := h.client(), h.worker("w1", 1, "f")
	h.openWork() // has not registered
	c.submit(streamTask(1, "f", "x"))
	w.task()
	submitting(h, &pb.SubmitRequest{Function: "f"})
	h.eventually("the call's task is queued", func() bool { return h.d.Info().Queued == 1 })
	h.s.Close()
	// What a handler does last is done.
	if i := h.d.Info(); i.Sessions+i.Queued+i.Running != 0 || in.abandoned.Load() < 2 {
		t.Errorf("after Close %+v is left, %d were given up; want nothing, and 2", i.Counts, in.abandoned.Load())
	}
}

// counting counts what is given up.
type counting struct {
	*dispatch.Dispatcher
	abandoned atomic.Int64
}

func (c *counting) wrap(d *dispatch.Dispatcher) Inside { c.Dispatcher = d; return c }

func (c *counting) Abandon(w dispatch.Waiter, tickets ...dispatch.Ticket) {
	c.Dispatcher.Abandon(w, tickets...)
	c.abandoned.Add(int64(len(tickets)))
}

func TestOptionsBelowZeroAreDefaults(t *testing.T) {
	o := Options{MaxMessage: -1, MaxInFlight: -1, MaxOutbox: -1, RegisterLimit: -1, MinPing: -1, Workers: -1}.withDefaults(8 << 20)
	if o.MaxMessage != 32<<20 || o.MaxInFlight != 65536 || o.MaxOutbox != 256<<20 || o.RegisterLimit != 10*time.Second ||
		o.MinPing != 10*time.Second || o.Workers != 1024 || o.Log == nil {
		t.Errorf("%+v", o)
	}
	if o = (Options{}).withDefaults(1); o.MaxMessage != 16<<20 {
		t.Errorf("messages of %d for a small payload limit, want at least 16 MiB", o.MaxMessage)
	}
}

// pings sends n pings over a bare HTTP/2 connection; it returns what the server
// said when it hung up, or "" when it answered all of them.
func pings(t *testing.T, minPing time.Duration, n int) string {
	t.Helper()
	d, err := dispatch.Open(dispatch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s := NewServer(d, Options{MinPing: minPing})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() { s.Serve(l) })
	defer served.Wait()
	defer s.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	f := http2.NewFramer(conn, conn)
	fmt.Fprint(conn, http2.ClientPreface)
	f.WriteSettings()
	for sent, acked := 0, 0; acked < n; {
		if sent == acked {
			f.WritePing(false, [8]byte{byte(sent)})
			sent++
		}
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatalf("after %d pings: %v", sent, err)
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				f.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if frame.IsAck() {
				acked++
			}
		case *http2.GoAwayFrame:
			return fmt.Sprint(frame.ErrCode, " ", string(frame.DebugData()))
		}
	}
	return ""
}

func TestPings(t *testing.T) {
	if got := pings(t, time.Hour, 20); !strings.Contains(got, "ENHANCE_YOUR_CALM") || !strings.Contains(got, "too_many_pings") {
		t.Errorf("a flood of pings got %q, want ENHANCE_YOUR_CALM too_many_pings", got)
	}
	if got := pings(t, time.Nanosecond, 20); got != "" {
		t.Errorf("pings that keep the interval got %q, want answers", got)
	}
}
