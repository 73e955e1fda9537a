package worker

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	pb "reparto/gen/reparto/v1"
)

// balancer is a balancer that does as a test tells it, on a network in memory.
type balancer struct {
	pb.UnimplementedWorkerServiceServer
	conn  *grpc.ClientConn
	talks chan *talk
	deaf  atomic.Bool // it reads no more than the registration
	limbo atomic.Bool // dialling it goes on and on

	mu     sync.Mutex
	lis    *bufconn.Listener // nil while it is down
	server *grpc.Server
}

// talk is the balancer's side of one Work stream.
type talk struct {
	t        testing.TB
	stream   pb.WorkerService_WorkServer
	register *pb.Register
	in       chan *pb.WorkRequest // closed at the end of the worker's side
	inErr    error                // valid after that; io.EOF when it said good-bye
	end      chan error
	held     []*pb.TaskResult

	mu   sync.Mutex // of sending
	mute atomic.Bool
}

// patience is far beyond what anything here takes; in a bubble it costs nothing.
const patience = time.Hour

func newBalancer(t testing.TB) *balancer {
	b := &balancer{talks: make(chan *talk, 16)}
	b.up()
	conn, err := grpc.NewClient("passthrough:///balancer", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			if b.limbo.Load() {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			b.mu.Lock()
			lis := b.lis
			b.mu.Unlock()
			if lis == nil {
				return nil, errors.New("connection refused")
			}
			return lis.DialContext(ctx)
		}))
	if err != nil {
		t.Fatal(err)
	}
	b.conn = conn
	t.Cleanup(func() { conn.Close(); b.down() })
	return b
}

// up starts it, down kills it.
func (b *balancer) up() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lis = bufconn.Listen(1 << 20)
	b.server = grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20))
	pb.RegisterWorkerServiceServer(b.server, b)
	go b.server.Serve(b.lis)
}

func (b *balancer) down() {
	b.mu.Lock()
	server := b.server
	b.lis, b.server = nil, nil
	b.mu.Unlock()
	if server != nil {
		server.Stop()
	}
}

func (b *balancer) Work(stream pb.WorkerService_WorkServer) error {
	k := &talk{stream: stream, in: make(chan *pb.WorkRequest, 100_000), end: make(chan error, 1)}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	k.register = first.GetRegister()
	go func() {
		defer close(k.in)
		if b.deaf.Load() {
			<-stream.Context().Done()
			return
		}
		for {
			m, err := stream.Recv()
			if err != nil {
				k.inErr = err
				return
			}
			k.in <- m
		}
	}()
	b.talks <- k
	select {
	case err := <-k.end:
		return err
	case <-stream.Context().Done():
		return nil
	}
}

// knock waits for a worker to dial and register, and leaves it without an answer.
func (b *balancer) knock(t testing.TB) *talk {
	t.Helper()
	select {
	case k := <-b.talks:
		k.t = t
		return k
	case <-time.After(patience):
		t.Fatal("no worker came")
		return nil
	}
}

// accept waits for a worker and accepts its registration.
func (b *balancer) accept(t testing.TB) *talk {
	t.Helper()
	k := b.knock(t)
	k.say(&pb.WorkResponse{Ack: &pb.Ack{
		WorkerId: k.register.GetWorkerId(), SessionId: "ses-1", ServerId: "srv-1", HeartbeatIntervalMs: 5000,
		Limits: &pb.WorkerLimits{MaxPayloadBytes: 4 << 20, MaxMessageBytes: 5 << 20, MaxFrameTasks: 256},
	}})
	go k.beat()
	return k
}

// beat sends heartbeats until the stream ends.
func (k *talk) beat() {
	for {
		select {
		case <-k.stream.Context().Done():
			return
		case <-time.After(5 * time.Second):
		}
		if !k.mute.Load() {
			k.mu.Lock()
			k.stream.Send(&pb.WorkResponse{Heartbeat: &pb.Heartbeat{}})
			k.mu.Unlock()
		}
	}
}

func (k *talk) say(m *pb.WorkResponse) {
	k.t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.stream.Send(m); err != nil {
		k.t.Errorf("the fake balancer can't send: %v", err)
	}
}

// assign gives out tasks of a function, with their tokens as payload-less names.
func (k *talk) assign(function string, tokens ...uint64) {
	k.t.Helper()
	m := &pb.WorkResponse{}
	for _, token := range tokens {
		m.AssignTasks = append(m.AssignTasks, assignment(function, token))
	}
	k.say(m)
}

func assignment(function string, token uint64) *pb.AssignTask {
	return &pb.AssignTask{
		TaskId: taskID(token), Attempt: 2, Token: token, Function: function,
		Payload: []byte("in"), TimeRemainingMs: (24 * time.Hour).Milliseconds(),
	}
}

func taskID(token uint64) string { return "task-" + string(rune('a'+token%26)) }

func (k *talk) cancel(token uint64, reason string) {
	k.t.Helper()
	k.say(&pb.WorkResponse{CancelTasks: []*pb.CancelTask{{TaskId: taskID(token), Token: token, Reason: reason}}})
}

func (k *talk) sayDrain(after time.Duration) {
	k.t.Helper()
	k.say(&pb.WorkResponse{Drain: &pb.Drain{ReconnectAfterMs: after.Milliseconds()}})
}

// next is the next frame of any kind; nil at the end of the worker's side.
func (k *talk) next() *pb.WorkRequest {
	k.t.Helper()
	select {
	case m := <-k.in:
		return m
	case <-time.After(patience):
		k.t.Fatal("the worker says nothing")
		return nil
	}
}

// answer is the next answer to an assignment.
func (k *talk) answer() *pb.TaskResult {
	k.t.Helper()
	for len(k.held) == 0 {
		m := k.next()
		if m == nil {
			k.t.Fatalf("the stream ended (%v) before an answer came", k.inErr)
		}
		k.held = m.GetTaskResults()
	}
	r := k.held[0]
	k.held = k.held[1:]
	return r
}

// drained waits for the worker's drain.
func (k *talk) drained() {
	k.t.Helper()
	for {
		m := k.next()
		if m == nil {
			k.t.Fatalf("the stream ended (%v) before a drain came", k.inErr)
		}
		k.held = append(k.held, m.GetTaskResults()...)
		if m.GetDrain() != nil {
			return
		}
	}
}

// gone waits for the end of the worker's side and returns its error.
func (k *talk) gone() error {
	k.t.Helper()
	for k.next() != nil {
	}
	return k.inErr
}

// goodbye plays the balancer's part in a worker's leaving.
func (k *talk) goodbye() {
	k.t.Helper()
	k.drained()
	k.sayDrain(0)
	for m := k.next(); m != nil; m = k.next() {
	}
	k.end <- nil
}

// subject is the worker that is tested.
type subject struct {
	t    testing.TB
	stop context.CancelFunc
	err  chan error
}

func start(t testing.TB, b *balancer, h Handlers, o Options) *subject {
	ctx, stop := context.WithCancel(t.Context())
	w := &subject{t: t, stop: stop, err: make(chan error, 1)}
	go func() { w.err <- Run(ctx, b.conn, h, o) }()
	return w
}

// result waits for Run to return.
func (w *subject) result() error {
	w.t.Helper()
	select {
	case err := <-w.err:
		return err
	case <-time.After(patience):
		w.t.Fatal("Run does not return")
		return nil
	}
}

func (w *subject) wantNil() {
	w.t.Helper()
	if err := w.result(); err != nil {
		w.t.Errorf("Run returned %v, want nil", err)
	}
}

// running fails if Run has returned.
func (w *subject) running() {
	w.t.Helper()
	synctest.Wait()
	select {
	case err := <-w.err:
		w.t.Fatalf("Run returned too early: %v", err)
	default:
	}
}

// echo answers with its payload.
func echo(_ context.Context, t Task) ([]byte, error) { return t.Payload, nil }

// gate is a handler that waits to be let through, or for its context.
type gate struct {
	entered chan Task
	open    chan struct{}
}

func newGate() *gate {
	return &gate{entered: make(chan Task, 10_000), open: make(chan struct{})}
}

func (g *gate) handle(ctx context.Context, t Task) ([]byte, error) {
	g.entered <- t
	select {
	case <-g.open:
		return []byte("done"), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// stubborn waits to be let through, whatever its context says.
func (g *gate) stubborn(_ context.Context, t Task) ([]byte, error) {
	g.entered <- t
	<-g.open
	return []byte("done"), nil
}

func wantFailure(t testing.TB, r *pb.TaskResult, reason string) {
	t.Helper()
	if got := r.GetFailure().GetReason(); got != reason {
		t.Errorf("answer %v: reason %q, want %q", r, got, reason)
	}
}

func wantResult(t testing.TB, r *pb.TaskResult, token uint64, result string) {
	t.Helper()
	if r.GetFailure() != nil || r.GetToken() != token || string(r.GetResult()) != result || r.GetAttempt() != 2 || r.GetTaskId() != taskID(token) {
		t.Errorf("answer %v, want %q for token %d", r, result, token)
	}
}

// refused is an error as the balancer makes it.
func refused(code codes.Code, reason string) error {
	s, err := status.New(code, "no: "+reason).WithDetails(&errdetails.ErrorInfo{Domain: "reparto", Reason: reason})
	if err != nil {
		panic(err)
	}
	return s.Err()
}
