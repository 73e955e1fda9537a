// Package proxies puts the real HAProxy and Nginx, with the configurations of
// deploy/, between balancers and those who dial them.
package proxies

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"reparto/client"
	"reparto/internal/dispatch"
	"reparto/internal/freeport"
	"reparto/internal/server"
	"reparto/worker"
)

// built is where binaries are put.
var built string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if built, err = os.MkdirTemp("", "reparto-proxies-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(built)
		code := m.Run()
		if err := goleak.Find(); code == 0 && err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	}())
}

// patience bounds every wait; only a failure ever sees it pass.
const patience = 30 * time.Second

// need returns where a program is, or skips the test aloud, unless the machine
// promised it.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if slices.Contains(strings.Split(os.Getenv("REPARTO_TEST_NEED"), ","), program) {
		t.Fatalf("%s is not there, and REPARTO_TEST_NEED says that it must be", program)
	}
	t.Skipf("SKIPPED: %s is not installed", program)
	return ""
}

// eventually waits for a condition that something outside brings about.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !is() {
		select {
		case <-poll.C:
		case <-limit.C:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// await waits for what another goroutine sends.
func await[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case v := <-c:
		return v
	case <-limit.C:
		t.Fatalf("not within %v: %s", patience, what)
		panic("unreachable")
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	address, err := freeport.Find()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// startBalancer runs a balancer until the test ends, and returns its address.
func startBalancer(t *testing.T, o dispatch.Options) string {
	t.Helper()
	return startBalancerWith(t, server.Options{Dispatch: o})
}

func startBalancerWith(t *testing.T, o server.Options) string {
	t.Helper()
	o.Address, o.DrainTimeout = freePort(t), time.Second
	s, err := server.Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		<-done
	})
	return s.Addr().String()
}

// crew is a worker within the process: "echo" answers at once, "hold" when it is
// let go.
type crew struct {
	registered atomic.Int32
	began      chan string // payloads that hold has got
	letGo      chan struct{}

	mu   sync.Mutex
	runs map[string]int // of a payload
}

// startCrew has a worker dial address as the command does, until the test ends.
func startCrew(t *testing.T, address string, o ...grpc.DialOption) *crew {
	t.Helper()
	c := &crew{began: make(chan string, 100), letGo: make(chan struct{}), runs: map[string]int{}}
	conn, err := grpc.NewClient(address, append(worker.DialOptions(nil), o...)...)
	if err != nil {
		t.Fatal(err)
	}
	ran := func(task worker.Task) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.runs[string(task.Payload)]++
	}
	handlers := worker.Handlers{
		"echo": func(_ context.Context, task worker.Task) ([]byte, error) {
			ran(task)
			return task.Payload, nil
		},
		"hold": func(ctx context.Context, task worker.Task) ([]byte, error) {
			ran(task)
			c.began <- string(task.Payload)
			select {
			case <-c.letGo:
				return task.Payload, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- worker.Run(ctx, conn, handlers, worker.Options{
			DrainTimeout: 100 * time.Millisecond,
			OnRegistered: func(worker.Registration) { c.registered.Add(1) },
		})
	}()
	t.Cleanup(func() {
		stop()
		<-done
		conn.Close()
	})
	eventually(t, "the worker is registered", func() bool { return c.registered.Load() > 0 })
	return c
}

// most is how often a task was run that was run most often.
func (c *crew) most() (n int, task string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p, k := range c.runs {
		if k > n {
			n, task = k, p
		}
	}
	return n, task
}

func dialSDK(t *testing.T, address string, o ...client.Option) *client.Client {
	t.Helper()
	c, err := client.Dial(address, o...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

type result struct {
	out client.Outcome
	err error
}

// submit has a task done meanwhile.
func submit(t *testing.T, c *client.Client, task client.Task) <-chan result {
	done := make(chan result, 1)
	c.SubmitFunc(t.Context(), task, func(out client.Outcome, err error) { done <- result{out, err} })
	return done
}

// mustEcho has a task done, and says how long it took.
func mustEcho(t *testing.T, c *client.Client, payload string) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	out, err := c.Submit(ctx, client.Task{Function: "echo", Payload: []byte(payload)})
	if err != nil || string(out.Result) != payload {
		t.Fatalf("echo of %.20q: %.20q, %v", payload, out.Result, err)
	}
	return time.Since(began)
}
