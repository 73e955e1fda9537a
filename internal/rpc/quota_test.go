package rpc

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/auth"
	"reparto/internal/dispatch"
	"reparto/internal/store/memory"
)

// principals opens a directory of principals, each with a token and what is said of
// it in YAML, and returns contexts in which they call.
func principals(t testing.TB, rights map[string]string) (*auth.Directory, func(context.Context, string) context.Context) {
	t.Helper()
	tokens := map[string]string{}
	var yaml strings.Builder
	yaml.WriteString("principals:\n")
	for name, what := range rights {
		token, hash := auth.NewToken()
		tokens[name] = token
		fmt.Fprintf(&yaml, "  - {name: %s, tokens: [%q], %s}\n", name, hash, what)
	}
	file := filepath.Join(t.TempDir(), "auth.yaml")
	if err := os.WriteFile(file, []byte(yaml.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := auth.Open(file, auth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return d, func(ctx context.Context, name string) context.Context {
		return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+tokens[name])
	}
}

// A rate lets the burst through and refuses the next, with the time after which
// there is room; another principal does not notice.
func TestTasksASecond(t *testing.T) {
	d, as := principals(t, map[string]string{
		"fast": `submit: ["*"], limits: {tasks_per_second: 0.001, burst: 3}`, "other": `submit: ["*"]`,
	})
	h := serve(t, dispatch.Options{Store: memory.New()}, Options{Auth: d})
	ctx := as(h.ctx, "fast")
	enqueue := func(ctx context.Context, n int) []*pb.Enqueued {
		t.Helper()
		req := &pb.EnqueueRequest{}
		for range n {
			req.Tasks = append(req.Tasks, &pb.EnqueueTask{Function: "f"})
		}
		resp, err := h.tasks.Enqueue(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Results
	}
	if got := enqueue(ctx, 2); got[0].Error != nil || got[1].Error != nil {
		t.Fatalf("%v within the burst", got)
	}
	stream, err := h.tasks.SubmitStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(&pb.SubmitStreamRequest{Tasks: []*pb.StreamTask{
		{Number: 1, Function: "f"}, {Number: 2, Function: "f"}, {Number: 3, Function: "f"},
	}})
	late := map[uint64]bool{}
	for len(late) < 2 {
		frame, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range frame.GetOutcomes() {
			if o.Error.GetReason() != "RATE_LIMIT" || o.Error.GetRetryAfterMs() < 900_000 {
				t.Fatalf("%v, want RATE_LIMIT and about 1,000 s", o)
			}
			late[o.Number] = true
		}
	}
	if late[1] {
		t.Error("the first was refused, for which there was room")
	}
	_, err = h.tasks.Submit(ctx, &pb.SubmitRequest{Function: "f"})
	wants(t, err, refused{code: codes.ResourceExhausted, reason: "RATE_LIMIT", retry: true})
	if got := enqueue(ctx, 1)[0].Error; got.GetReason() != "RATE_LIMIT" {
		t.Errorf("%v, want RATE_LIMIT", got)
	}
	if got := enqueue(as(h.ctx, "other"), 1)[0].Error; got != nil {
		t.Errorf("another principal: %v", got)
	}
}

// Who goes on beyond its own limits is read from more slowly: by its rate, and by
// what it may have without an outcome.
func TestAStreamOverItsLimitsIsReadSlowly(t *testing.T) {
	d, as := principals(t, map[string]string{
		"rate": `submit: ["*"], limits: {tasks_per_second: 0.001, burst: 1}`, "tasks": `submit: ["*"], limits: {tasks_in_flight: 1}`,
	})
	h := serve(t, dispatch.Options{}, Options{Auth: d})
	for _, name := range []string{"rate", "tasks"} {
		stream, err := h.tasks.SubmitStream(as(h.ctx, name))
		if err == nil {
			_, err = stream.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
		var at [3]time.Time
		for n := range 3 {
			_ = stream.Send(&pb.SubmitStreamRequest{Tasks: []*pb.StreamTask{{Number: uint64(n), Function: "f"}}})
			if n == 0 {
				continue // it waits for a worker
			}
			if frame, err := stream.Recv(); err != nil || frame.Outcomes[0].GetError() == nil {
				t.Fatalf("%s: %v, %v; want a refusal", name, frame, err)
			}
			at[n] = time.Now()
		}
		if took := at[2].Sub(at[1]); took < penalty/2 {
			t.Errorf("%s: the next was read %v after a refusal, want %v or so", name, took, penalty)
		}
	}
}

func TestStreamsAtATime(t *testing.T) {
	d, as := principals(t, map[string]string{"p": `submit: ["*"], limits: {streams: 2}`, "q": `submit: ["*"]`})
	h := serve(t, dispatch.Options{}, Options{Auth: d})
	open := func(name string) (context.CancelFunc, error) {
		ctx, cancel := context.WithCancel(as(h.ctx, name))
		stream, err := h.tasks.SubmitStream(ctx)
		if err == nil {
			_, err = stream.Recv()
		}
		return cancel, err
	}
	first, err := open("p")
	if err != nil {
		t.Fatal(err)
	}
	second, err := open("p")
	defer second()
	if err != nil {
		t.Fatal(err)
	}
	third, err := open("p")
	third()
	wants(t, err, refused{code: codes.ResourceExhausted, reason: "STREAM_LIMIT", retry: true})
	other, err := open("q")
	defer other()
	if err != nil {
		t.Errorf("another principal: %v", err)
	}
	first()
	h.eventually("a stream that has ended makes room", func() bool {
		again, err := open("p")
		again()
		return err == nil
	})
}

func TestTasksWithoutAnOutcome(t *testing.T) {
	d, as := principals(t, map[string]string{"p": `submit: ["*"], limits: {tasks_in_flight: 1}`, "usual": `submit: ["*"]`})
	h := serve(t, dispatch.Options{Store: memory.New()}, Options{Auth: d, PrincipalLimits: Limits{TasksInFlight: 2}})
	for name, most := range map[string]int{"p": 1, "usual": 2} {
		req := &pb.EnqueueRequest{Tasks: []*pb.EnqueueTask{{Function: "f"}, {Function: "f"}, {Function: "f"}}}
		resp, err := h.tasks.Enqueue(as(h.ctx, name), req)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range resp.Results {
			if refused := r.Error != nil; refused != (i >= most) || refused && r.Error.Reason != "QUEUE_FULL" {
				t.Errorf("%s: task %d: %v, want %d accepted", name, i, r.Error, most)
			}
		}
	}
}

// tcp serves the house on TCP too, and returns a function that dials it.
func (h *house) tcp() func() *grpc.ClientConn {
	h.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() { _ = h.s.Serve(l) })
	h.t.Cleanup(func() { h.s.Close(); served.Wait() })
	return func() *grpc.ClientConn {
		conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			h.t.Fatal(err)
		}
		h.t.Cleanup(func() { conn.Close() })
		return conn
	}
}

// Connections of one principal count while calls are open on them.
func TestConnectionsOfAPrincipal(t *testing.T) {
	d, as := principals(t, map[string]string{"p": `submit: ["*"], limits: {connections: 1}`})
	h := serve(t, dispatch.Options{}, Options{Auth: d})
	dial := h.tcp()
	one, two := dial(), dial()
	ctx, cancel := context.WithCancel(as(h.ctx, "p"))
	stream, err := pb.NewTaskServiceClient(one).SubmitStream(ctx)
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pb.NewTaskServiceClient(one).ListTasks(as(h.ctx, "p"), &pb.ListTasksRequest{}); err != nil {
		t.Errorf("a second call on the same connection: %v", err)
	}
	_, err = pb.NewTaskServiceClient(two).ListTasks(as(h.ctx, "p"), &pb.ListTasksRequest{})
	wants(t, err, refused{code: codes.ResourceExhausted, reason: "CONNECTION_LIMIT", retry: true})
	cancel()
	h.eventually("the other connection may call", func() bool {
		_, err := pb.NewTaskServiceClient(two).ListTasks(as(h.ctx, "p"), &pb.ListTasksRequest{})
		return err == nil
	})
}

// An address has limits of its own, also where nobody is told apart; health is
// looked after whatever else an address has open.
func TestAddresses(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{AddressLimits: Limits{Streams: 1, TasksPerSecond: 0.001, Burst: 1}})
	conn := h.tcp()()
	tasks := pb.NewTaskServiceClient(conn)
	stream, err := tasks.SubmitStream(h.ctx)
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	again, err := tasks.SubmitStream(h.ctx)
	if err == nil {
		_, err = again.Recv()
	}
	wants(t, err, refused{code: codes.ResourceExhausted, reason: "STREAM_LIMIT", retry: true})
	_, err = tasks.Submit(h.ctx, &pb.SubmitRequest{Function: "f", FailFast: true})
	wants(t, err, refused{code: codes.Unavailable, reason: "NO_WORKER", retry: true})
	_, err = tasks.Submit(h.ctx, &pb.SubmitRequest{Function: "f", FailFast: true})
	wants(t, err, refused{code: codes.ResourceExhausted, reason: "RATE_LIMIT", retry: true})
	if _, err := healthpb.NewHealthClient(conn).Check(h.ctx, &healthpb.HealthCheckRequest{}); err != nil {
		t.Error(err)
	}
}

// A connection too many is closed, and room is made by one that ends.
func TestConnectionsOfAnAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var refused []string
	limited := newPerAddress(l, 1, func(address string, most int) { refused = append(refused, fmt.Sprint(address, " ", most)) })
	accepted := make(chan net.Conn)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := limited.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	})
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		return conn
	}
	dial()
	one := <-accepted
	if n, err := dial().Read(make([]byte, 1)); n != 0 || err == nil {
		t.Fatalf("a connection too many reads %d bytes, %v", n, err)
	}
	_ = one.Close()
	_ = one.Close() // a second time changes nothing
	dial()
	_ = (<-accepted).Close()
	_ = limited.Close()
	serving.Wait()
	if len(refused) != 1 || refused[0] != "127.0.0.1 1" {
		t.Errorf("told of %q, want of one", refused)
	}
}

// Who is gone costs nothing: quotas are forgotten when they have recovered.
func TestQuotasAreForgotten(t *testing.T) {
	q := newQuotas(true, Limits{Streams: 1}, Limits{})
	ctx := context.WithValue(t.Context(), callerKey{}, testCaller("p"))
	ctx = peer.NewContext(ctx, &peer.Peer{Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}})
	held, err := q.enter(ctx, true)
	if err != nil || len(q.by) != 1 {
		t.Fatal(err, len(q.by))
	}
	if none, err := q.enter(ctx, false); none != nil || err != nil {
		t.Errorf("a call that is no stream counts: %v, %v", none, err)
	}
	q.leave(held)
	if len(q.by) != 0 {
		t.Errorf("%d quotas are left", len(q.by))
	}
}

func testCaller(name string) *caller {
	c := &caller{lost: make(chan struct{})}
	c.identity.Store(&auth.Identity{Principal: &auth.Principal{Name: name}})
	return c
}

// What calls of an address wait for is counted until each has its outcome, by unary
// calls and streams together, and given back by a stream that breaks off.
func TestTasksOfAnAddress(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{AddressLimits: Limits{TasksInFlight: 2, QueuedBytes: 100}})
	tasks := pb.NewTaskServiceClient(h.tcp()())
	ctx, cancel := context.WithCancel(h.ctx)
	stream, err := tasks.SubmitStream(ctx)
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tasks.SubmitStream(h.ctx); err != nil { // one that goes on
		t.Fatal(err)
	}
	submit := func(n uint64, bytes int) {
		_ = stream.Send(&pb.SubmitStreamRequest{Tasks: []*pb.StreamTask{{Number: n, Function: "f", Payload: make([]byte, bytes)}}})
	}
	answer := func() *pb.StreamOutcome {
		t.Helper()
		frame, err := stream.Recv()
		if err != nil || len(frame.Outcomes) != 1 {
			t.Fatal(frame, err)
		}
		return frame.Outcomes[0]
	}
	submit(1, 60)
	submit(2, 41)
	if o := answer(); o.Number != 2 || o.Error.GetReason() != "BYTE_LIMIT" {
		t.Fatalf("%v, want 2 refused for its bytes", o)
	}
	submit(3, 40)
	submit(4, 0)
	if o := answer(); o.Number != 4 || o.Error.GetReason() != "TASK_LIMIT" {
		t.Fatalf("%v, want 4 refused", o)
	}
	_, err = tasks.Submit(h.ctx, &pb.SubmitRequest{Function: "g", FailFast: true})
	wants(t, err, refused{code: codes.ResourceExhausted, reason: "TASK_LIMIT", retry: true})
	w := h.worker("w", 1, "f")
	a := w.recv().AssignTasks[0]
	w.send(&pb.WorkRequest{TaskResults: []*pb.TaskResult{{TaskId: a.TaskId, Attempt: a.Attempt, Token: a.Token}}})
	if o := answer(); o.Number != 1 || o.Error != nil {
		t.Fatalf("%v, want 1 done", o)
	}
	submit(5, 60)
	cancel()
	h.eventually("what a broken stream held is free", func() bool {
		_, err := tasks.Submit(h.ctx, &pb.SubmitRequest{Function: "g", FailFast: true, Payload: make([]byte, 100)})
		return status.Code(err) == codes.Unavailable // no worker
	})
}
