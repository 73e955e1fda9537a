package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/rpc"
	"reparto/internal/store/memory"
	"reparto/worker"
)

// real is a balancer, and a worker with a few functions, over a pipe.
type real struct {
	conn     *grpc.ClientConn
	requests atomic.Int64
	lose     atomic.Int64 // so many answers are lost on their way
	lost     func()       // called for each of them; nil for nobody
}

func startReal(t *testing.T) *real {
	t.Helper()
	d, err := dispatch.Open(dispatch.Options{Store: memory.New()})
	if err != nil {
		t.Fatal(err)
	}
	s, l, r := rpc.NewServer(d, rpc.Options{}), bufconn.Listen(1<<20), &real{}
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	r.conn, err = grpc.NewClient("passthrough:///real", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
			err := invoke(ctx, method, req, reply, cc, o...)
			if method != pb.TaskService_Enqueue_FullMethodName {
				return err
			}
			r.requests.Add(1)
			if r.lose.Add(-1) >= 0 {
				if r.lost != nil {
					r.lost()
				}
				return status.Error(codes.Unavailable, "the answer was lost")
			}
			return err
		}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		_ = worker.Run(ctx, r.conn, worker.Handlers{
			"echo": func(_ context.Context, t worker.Task) ([]byte, error) { return t.Payload, nil },
			"bad": func(context.Context, worker.Task) ([]byte, error) {
				return nil, worker.Fail("BAD", errors.New("no good"))
			},
		}, worker.Options{ID: "w", DrainTimeout: time.Second})
	})
	t.Cleanup(func() {
		cancel()
		s.Close()
		d.Close()
		wg.Wait()
		r.conn.Close()
	})
	return r
}

func TestEnqueueAndWait(t *testing.T) {
	r := startReal(t)
	c := New(r.conn)
	defer c.Close()
	ctx := t.Context()
	id, err := c.Enqueue(ctx, DurableTask{Function: "echo", Payload: []byte("hola"), Metadata: map[string]string{"k": "v"}, Priority: 1})
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.Wait(ctx, id)
	if err != nil || string(out.Result) != "hola" || out.Attempt != 1 || out.WorkerID != "w" || out.TaskID != id {
		t.Fatalf("%+v, %v", out, err)
	}
	info, err := c.Get(ctx, id)
	if err != nil || info.State != Succeeded || info.Priority != 1 || info.Metadata["k"] != "v" || len(info.Attempts) != 1 || info.Err != nil {
		t.Fatalf("%+v, %v", info, err)
	}
	bad, err := c.Enqueue(ctx, DurableTask{Function: "bad"})
	if err != nil {
		t.Fatal(err)
	}
	var failed *TaskError
	if _, err = c.Wait(ctx, bad); !errors.As(err, &failed) || failed.Reason != "BAD" || failed.Attempt != 1 {
		t.Fatalf("%v", err)
	}
	if x, err := c.Explain(ctx, bad); err != nil || x.State != Failed || x.Text == "" {
		t.Fatalf("%+v, %v", x, err)
	}
	if info, err = c.RetryTask(ctx, bad); err != nil || info.State == Cancelled {
		t.Fatalf("%+v, %v", info, err)
	}
	later, err := c.Enqueue(ctx, DurableTask{Function: "echo", ID: "later", Delay: time.Hour})
	if err != nil || later != "later" {
		t.Fatal(later, err)
	}
	if info, err = c.CancelTask(ctx, later); err != nil || info.State != Cancelled {
		t.Fatalf("%+v, %v", info, err)
	}
	if _, err = c.Wait(ctx, later); status.Code(err) != codes.Canceled || !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	if _, err = c.Wait(ctx, "nobody"); status.Code(err) != codes.NotFound {
		t.Fatalf("%v", err)
	}
	if _, err = c.Enqueue(ctx, DurableTask{Function: "no good"}); status.Code(err) != codes.InvalidArgument {
		t.Fatalf("%v", err)
	}
	n := 0
	for _, err := range c.List(ctx, Filter{State: Cancelled}) {
		if n++; err != nil {
			t.Fatal(err)
		}
	}
	if n != 1 {
		t.Fatalf("%d tasks are listed as cancelled, want 1", n)
	}
}

// Calls that are made at the same time travel together, and each has its answer.
func TestConcurrentEnqueuesTravelTogether(t *testing.T) {
	r := startReal(t)
	c := New(r.conn)
	defer c.Close()
	const n = 2000
	var wg sync.WaitGroup
	var ids sync.Map
	for i := range n {
		wg.Go(func() {
			id, err := c.Enqueue(t.Context(), DurableTask{Function: "echo", Payload: fmt.Append(nil, i)})
			if err != nil {
				t.Error(err)
			}
			ids.Store(id, i)
		})
	}
	wg.Wait()
	if got := r.requests.Load(); got > n/4 {
		t.Errorf("%d tasks travelled in %d requests", n, got)
	}
	seen := 0
	ids.Range(func(id, i any) bool {
		seen++
		if seen%100 == 0 {
			if out, err := c.Wait(t.Context(), id.(string)); err != nil || string(out.Result) != fmt.Sprint(i) {
				t.Errorf("task %v: %s, %v", i, out.Result, err)
			}
		}
		return true
	})
	if seen != n {
		t.Errorf("%d ids, want %d", seen, n)
	}
}

// An answer that is lost does not enqueue the task twice.
func TestALostAnswer(t *testing.T) {
	r := startReal(t)
	c := New(r.conn)
	defer c.Close()
	r.lose.Store(2)
	id, err := c.Enqueue(t.Context(), DurableTask{Function: "echo", Payload: []byte("once")})
	if err != nil || r.requests.Load() != 3 {
		t.Fatal(err, r.requests.Load())
	}
	n := 0
	for info, err := range c.List(t.Context(), Filter{}) {
		if n++; err != nil || info.ID != id {
			t.Fatalf("%+v, %v", info, err)
		}
	}
	if n != 1 {
		t.Fatalf("%d tasks, want 1", n)
	}
	results := c.EnqueueAll(t.Context(), make([]DurableTask, 1500))
	if len(results) != 1500 || status.Code(results[1499].Err) != codes.InvalidArgument {
		t.Fatalf("%d results, the last %+v", len(results), results[len(results)-1])
	}
}

func TestEnqueueOnAClosedClient(t *testing.T) {
	r := startReal(t)
	c := New(r.conn)
	c.Close()
	if _, err := c.Enqueue(t.Context(), DurableTask{Function: "echo"}); err == nil || err.(*Error).Reason != "CLIENT_CLOSED" {
		t.Fatal(err)
	}
}

// A context that ends leaves the caller with the id and an honest error.
func TestEnqueueWhoseContextEnds(t *testing.T) {
	r := startReal(t)
	c := New(r.conn)
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r.lose.Store(1 << 40)
	r.lost = cancel
	id, err := c.Enqueue(ctx, DurableTask{Function: "echo"})
	if id == "" || !errors.Is(err, context.Canceled) || !errors.Is(err, ErrFateUnknown) {
		t.Fatalf("%q, %v", id, err)
	}
}

func TestPauseResumeDrain(t *testing.T) {
	r := startReal(t)
	c := New(r.conn)
	defer c.Close()
	if was, err := c.Pause(t.Context(), "echo"); was || err != nil {
		t.Fatal(was, err)
	}
	id, err := c.Enqueue(t.Context(), DurableTask{Function: "echo"})
	if err != nil {
		t.Fatal(err)
	}
	if x, err := c.Explain(t.Context(), id); err != nil || !x.Paused {
		t.Fatalf("%+v, %v", x, err)
	}
	if was, err := c.Resume(t.Context(), "echo"); !was || err != nil {
		t.Fatal(was, err)
	}
	if _, err := c.Wait(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := c.DrainWorker(t.Context(), "w"); err != nil {
		t.Fatal(err)
	}
	if err := c.DrainWorker(t.Context(), "nobody"); status.Code(err) != codes.NotFound {
		t.Fatal(err)
	}
}
