package proxies

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"google.golang.org/grpc"

	"reparto/client"
	pb "reparto/gen/reparto/v1"
)

// binaries are built for the first test that needs them.
var binaries = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "build", "-o", built, "reparto/cmd/balancer", "reparto/cmd/worker").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("building the binaries: %w\n%s", err, out)
	}
	return built, err
})

// startBinary runs one of ours until the test ends.
func startBinary(t *testing.T, name string, args ...string) *process {
	t.Helper()
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	return startProcess(t, filepath.Join(dir, name), args...)
}

func startBalancerProcess(t *testing.T, address string) *process {
	t.Helper()
	p := startBinary(t, "balancer", "--grpc", address, "--store", "memory:", "--legacy-clients", "", "--legacy-workers", "")
	p.waitLine("listening for gRPC")
	return p
}

// as has a client dial from an address of its own: proxies tell clients by that.
func as(from string) client.Option {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return client.WithDialOptions(grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", address)
	}))
}

// submitted counts the tasks that a balancer has had.
func submitted(t *testing.T, address string) (n int64) {
	t.Helper()
	resp, err := pb.NewAdminServiceClient(dial(t, address)).ListFunctions(t.Context(), &pb.ListFunctionsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range resp.GetFunctions() {
		n += f.GetSubmitted()
	}
	return n
}

// enqueue hands over one task after another.
func (l *load) enqueue(c *client.Client) {
	for !l.stopped.Load() {
		ctx, cancel := context.WithTimeout(l.t.Context(), patience)
		_, err := c.Enqueue(ctx, client.DurableTask{Function: "echo"})
		cancel()
		if err != nil {
			l.t.Errorf("Enqueue: %v", err)
			return
		}
		l.done.Add(1)
	}
}

// TestOneOfTwoBalancersIsKilled: clients spread over both; when one balancer dies,
// all of them go on.
func TestOneOfTwoBalancersIsKilled(t *testing.T) {
	each(t, func(t *testing.T, program string) {
		one, two := freePort(t), freePort(t)
		doomed := startBalancerProcess(t, one)
		startBalancerProcess(t, two)
		p := startProxy(t, program, one, two)
		w := startBinary(t, "worker", "--balancer", p.direct[0], "--balancer", p.direct[1])
		eventually(t, "the worker is registered with both", func() bool { return strings.Count(w.said(), "msg=registered") == 2 })

		var loads []*load
		goOn := func() {
			for _, l := range loads {
				l.goOn()
			}
		}
		// Eight clients, or a few more, should chance send all of the eight one way.
		for i := 0; i < 8 || submitted(t, one) == 0 || submitted(t, two) == 0; i++ {
			if i == 64 {
				t.Fatal("64 clients, each with an address of its own, are all with one balancer")
			}
			c := dialSDK(t, p.address, as(fmt.Sprint("127.0.0.", 10+i)))
			l := startLoad(t, c, 2, true)
			l.callers.Go(func() { l.enqueue(c) })
			loads = append(loads, l)
			l.goOn()
		}
		goOn()
		doomed.kill()
		goOn()
		startBalancerProcess(t, one)
		eventually(t, "the worker is back", func() bool { return strings.Count(w.said(), "msg=registered") == 3 })
		goOn()
		for _, l := range loads {
			l.end()
		}
	})
}

// TestABalancerThatIsStoppingGetsNoNewStreams: HAProxy learns of it from the health,
// while what runs there goes on.
func TestABalancerThatIsStoppingGetsNoNewStreams(t *testing.T) {
	need(t, "haproxy")
	t.Parallel()
	address := freePort(t)
	b := startBalancerProcess(t, address)
	p := startProxy(t, "haproxy", address, nobody)
	is := func(state string) func() bool {
		return func() bool {
			for line := range strings.Lines(p.asks("show stat")) {
				if strings.HasPrefix(line, "balancers,balancer1,") {
					return strings.Contains(line, ","+state+",")
				}
			}
			return false
		}
	}
	eventually(t, "the balancer is found healthy", is("L7OK"))
	w, c := startCrew(t, p.direct[0]), dialSDK(t, p.address)
	held := submit(t, c, client.Task{Function: "hold", Payload: []byte("held")})
	await(t, "the task runs", w.began)
	b.signal(syscall.SIGTERM)
	eventually(t, "the balancer that stops is found out", is("DOWN"))
	close(w.letGo)
	if r := await(t, "the outcome", held); r.err != nil || string(r.out.Result) != "held" {
		t.Errorf("%q, %v", r.out.Result, r.err)
	}
	b.ended()
}
