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

const (
	// patience bounds a whole attack.
	patience = 60 * time.Second
	// limit is what the balancer's own patience with peers is set to.
	limit = 300 * time.Millisecond
)

// town is a balancer with a client and a worker that behave.
type town struct {
	t    *testing.T
	ctx  context.Context // ends with the attack, and with its patience
	s    *server.Server
	conn *grpc.ClientConn
	c    *client.Client
	done atomic.Int64 // tasks that succeeded
}

// attack runs one, and holds what the others noticed of it against nothing.
func attack(t *testing.T, do func(*town)) {
	t.Helper()
	attackOn(t, func(*server.Options) {}, do)
}

// attackOn is attack on a balancer with other options.
func attackOn(t *testing.T, set func(*server.Options), do func(*town)) {
	t.Helper()
	w := newTown(t, set)
	w.submit()
	before, heap := runtime.NumGoroutine(), inUse()
	over := make(chan struct{})
	var submitting sync.WaitGroup
	submitting.Go(func() {
		for w.submit() {
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
	w.eventually("the goroutines are back to about their number", func() bool { return runtime.NumGoroutine() <= before+32 })
	w.eventually("the memory is given back", func() bool { return inUse() <= heap+64<<20 })
	if w.done.Load() < 2 {
		t.Error("the client that behaves got nothing done")
	}
}

func newTown(t *testing.T, set func(*server.Options)) *town {
	t.Helper()
	o := server.Options{
		Address: "127.0.0.1:0", DrainTimeout: time.Second, HandshakeLimit: limit,
		Legacy: legacy.Options{ClientAddress: "127.0.0.1:0", WorkerAddress: "127.0.0.1:0", WriteTimeout: limit, MessageTimeout: limit},
	}
	o.Dispatch.SendLimit = limit
	set(&o)
	s, err := server.Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	w := &town{t: t, s: s}
	var cancel, stop context.CancelFunc
	w.ctx, cancel = context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	serve, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var running, working sync.WaitGroup
	running.Go(func() { _ = s.Run(serve) })
	if w.conn, err = grpc.NewClient(s.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	work, leave := context.WithCancel(serve)
	working.Go(func() { _ = worker.Run(work, w.conn, worker.Handlers{"echo": echo}, worker.Options{Slots: 64}) })
	if w.c, err = client.Dial(s.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = w.c.Close()
		leave()
		working.Wait()
		stop()
		running.Wait()
		w.conn.Close()
	})
	return w
}

func echo(_ context.Context, k worker.Task) ([]byte, error) { return k.Payload, nil }

// submit does one task of the client that behaves.
func (w *town) submit() bool {
	ctx, cancel := context.WithTimeout(w.ctx, patience/2)
	defer cancel()
	if _, err := w.c.Submit(ctx, client.Task{Function: "echo", Payload: []byte("x")}); err != nil {
		w.t.Errorf("a task of the client that behaves: %v", err)
		return false
	}
	w.done.Add(1)
	return true
}

func (w *town) eventually(what string, holds func() bool) {
	w.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-w.ctx.Done():
			w.t.Errorf("%s: not within %v", what, patience)
			return
		}
	}
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
	w.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}
