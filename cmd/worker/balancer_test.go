package main

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/rpc"
	"reparto/worker"
)

// balancer is a real one, with a client's connection to it.
type balancer struct {
	address string
	stop    func() // waits; may be called again
	tasks   pb.TaskServiceClient
	admin   pb.AdminServiceClient
}

// startBalancer starts one on the address, port 0 for a free one.
func startBalancer(t *testing.T, address string) *balancer {
	t.Helper()
	d, err := dispatch.Open(dispatch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := rpc.NewServer(d, rpc.Options{})
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	conn, err := grpc.NewClient(l.Addr().String(), worker.DialOptions(nil)...)
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{address: l.Addr().String(), tasks: pb.NewTaskServiceClient(conn), admin: pb.NewAdminServiceClient(conn)}
	b.stop = sync.OnceFunc(func() {
		conn.Close()
		s.Close()
		d.Close()
		wg.Wait()
	})
	t.Cleanup(b.stop)
	return b
}

// submit has a task done, and waits for a worker if there is none.
func (b *balancer) submit(t *testing.T, function, payload string) *pb.SubmitResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	resp, err := b.tasks.Submit(ctx, &pb.SubmitRequest{Function: function, Payload: []byte(payload), TaskId: "task_" + function, MaxAttempts: 1})
	if err != nil {
		t.Fatalf("%s of %q: %v", function, payload, err)
	}
	return resp
}

func (b *balancer) workers(t *testing.T) []*pb.Worker {
	t.Helper()
	resp, err := b.admin.ListWorkers(t.Context(), &pb.ListWorkersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetWorkers()
}

// patience is far beyond what anything here takes.
const patience = 30 * time.Second

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to be that %s", what)
		}
	}
}

// output is what a program prints, to be read while it runs.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// program is a worker that runs.
type program struct {
	stdout, stderr output
	stop           func() int // asks it to stop and returns its exit code
}

func start(t *testing.T, args ...string) *program {
	t.Helper()
	p := &program{}
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() { code <- run(ctx, args, strings.NewReader(""), &p.stdout, &p.stderr) }()
	p.stop = sync.OnceValue(func() int {
		cancel()
		select {
		case c := <-code:
			return c
		case <-time.After(patience):
			t.Error("the worker does not stop")
			return -1
		}
	})
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("the worker wrote:\n%s\n%s", &p.stdout, &p.stderr)
		}
	})
	return p
}
