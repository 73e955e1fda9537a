package legacy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"reparto/internal/dispatch"
	"reparto/internal/rpc"
	"reparto/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long anything that must happen may take before a test gives
// up on it.
const patience = 20 * time.Second

// house is a real balancer with a text adapter before it.
type house struct {
	t    *testing.T
	conn *grpc.ClientConn
	a    *Adapter
	log  *logBuffer
	// stop ends the adapter's Serve and waits for it. It is done at the end of
	// the test too.
	stop func() error
	// quit is the first half of stop.
	quit context.CancelFunc
}

// open starts a house. o's addresses are set.
func open(t *testing.T, o Options) *house {
	t.Helper()
	h := &house{t: t, conn: balancer(t), log: new(logBuffer)}
	o.ClientAddress, o.WorkerAddress = "127.0.0.1:0", "127.0.0.1:0"
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = 5 * time.Second
	}
	a, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	h.a = a
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- a.Serve(ctx, h.conn) }()
	h.quit = cancel
	h.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-served:
			return err
		case <-time.After(patience):
			return errors.New("Serve did not return")
		}
	})
	t.Cleanup(func() {
		if err := h.stop(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// balancer starts a balancer and returns a connection to it.
func balancer(t testing.TB) *grpc.ClientConn {
	t.Helper()
	d, err := dispatch.Open(dispatch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	s := rpc.NewServer(d, rpc.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		<-served
	})
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// grpcWorker runs a gRPC worker with a handler for "sum" until the test ends.
func (h *house) grpcWorker(f worker.Handler) {
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan struct{})
	registered := make(chan struct{}, 1)
	go func() {
		defer close(done)
		_ = worker.Run(ctx, h.conn, worker.Handlers{"sum": f}, worker.Options{OnRegistered: func(worker.Registration) {
			select {
			case registered <- struct{}{}:
			default:
			}
		}})
	}()
	<-registered
	h.t.Cleanup(func() { cancel(); <-done })
}

// sum does what the sample task says, well enough for tests.
func sum(_ context.Context, t worker.Task) ([]byte, error) {
	total := new(big.Int)
	for item := range strings.SplitSeq(string(t.Payload), ",") {
		item = strings.TrimSpace(item)
		n, ok := new(big.Int).SetString(item, 10)
		if !ok {
			return nil, fmt.Errorf("invalid literal for int() with base 10: '%s'", item)
		}
		total.Add(total, n)
	}
	return []byte(total.String()), nil
}

// peer is an old program's end of a connection.
type peer struct {
	t *testing.T
	net.Conn
}

func (h *house) dial(addr net.Addr) *peer {
	h.t.Helper()
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return &peer{h.t, conn}
}

func (h *house) client() *peer { h.t.Helper(); return h.dial(h.a.ClientAddr()) }

// worker connects a text worker and registers it as an old program does.
func (h *house) worker(id string) *peer {
	h.t.Helper()
	w := h.dial(h.a.WorkerAddr())
	w.send("REGISTER|" + id + "\n")
	w.want("ACK|" + id + "\n")
	return w
}

// send writes s in one go.
func (p *peer) send(s string) {
	p.t.Helper()
	if _, err := p.Write([]byte(s)); err != nil {
		p.t.Fatalf("send %.80q: %v", s, err)
	}
}

// recv is the old programs' recv(1024): what one read returns is a message.
func (p *peer) recv() string {
	p.t.Helper()
	b := make([]byte, 1024)
	n, err := p.Read(b)
	if err != nil {
		p.t.Fatalf("recv: %v", err)
	}
	return string(b[:n])
}

// want fails the test unless one recv returns exactly one message, line.
func (p *peer) want(line string) {
	p.t.Helper()
	if got := p.recv(); got != line {
		p.t.Fatalf("one recv(1024) returned %q, want %q", got, line)
	}
}

// wantEnd fails the test unless the connection ends without another byte.
func (p *peer) wantEnd() {
	p.t.Helper()
	rest, err := io.ReadAll(p.Conn)
	if len(rest) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Fatalf("the connection should have ended; got %.200q, %v", rest, err)
	}
}

// all returns what comes until the connection ends.
func (p *peer) all() string {
	p.t.Helper()
	b, err := io.ReadAll(p.Conn)
	if err != nil {
		p.t.Fatalf("read all: %v", err)
	}
	return string(b)
}

// wantSilence fails the test if something comes within d.
func (p *peer) wantSilence(d time.Duration) {
	p.t.Helper()
	_ = p.SetReadDeadline(time.Now().Add(d))
	b := make([]byte, 1024)
	n, err := p.Read(b)
	if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Fatalf("there should have been silence; got %q, %v", b[:n], err)
	}
	_ = p.SetReadDeadline(time.Now().Add(patience))
}

// reset closes the connection as a killed program with unread input does.
func (p *peer) reset() {
	_ = p.Conn.(*net.TCPConn).SetLinger(0)
	_ = p.Close()
}

// obey makes the peer a whole old worker: one recv, one answer, until its
// connection ends. It runs in a goroutine that the test waits for.
func (p *peer) obey(f func(data string) string) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1024)
		for {
			n, err := p.Read(b)
			if err != nil {
				return
			}
			f3 := strings.SplitN(strings.TrimSpace(string(b[:n])), "|", 3)
			if len(f3) != 3 || f3[0] != "ASSIGN_TASK" {
				p.t.Errorf("an old worker can't understand %q", b[:n])
				return
			}
			if _, err := p.Write([]byte("TASK_RESULT|" + f3[1] + "|" + f(f3[2]) + "\n")); err != nil {
				return
			}
		}
	}()
	p.t.Cleanup(func() { _ = p.Close(); <-done })
}

// textSum is the sample task as an old worker does it.
func textSum(data string) string {
	out, err := sum(context.Background(), worker.Task{Payload: []byte(data)})
	if err != nil {
		return "ERROR: " + err.Error()
	}
	return string(out)
}

// until polls a condition.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// counts waits until the counters are as they should be. Most are raised just
// after what they count, so a peer may know of it first.
func (h *house) counts(as func(Counters) bool) {
	h.t.Helper()
	for deadline := time.Now().Add(patience); !as(h.a.Counters()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("counters %+v", h.a.Counters())
		}
	}
}

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
