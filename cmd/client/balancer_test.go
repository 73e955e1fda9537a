package main

import (
	"context"
	"maps"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/functions"
	"reparto/internal/rpc"
	"reparto/internal/store/memory"
	"reparto/worker"
)

// balancer is a real one with a worker.
type balancer struct {
	address string
	stop    func() // waits; may be called again
	admin   pb.AdminServiceClient
}

// startBalancer starts one with a worker that has the handlers beside the
// built-in functions.
func startBalancer(t *testing.T, handlers worker.Handlers) *balancer {
	t.Helper()
	d, err := dispatch.Open(dispatch.Options{Store: memory.New()})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
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
	b := &balancer{address: l.Addr().String(), admin: pb.NewAdminServiceClient(conn)}
	all := functions.BuiltIn()
	maps.Copy(all, handlers)
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() { _ = worker.Run(ctx, conn, all, worker.Options{ID: "w1", DrainTimeout: time.Millisecond}) })
	b.stop = sync.OnceFunc(func() {
		cancel()
		s.Close()
		d.Close()
		wg.Wait()
		conn.Close()
	})
	t.Cleanup(b.stop)
	return b
}

// patience is far beyond what anything here takes.
const patience = 30 * time.Second
