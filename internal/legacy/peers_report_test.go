package legacy

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"reparto/client"
)

// told is what the balancer lists, by kind.
func (h *house) told() map[client.TextPeerKind]client.TextPeer {
	h.t.Helper()
	c := client.New(h.conn)
	defer func() { _ = c.Close() }()
	got := map[client.TextPeerKind]client.TextPeer{}
	for p, err := range c.TextPeers(h.t.Context()) {
		if err != nil {
			h.t.Fatal(err)
		}
		if was, twice := got[p.Kind]; twice {
			h.t.Fatalf("two %ss are listed: %+v and %+v", p.Kind, was, p)
		}
		got[p.Kind] = p
	}
	return got
}

func TestTheBalancerLearnsWhoSpeaksText(t *testing.T) {
	h := open(t, Options{ID: "web1", ReportInterval: 5 * time.Millisecond})
	h.worker("worker_1").obey(textSum)
	c := h.client()
	for range 3 {
		c.send("TASK|t1|1,2\n")
		c.want("RESULT|t1|3\n")
	}
	_ = h.client() // it says nothing
	var got map[client.TextPeerKind]client.TextPeer
	until(t, "all of it is told", func() bool {
		got = h.told()
		return got[client.TextClient].Tasks == 3 && got[client.TextWorker].Tasks == 3 && got[client.TextClient].Connections == 2
	})
	for kind, addr := range map[client.TextPeerKind]net.Addr{client.TextClient: h.a.ClientAddr(), client.TextWorker: h.a.WorkerAddr()} {
		p := got[kind]
		if p.Address != "127.0.0.1" || p.Port != addr.String() || p.Adapter != "web1" || p.FirstSeen <= 0 || p.FirstSeen < p.LastSeen || p.LastSeen > patience {
			t.Errorf("the %s is %+v", kind, p)
		}
	}
	_ = c.Close()
	until(t, "it left", func() bool { return h.told()[client.TextClient].Connections == 1 })
	if strings.Contains(h.log.String(), "can't tell the balancer") {
		t.Errorf("a report failed:\n%s", h.log)
	}
}

// What happened since the last interval is told at the end, and what another run
// tells is added.
func TestTheBalancerLearnsOfTheEnd(t *testing.T) {
	h := open(t, Options{ID: "web1"})
	h.grpcWorker(sum)
	c := h.client()
	c.send("TASK|t1|1,2\n")
	c.want("RESULT|t1|3\n")
	if got := h.told(); len(got) != 0 {
		t.Errorf("before the first interval is over %+v was told", got)
	}
	_ = c.Close()
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	if p := h.told()[client.TextClient]; p.Tasks != 1 || p.Connections != 0 {
		t.Errorf("at the end %+v was told", p)
	}

	b, err := Listen(Options{ID: "web1", ClientAddress: "127.0.0.1:0", ReportInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	b.o.ReportInterval = time.Hour // it reports at its end alone
	ctx, cancel := context.WithCancel(t.Context())
	var served sync.WaitGroup
	served.Go(func() { _ = b.Serve(ctx, h.conn) })
	c = h.dial(b.ClientAddr())
	for range 2 {
		c.send("TASK|t1|1,2\n")
		c.want("RESULT|t1|3\n")
	}
	_ = c.Close()
	cancel()
	served.Wait()
	if p := h.told()[client.TextClient]; p.Tasks != 3 {
		t.Errorf("after another run %+v is known, want 3 tasks", p)
	}
}

func TestNothingIsToldWhenItIsOff(t *testing.T) {
	h := open(t, Options{ReportInterval: -1})
	c := h.client()
	h.counts(func(n Counters) bool { return n.OpenClients == 1 })
	_ = c.Close()
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	if got := h.told(); len(got) != 0 {
		t.Errorf("%+v was told", got)
	}
}

// deaf is a balancer that takes no reports while it is broken.
type deaf struct {
	grpc.ClientConnInterface
	mu      sync.Mutex
	broken  error
	reports int
}

func (d *deaf) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reports++
	return d.broken
}

func (d *deaf) mend(err error) { d.mu.Lock(); d.broken = err; d.mu.Unlock() }

func (d *deaf) asked() int { d.mu.Lock(); defer d.mu.Unlock(); return d.reports }

// A failure is logged once, however often it is tried again, and so is its end.
func TestReportsThatFail(t *testing.T) {
	log := new(logBuffer)
	a, err := Listen(Options{ClientAddress: "127.0.0.1:0", ReportInterval: time.Millisecond, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	conn := &deaf{broken: status.Error(codes.Unimplemented, "never heard of it")}
	ctx, cancel := context.WithCancel(t.Context())
	var served sync.WaitGroup
	served.Go(func() { _ = a.Serve(ctx, conn) })
	defer served.Wait()
	defer cancel()
	peer, err := net.Dial("tcp", a.ClientAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = peer.Close() }()
	lines := func(level string) int { return strings.Count(log.String(), "level="+level+" msg=\"") }
	until(t, "it tries on", func() bool { return conn.asked() > 5 })
	before := lines("INFO")
	if n := lines("WARN"); n != 1 || !strings.Contains(log.String(), "never heard of it") {
		t.Errorf("%d warnings in\n%s", n, log)
	}
	conn.mend(nil)
	until(t, "it is told again", func() bool { return lines("INFO") == before+1 })
	tried := conn.asked()
	until(t, "it goes on", func() bool { return conn.asked() > tried+5 })
	if lines("INFO") != before+1 || lines("WARN") != 1 {
		t.Errorf("the log is\n%s", log)
	}
	conn.mend(status.Error(codes.Unavailable, "gone"))
	until(t, "it fails again", func() bool { return lines("WARN") == 2 })
}

// A balancer that does not answer keeps an adapter from stopping for a moment only.
func TestABalancerThatHangs(t *testing.T) {
	a, err := Listen(Options{ClientAddress: "127.0.0.1:0", ReportInterval: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	hangs := make(chan struct{}, 100)
	conn := hanging(func(ctx context.Context) error { hangs <- struct{}{}; <-ctx.Done(); return ctx.Err() })
	ctx, cancel := context.WithCancel(t.Context())
	var served sync.WaitGroup
	served.Go(func() { _ = a.Serve(ctx, conn) })
	peer, err := net.Dial("tcp", a.ClientAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = peer.Close() }()
	<-hangs // a report is under way
	_ = peer.Close()
	began := time.Now()
	cancel()
	served.Wait()
	if d := time.Since(began); d > reportTimeout/2 {
		t.Errorf("it took %v to stop", d)
	}
}

type hanging func(context.Context) error

func (h hanging) Invoke(ctx context.Context, _ string, _, _ any, _ ...grpc.CallOption) error {
	return h(ctx)
}

func (h hanging) NewStream(ctx context.Context, _ *grpc.StreamDesc, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, h(ctx)
}

func TestAnAdaptersName(t *testing.T) {
	var ids []string
	for _, o := range []Options{
		{ClientAddress: "127.0.0.1:0", WorkerAddress: "127.0.0.1:0"}, {ClientAddress: "127.0.0.1:0"}, {WorkerAddress: "127.0.0.1:0", ID: "web1"},
	} {
		a, err := Listen(o)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = a.Close() }()
		if id := a.id(); o.ID == "" {
			for _, addr := range []net.Addr{a.ClientAddr(), a.WorkerAddr()} {
				if addr != nil && !strings.Contains(id+":", fmt.Sprintf(":%d:", addr.(*net.TCPAddr).Port)) {
					t.Errorf("%q does not name the port of %v", id, addr)
				}
			}
		} else if id != o.ID {
			t.Errorf("%q was told to be called %q", id, o.ID)
		}
		if slices.Contains(ids, a.id()) {
			t.Errorf("%q is two adapters", a.id())
		}
		ids = append(ids, a.id())
	}
}
