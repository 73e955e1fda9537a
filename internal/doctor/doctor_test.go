package doctor

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/rpc"
	"reparto/internal/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is for each call; far beyond what one takes where nothing is wrong.
const patience = 20 * time.Second

// TestAGoodWay also holds what is there afterwards against what was before.
func TestAGoodWay(t *testing.T) {
	b := serve(t, listenTCP(t), rpc.Options{}, dispatch.Options{Heartbeat: 20 * time.Millisecond})
	before := b.holds(t)
	r := b.examine(t, Options{Idle: 100 * time.Millisecond})
	for _, check := range []string{
		"connect", "http2", "proxy", "balancer", "health", "rights", "round-trip", "stream", "clock", "spread", "message", "volume", "idle-client", "idle-worker",
	} {
		r.want(t, check, OK, "")
	}
	r.want(t, "tls", Skip, "--tls")
	r.want(t, "rights", OK, "may submit, ask about tasks, work, administer")
	r.want(t, "message", OK, "16 MiB pass")
	r.want(t, "volume", OK, "32 MiB pass")
	r.want(t, "idle-client", OK, "kept for 100ms, and worked at once")
	if r.Failed() || !r.Reached || len(r.Advice) != 0 {
		t.Errorf("failed %v, reached %v, advice %v", r.Failed(), r.Reached, r.Advice)
	}
	if after := b.holds(t); after != before {
		t.Errorf("the balancer holds %s, and held %s before", after, before)
	}
}

func TestOnlyWhatIsAskedForIsHeldAndSent(t *testing.T) {
	b := serve(t, listenTCP(t), rpc.Options{}, dispatch.Options{})
	r := b.examine(t, Options{Largest: -1})
	r.want(t, "idle", Skip, "--idle 90s")
	r.want(t, "message", Skip, "not asked for")
	r.want(t, "volume", Skip, "not asked for")
	r = b.examine(t, Options{Largest: 10000})
	r.want(t, "message", OK, "9.766 KiB pass")
}

func TestItEndsWithItsContext(t *testing.T) {
	b := serve(t, listenTCP(t), rpc.Options{}, dispatch.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	o := b.options(Options{Idle: time.Hour, Largest: -1})
	held := make(chan struct{})
	var r *Report
	var err error
	var done sync.WaitGroup
	done.Go(func() {
		r, err = Examine(ctx, o, func(f Finding) {
			if f.Check == "volume" { // the last before it holds
				close(held)
			}
		})
	})
	<-held
	cancel()
	done.Wait()
	if err != context.Canceled || len(r.Findings) == 0 {
		t.Errorf("got %v with %d findings", err, len(r.Findings))
	}
	b.eventually(t, "the worker has left", func() bool { return b.d.Info().Sessions == 0 })
}

// balancer is a real one.
type balancer struct {
	d    *dispatch.Dispatcher
	s    *rpc.Server
	lis  net.Listener
	dial func(ctx context.Context) (net.Conn, error) // to it, past all proxies
	// address is what clients dial, and way how: a proxy puts itself there.
	address string
	way     func(ctx context.Context, network, address string) (net.Conn, error)
}

func listenTCP(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// serve starts a balancer that ends with the test.
func serve(t *testing.T, l net.Listener, o rpc.Options, do dispatch.Options) *balancer {
	t.Helper()
	do.Store = memory.New()
	d, err := dispatch.Open(do)
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{d: d, s: rpc.NewServer(d, o), lis: l, address: l.Addr().String()}
	b.dial = dialer(l)
	b.way = func(ctx context.Context, _, _ string) (net.Conn, error) { return b.dial(ctx) }
	var serving sync.WaitGroup
	serving.Go(func() { _ = b.s.Serve(l) })
	t.Cleanup(func() {
		d.Close()
		b.s.Close()
		serving.Wait()
	})
	return b
}

// dialer connects to a listener, in memory or not.
func dialer(l net.Listener) func(ctx context.Context) (net.Conn, error) {
	if inside, ok := l.(interface {
		DialContext(context.Context) (net.Conn, error)
	}); ok {
		return inside.DialContext
	}
	return func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}
}

// options are o for the way to the balancer.
func (b *balancer) options(o Options) Options {
	o.Connect = b.way
	if o.Timeout == 0 {
		o.Timeout = patience
	}
	if o.Target == "" {
		o.Target = b.address
	}
	if o.Target == "bufconn" { // which is no address that can be parsed
		o.Target = "127.0.0.1:9090"
	}
	if o.Dial == nil {
		o.Dial = func(more ...grpc.DialOption) (*grpc.ClientConn, error) {
			options := []grpc.DialOption{
				grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: 10 * time.Second, PermitWithoutStream: true}),
				grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return b.way(ctx, "tcp", address) }),
			}
			if o.Credentials != nil {
				options = append(options, grpc.WithTransportCredentials(o.Credentials))
			}
			return grpc.NewClient("passthrough:///"+o.Target, append(options, more...)...)
		}
	}
	return o
}

// found is a report with what tests ask of it.
type found struct{ *Report }

func (b *balancer) examine(t *testing.T, o Options) found {
	t.Helper()
	r, err := Examine(t.Context(), b.options(o), func(Finding) {})
	if err != nil {
		t.Fatal(err)
	}
	return found{r}
}

// want asserts what the one finding of a check says, and says to do; empty parts
// do not matter.
func (r found) want(t *testing.T, check string, s Status, parts ...string) Finding {
	t.Helper()
	var hits []Finding
	for _, f := range r.Findings {
		if f.Check == check {
			hits = append(hits, f)
		}
	}
	if len(hits) != 1 {
		t.Errorf("%d findings of %s, want one; all: %+v", len(hits), check, r.Findings)
		return Finding{}
	}
	f := hits[0]
	if f.Status != s {
		t.Errorf("%s is %s, want %s: %+v", check, f.Status, s, f)
	}
	for _, part := range parts {
		if !strings.Contains(f.Said+" "+f.Do, part) {
			t.Errorf("%s does not say %q: %s. Do: %s", check, part, f.Said, f.Do)
		}
	}
	if (f.Status == Fail || f.Status == Warn) && f.Do == "" {
		t.Errorf("%s does not say what to do: %+v", check, f)
	}
	return f
}

// lines asserts that the advice for a proxy is about these words, in their order,
// and nothing else.
func (r found) lines(t *testing.T, proxy string, words ...string) {
	t.Helper()
	for _, a := range r.Advice {
		if a.Proxy != proxy {
			continue
		}
		if len(a.Lines) != len(words) {
			t.Errorf("%s: %d lines, want %d: %q", proxy, len(a.Lines), len(words), a.Lines)
			return
		}
		for i, w := range words {
			if !strings.Contains(a.Lines[i], w) {
				t.Errorf("%s: line %q, want %q", proxy, a.Lines[i], w)
			}
		}
		return
	}
	t.Errorf("no advice for %s: %+v", proxy, r.Advice)
}

// holds is what the balancer holds of clients and workers, in words.
func (b *balancer) holds(t *testing.T) string {
	t.Helper()
	conn, err := b.options(Options{}).Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	admin := pb.NewAdminServiceClient(conn)
	functions, err := admin.ListFunctions(ctx, &pb.ListFunctionsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	workers, err := admin.ListWorkers(ctx, &pb.ListWorkersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := pb.NewTaskServiceClient(conn).ListTasks(ctx, &pb.ListTasksRequest{})
	if err != nil {
		t.Fatal(err)
	}
	i := b.d.Info()
	return strings.Join(strings.Fields(functions.String()+"|"+workers.String()+"|"+tasks.String()), " ") +
		strings.Repeat(" task", i.Queued+i.Running+i.Scheduled)
}

func (b *balancer) eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it is not so that %s", what)
		}
	}
}
