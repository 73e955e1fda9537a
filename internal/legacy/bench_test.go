package legacy

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"reparto/worker"
)

// BenchmarkText is the way of a text client's task through the adapter to a gRPC
// worker and back, all in one process: clients in lock-step, and one that sends
// without waiting.
func BenchmarkText(b *testing.B) {
	for _, c := range []struct {
		name             string
		clients, pending int
	}{{"lockstep/clients=1", 1, 1}, {"lockstep/clients=16", 16, 1}, {"pipelined/clients=1", 1, 512}, {"pipelined/clients=4", 4, 256}} {
		b.Run(c.name, func(b *testing.B) {
			address := benchHouse(b)
			b.ReportAllocs()
			b.ResetTimer()
			var clients sync.WaitGroup
			for i := range c.clients {
				n := b.N / c.clients
				if i == 0 {
					n += b.N % c.clients
				}
				clients.Go(func() { benchClient(b, address, n, c.pending) })
			}
			clients.Wait()
		})
	}
}

// benchHouse starts a balancer with a worker and an adapter, and returns where
// text clients connect.
func benchHouse(b *testing.B) string {
	b.Helper()
	conn := balancer(b)
	a, err := Listen(Options{ClientAddress: "127.0.0.1:0", ResultGap: -1})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ready := make(chan struct{}, 1)
	var running sync.WaitGroup
	running.Go(func() { _ = a.Serve(ctx, conn) })
	running.Go(func() {
		_ = worker.Run(ctx, conn, worker.Handlers{"sum": func(_ context.Context, t worker.Task) ([]byte, error) { return t.Payload, nil }},
			worker.Options{Slots: 1024, OnRegistered: func(worker.Registration) {
				select {
				case ready <- struct{}{}:
				default:
				}
			}})
	})
	b.Cleanup(func() { cancel(); running.Wait() })
	<-ready
	return a.ClientAddr().String()
}

// benchClient has n tasks done, of which so many may be pending.
func benchClient(b *testing.B, address string, n, pending int) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		b.Error(err)
		return
	}
	defer func() { _ = conn.Close() }()
	in, out := bufio.NewReader(conn), bufio.NewWriter(conn)
	sent := 0
	for done := 0; done < n; done++ {
		if in.Buffered() == 0 {
			for ; sent < n && sent < done+pending; sent++ {
				_, _ = fmt.Fprintf(out, "TASK|t%d|1,2,3\n", sent) // Flush tells what fails
			}
			if err := out.Flush(); err != nil {
				b.Error(err)
				return
			}
		}
		if line, err := in.ReadString('\n'); err != nil || !strings.HasSuffix(line, "|1,2,3\n") {
			b.Errorf("got %q, %v", line, err)
			return
		}
	}
}
