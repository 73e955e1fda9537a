package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// house is a server with the real dispatcher, and a client's side of it.
type house struct {
	t     testing.TB
	ctx   context.Context // ends with the test, and with its patience
	d     *dispatch.Dispatcher
	s     *Server
	lis   *bufconn.Listener
	conn  *grpc.ClientConn
	tasks pb.TaskServiceClient
	work  pb.WorkerServiceClient
	admin pb.AdminServiceClient
}

// serve starts a house that ends with the test.
func serve(t testing.TB, do dispatch.Options, o Options) *house {
	t.Helper()
	return serveInside(t, do, o, func(d *dispatch.Dispatcher) Inside { return d })
}

func serveInside(t testing.TB, do dispatch.Options, o Options, wrap func(*dispatch.Dispatcher) Inside) *house {
	t.Helper()
	d, err := dispatch.Open(do)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	h := &house{t: t, ctx: ctx, d: d, s: NewServer(wrap(d), o), lis: bufconn.Listen(1 << 20)}
	var served sync.WaitGroup
	served.Go(func() {
		if err := h.s.Serve(h.lis); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	h.conn = h.dial()
	h.tasks, h.work, h.admin = pb.NewTaskServiceClient(h.conn), pb.NewWorkerServiceClient(h.conn), pb.NewAdminServiceClient(h.conn)
	t.Cleanup(func() {
		cancel()
		h.s.Close()
		served.Wait()
		d.Close()
	})
	return h
}

// dial opens a connection of its own, which ends with the test.
func (h *house) dial() *grpc.ClientConn {
	h.t.Helper()
	conn, err := grpc.NewClient("passthrough:house",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return h.lis.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(1<<20),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	return conn
}

// eventually waits until the condition holds.
func (h *house) eventually(what string, holds func() bool) {
	h.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-h.ctx.Done():
			h.t.Fatalf("%s: not within %v; the dispatcher holds %+v", what, patience, h.d.Info())
		}
	}
}

// worker is a scripted worker on a Work stream.
type worker struct {
	h      *house
	stream pb.WorkerService_WorkClient
	ack    *pb.Ack
	acked  []uint64 // tokens of results that need not be kept
}

// openWork opens a Work stream that has said nothing yet.
func (h *house) openWork() *worker {
	h.t.Helper()
	stream, err := h.work.Work(h.ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	return &worker{h: h, stream: stream}
}

// worker registers one that must be accepted.
func (h *house) worker(id string, slots int32, functions ...string) *worker {
	h.t.Helper()
	return h.register(&pb.Register{WorkerId: id, Slots: slots, Functions: functions})
}

func (h *house) register(r *pb.Register) *worker {
	h.t.Helper()
	w := h.openWork()
	w.send(&pb.WorkRequest{Register: r})
	f, err := w.stream.Recv()
	if err != nil {
		h.t.Fatalf("worker %s: %v", r.WorkerId, err)
	}
	if f.Ack == nil || len(f.AssignTasks) > 0 {
		h.t.Fatalf("worker %s: the first frame is %v, want an ack", r.WorkerId, f)
	}
	w.ack = f.Ack
	return w
}

func (w *worker) send(f *pb.WorkRequest) {
	w.h.t.Helper()
	if err := w.stream.Send(f); err != nil && err != io.EOF { // EOF: Recv tells why
		w.h.t.Fatal(err)
	}
}

// recv returns the next frame that says more than heartbeat, which it echoes, and
// than acknowledgements, which it keeps.
func (w *worker) recv() *pb.WorkResponse {
	w.h.t.Helper()
	for {
		f, err := w.stream.Recv()
		if err != nil {
			w.h.t.Fatalf("worker: %v", err)
		}
		w.acked = append(w.acked, f.AckedTokens...)
		if f.Heartbeat != nil {
			w.send(&pb.WorkRequest{Heartbeat: &pb.Heartbeat{}})
		}
		if len(f.AssignTasks)+len(f.CancelTasks) > 0 || f.Drain != nil {
			return f
		}
	}
}

// task returns the next assignment.
func (w *worker) task() *pb.AssignTask {
	w.h.t.Helper()
	f := w.recv()
	if len(f.AssignTasks) != 1 {
		w.h.t.Fatalf("worker: the frame %v has %d assignments, want 1", f, len(f.AssignTasks))
	}
	return f.AssignTasks[0]
}

// cancelled returns the next cancel.
func (w *worker) cancelled() *pb.CancelTask {
	w.h.t.Helper()
	f := w.recv()
	if len(f.CancelTasks) != 1 {
		w.h.t.Fatalf("worker: the frame %v has %d cancels, want 1", f, len(f.CancelTasks))
	}
	return f.CancelTasks[0]
}

func (w *worker) answer(a *pb.AssignTask, result string) {
	w.h.t.Helper()
	w.send(&pb.WorkRequest{TaskResults: []*pb.TaskResult{
		{TaskId: a.TaskId, Attempt: a.Attempt, Token: a.Token, Result: []byte(result)}}})
}

func (w *worker) fail(a *pb.AssignTask, f *pb.Failure) {
	w.h.t.Helper()
	w.send(&pb.WorkRequest{TaskResults: []*pb.TaskResult{
		{TaskId: a.TaskId, Attempt: a.Attempt, Token: a.Token, Failure: f}}})
}

// end reads until the stream ends, and tells how; nil is OK.
func (w *worker) end() error {
	for {
		if _, err := w.stream.Recv(); err != nil {
			return orderly(err)
		}
	}
}

// work answers everything in the background with what result makes of it, until
// the stream ends. A nil answer: none.
func (w *worker) work(result func(*pb.AssignTask) *pb.TaskResult) *worker {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			f, err := w.stream.Recv()
			if err != nil {
				return
			}
			up := &pb.WorkRequest{Heartbeat: f.Heartbeat, Drain: f.Drain}
			for _, a := range f.AssignTasks {
				r := result(a)
				r.TaskId, r.Attempt, r.Token = a.TaskId, a.Attempt, a.Token
				up.TaskResults = append(up.TaskResults, r)
			}
			w.stream.Send(up)
			if f.Drain != nil {
				w.stream.CloseSend()
			}
		}
	}()
	w.h.t.Cleanup(func() { w.h.s.Close(); <-done })
	return w
}

func echo(a *pb.AssignTask) *pb.TaskResult { return &pb.TaskResult{Result: a.Payload} }

// orderly is nil for the end of a stream with OK.
func orderly(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// refused is an error as a peer sees it.
type refused struct {
	code   codes.Code
	reason string
	field  string // of BadRequest; "" when there must be none
	retry  bool   // whether there must be RetryInfo
}

// wants fails unless err is that on the wire; it returns its metadata.
func wants(t testing.TB, err error, want refused) map[string]string {
	t.Helper()
	st := status.Convert(err)
	var got refused
	var info *errdetails.ErrorInfo
	got.code = st.Code()
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			info, got.reason = d, d.Reason
		case *errdetails.BadRequest:
			got.field = d.FieldViolations[0].Field
		case *errdetails.RetryInfo:
			got.retry = d.RetryDelay.AsDuration() > 0
		}
	}
	if got != want {
		t.Fatalf("error %+v (%v), want %+v", got, err, want)
	}
	if info.GetDomain() != "reparto" || st.Message() == "" {
		t.Fatalf("domain %q message %q, want reparto and one", info.GetDomain(), st.Message())
	}
	return info.Metadata
}

// client is a scripted client on a SubmitStream.
type client struct {
	h      *house
	stream pb.TaskService_SubmitStreamClient
	limits *pb.ClientLimits
	cancel context.CancelFunc
	got    []*pb.StreamOutcome // received, not yet asked for
}

func (h *house) client() *client {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.ctx)
	h.t.Cleanup(cancel)
	stream, err := h.tasks.SubmitStream(ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	f, err := stream.Recv()
	if err != nil {
		h.t.Fatal(err)
	}
	if f.Limits == nil || len(f.Outcomes) > 0 {
		h.t.Fatalf("the first frame is %v, want limits and nothing else", f)
	}
	return &client{h: h, stream: stream, limits: f.Limits, cancel: cancel}
}

func (c *client) send(f *pb.SubmitStreamRequest) {
	c.h.t.Helper()
	if err := c.stream.Send(f); err != nil && err != io.EOF {
		c.h.t.Fatal(err)
	}
}

func (c *client) submit(tasks ...*pb.StreamTask) {
	c.h.t.Helper()
	c.send(&pb.SubmitStreamRequest{Tasks: tasks})
}

// outcome waits for the outcome of the number; others are kept for later.
func (c *client) outcome(number uint64) *pb.StreamOutcome {
	c.h.t.Helper()
	for {
		if i := slices.IndexFunc(c.got, func(o *pb.StreamOutcome) bool { return o.Number == number }); i >= 0 {
			o := c.got[i]
			c.got = slices.Delete(c.got, i, i+1)
			return o
		}
		f, err := c.stream.Recv()
		if err != nil {
			c.h.t.Fatalf("no outcome of number %d: %v", number, err)
		}
		if f.Limits != nil {
			c.h.t.Fatalf("limits came a second time: %v", f)
		}
		c.got = append(c.got, f.Outcomes...)
	}
}

// end reads until the stream ends, and tells how; nil is OK.
func (c *client) end() error {
	for {
		f, err := c.stream.Recv()
		if err != nil {
			return orderly(err)
		}
		c.got = append(c.got, f.Outcomes...)
	}
}

func streamTask(number uint64, function, payload string) *pb.StreamTask {
	return &pb.StreamTask{Number: number, Function: function, Payload: []byte(payload)}
}
