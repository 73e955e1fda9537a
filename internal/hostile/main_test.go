// Package hostile holds a balancer against peers that are broken or mean harm:
// while each does its worst, a client and a worker that behave notice nothing.
package hostile

import (
	"context"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"reparto/client"
	"reparto/internal/legacy"
	"reparto/internal/server"
	"reparto/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds a whole attack.
const patience = 20 * time.Second

// town is a balancer with a client and a worker that behave.
type town struct {
	t    *testing.T
	s    *server.Server
	done atomic.Int64 // tasks that succeeded
}

// attack runs one, and holds what the others noticed of it against nothing.
func attack(t *testing.T, do func(*town)) {
	t.Helper()
	s, err := server.Listen(server.Options{
		Address: "127.0.0.1:0", DrainTimeout: time.Second,
		Legacy: legacy.Options{ClientAddress: "127.0.0.1:0", WorkerAddress: "127.0.0.1:0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &town{t: t, s: s}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var running, working sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) })
	conn, err := grpc.NewClient(s.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	work, leave := context.WithCancel(ctx)
	working.Go(func() {
		_ = worker.Run(work, conn, worker.Handlers{"echo": func(_ context.Context, k worker.Task) ([]byte, error) { return k.Payload, nil }}, worker.Options{Slots: 4})
	})
	c, err := client.Dial(s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	var submitting sync.WaitGroup
	submit := func() bool {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if _, err := c.Submit(ctx, client.Task{Function: "echo", Payload: []byte("x")}); err != nil {
			t.Errorf("a task of the client that behaves: %v", err)
			return false
		}
		w.done.Add(1)
		return true
	}
	submit()
	before, heap := runtime.NumGoroutine(), inUse()
	submitting.Go(func() {
		for submit() {
			select {
			case <-over:
				return
			default:
			}
		}
	})
	do(w)
	close(over)
	submitting.Wait()
	for end := time.Now().Add(patience); runtime.NumGoroutine() > before+4 && time.Now().Before(end); {
		runtime.Gosched()
	}
	if n := runtime.NumGoroutine(); n > before+4 {
		t.Errorf("%d goroutines after the attack, %d before", n, before)
	}
	if now := inUse(); now > heap+64<<20 {
		t.Errorf("%d bytes in use after the attack, %d before", now, heap)
	}
	t.Logf("%d tasks succeeded meanwhile", w.done.Load())
	_ = c.Close()
	leave()
	working.Wait()
	stop()
	running.Wait()
	conn.Close()
}

func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// dial connects, for at most the length of an attack.
func (w *town) dial(a net.Addr) net.Conn {
	w.t.Helper()
	c, err := net.Dial("tcp", a.String())
	if err != nil {
		w.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}
