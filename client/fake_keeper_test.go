package client

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	pb "reparto/gen/reparto/v1"
)

// keeper is a balancer whose unary calls a test scripts. It keeps tasks by their
// ids, as a real one would.
type keeper struct {
	pb.UnimplementedTaskServiceServer
	pb.UnimplementedAdminServiceServer
	t    testing.TB
	conn *grpc.ClientConn

	forget bool // keeps nothing, and only answers
	// before is asked first: an error is the answer. It may block.
	before func(ctx context.Context, req *pb.EnqueueRequest) error
	// after is asked once the tasks are kept, and may change the answer.
	after  func(resp *pb.EnqueueResponse) error
	wait   func(n int) (*pb.WaitTaskResponse, error)
	list   func(*pb.ListTasksRequest) (*pb.ListTasksResponse, error)
	ofWork func(*pb.ListWorkersRequest) (*pb.ListWorkersResponse, error)
	ofFunc func(*pb.ListFunctionsRequest) (*pb.ListFunctionsResponse, error)

	mu       sync.Mutex
	requests []*pb.EnqueueRequest
	kept     map[string]bool
	waits    int
}

func newKeeper(t testing.TB, opts ...grpc.ServerOption) *keeper {
	t.Helper()
	k := &keeper{t: t, kept: map[string]bool{}}
	l, s := bufconn.Listen(1<<20), grpc.NewServer(append([]grpc.ServerOption{grpc.MaxRecvMsgSize(16 << 20)}, opts...)...)
	pb.RegisterTaskServiceServer(s, k)
	pb.RegisterAdminServiceServer(s, k)
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) })
	conn, err := grpc.NewClient("passthrough:///keeper", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	k.conn = conn
	t.Cleanup(func() {
		conn.Close()
		s.Stop()
		serving.Wait()
	})
	return k
}

func (k *keeper) client(opts ...Option) *Client {
	c := New(k.conn, opts...)
	k.t.Cleanup(func() { c.Close() })
	return c
}

func (k *keeper) Enqueue(ctx context.Context, req *pb.EnqueueRequest) (*pb.EnqueueResponse, error) {
	if k.forget {
		all := make([]pb.Enqueued, len(req.GetTasks()))
		resp := &pb.EnqueueResponse{Results: make([]*pb.Enqueued, len(all))}
		for i, t := range req.GetTasks() {
			resp.Results[i] = &all[i]
			all[i].TaskId = t.GetTaskId()
		}
		return resp, nil
	}
	k.mu.Lock()
	k.requests = append(k.requests, req)
	k.mu.Unlock()
	if k.before != nil {
		if err := k.before(ctx, req); err != nil {
			return nil, err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	resp := &pb.EnqueueResponse{}
	for _, t := range req.GetTasks() {
		e := &pb.Enqueued{TaskId: t.GetTaskId(), Existed: k.kept[t.GetTaskId()]}
		if t.GetFreshId() && e.Existed {
			k.t.Errorf("task %s is said to be new, and is here already", t.GetTaskId())
		}
		k.kept[t.GetTaskId()] = true
		resp.Results = append(resp.Results, e)
	}
	if k.after != nil {
		return resp, k.after(resp)
	}
	return resp, nil
}

// seen is how many tasks each request had.
func (k *keeper) seen() (sizes []int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.requests {
		sizes = append(sizes, len(r.GetTasks()))
	}
	return sizes
}

func (k *keeper) WaitTask(context.Context, *pb.WaitTaskRequest) (*pb.WaitTaskResponse, error) {
	k.mu.Lock()
	k.waits++
	n := k.waits
	k.mu.Unlock()
	return k.wait(n)
}

func (k *keeper) ListTasks(_ context.Context, req *pb.ListTasksRequest) (*pb.ListTasksResponse, error) {
	return k.list(req)
}

func (k *keeper) ListWorkers(_ context.Context, req *pb.ListWorkersRequest) (*pb.ListWorkersResponse, error) {
	return k.ofWork(req)
}

func (k *keeper) ListFunctions(_ context.Context, req *pb.ListFunctionsRequest) (*pb.ListFunctionsResponse, error) {
	return k.ofFunc(req)
}

// gate blocks requests until it is opened, or the client has gone.
type gate struct {
	opened chan struct{}
	once   sync.Once
}

func newGate(t testing.TB) *gate {
	g := &gate{opened: make(chan struct{})}
	t.Cleanup(g.open)
	return g
}

func (g *gate) open() { g.once.Do(func() { close(g.opened) }) }

func (g *gate) pass(ctx context.Context, _ *pb.EnqueueRequest) error {
	select {
	case <-g.opened:
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

// nowhere is a connection to where nobody listens.
func nowhere(t testing.TB) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///nowhere", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return nil, errors.New("nobody listens") }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

var errBroken = status.Error(codes.Unavailable, "the connection broke")

// enqueuedLater is what an Enqueue returns, some time.
func enqueuedLater(ctx context.Context, c *Client, t DurableTask) <-chan Enqueued {
	done := make(chan Enqueued, 1)
	go func() {
		id, err := c.Enqueue(ctx, t)
		done <- Enqueued{ID: id, Err: err}
	}()
	return done
}

func waitFor[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}
