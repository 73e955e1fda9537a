// Package e2e tests the binaries as people run them: real processes, real
// sockets, real signals.
package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "reparto/gen/reparto/v1"
)

// bin is where TestMain has built the binaries.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "reparto-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		bin = dir
		build := exec.Command("go", "build", "-o", dir, "reparto/cmd/...")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "building the binaries:", err)
			return 1
		}
		return m.Run()
	}())
}

// patience bounds every wait; it is far above what any of them takes, and only
// a failure ever sees it pass.
const patience = 30 * time.Second

// process is a running binary and what it has printed.
type process struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	done chan struct{}

	mu     sync.Mutex
	out    strings.Builder // standard output
	lines  []string        // both, in order of arrival
	arrive chan struct{}   // closed and made anew with each line
}

// start runs a binary until the test ends.
func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	return startIn(t, nil, name, args...)
}

func startIn(t *testing.T, stdin io.Reader, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, done: make(chan struct{}), arrive: make(chan struct{})}
	p.cmd = exec.Command(filepath.Join(bin, name), args...)
	p.cmd.Stdin = stdin
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() { p.collect(stdout, true) })
	reading.Go(func() { p.collect(stderr, false) })
	go func() {
		reading.Wait()
		p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Signal(syscall.SIGCONT)
		p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("%s %s printed:\n%s", name, strings.Join(args, " "), p.printed())
		}
	})
	return p
}

func (p *process) collect(r io.Reader, stdout bool) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		p.mu.Lock()
		if line != "" {
			if stdout {
				p.out.WriteString(line)
			}
			p.lines = append(p.lines, strings.TrimSuffix(line, "\n"))
			close(p.arrive)
			p.arrive = make(chan struct{})
		}
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (p *process) printed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

func (p *process) stdout() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// waitLine waits for a line that matches and returns its groups.
func (p *process) waitLine(pattern string) []string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	timeout := time.After(patience)
	for seen := 0; ; {
		p.mu.Lock()
		lines, arrive := p.lines[seen:], p.arrive
		seen = len(p.lines)
		p.mu.Unlock()
		for _, line := range lines {
			if m := re.FindStringSubmatch(line); m != nil {
				return m
			}
		}
		select {
		case <-arrive:
		case <-p.done:
			p.t.Fatalf("%s ended without a line that matches %q", p.name, pattern)
		case <-timeout:
			p.t.Fatalf("%s printed no line that matches %q", p.name, pattern)
		}
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("signal %v to %s: %v", s, p.name, err)
	}
}

// exit waits for the end and returns the exit code, -1 for a signal.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%s did not end", p.name)
	}
	return p.cmd.ProcessState.ExitCode()
}

// run runs a binary to its end and returns its standard output and exit code.
func run(t *testing.T, name string, args ...string) (string, int) {
	t.Helper()
	p := start(t, name, args...)
	code := p.exit()
	return p.stdout(), code
}

// balancer is a running balancer and where it listens.
type balancer struct {
	*process
	grpc, clients, workers string
	conn                   *grpc.ClientConn
}

// startBalancer runs one on free ports.
func startBalancer(t *testing.T, args ...string) *balancer {
	t.Helper()
	return startBalancerAt(t, "127.0.0.1:0", args...)
}

func startBalancerAt(t *testing.T, address string, args ...string) *balancer {
	t.Helper()
	all := []string{"--grpc", address}
	if !slices.Contains(args, "--legacy-clients") {
		all = append(all, "--legacy-clients", "127.0.0.1:0", "--legacy-workers", "127.0.0.1:0")
	}
	if !slices.Contains(args, "--store") {
		all = append(all, "--store", "memory:")
	}
	b := &balancer{process: start(t, "balancer", append(all, args...)...)}
	b.grpc = b.waitLine(`listening for gRPC.*address=(\S+)`)[1]
	if !slices.Contains(args, "--legacy-clients") {
		b.clients = b.waitLine(`listening for clients.*address=(\S+)`)[1]
		b.workers = b.waitLine(`listening for workers.*address=(\S+)`)[1]
	}
	b.conn = dial(t, b.grpc)
	return b
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// startWorker runs a worker and waits until the balancer knows it.
func startWorker(t *testing.T, b *balancer, id string, args ...string) *process {
	t.Helper()
	p := start(t, "worker", append([]string{"--balancer", b.grpc, "--id", id}, args...)...)
	b.eventually("worker "+id+" is registered", func() bool { return b.worker(id) != nil })
	return p
}

// worker returns what the balancer says of a worker, nil when it has none.
func (b *balancer) worker(id string) *pb.Worker {
	b.t.Helper()
	resp, err := pb.NewAdminServiceClient(b.conn).ListWorkers(b.t.Context(), &pb.ListWorkersRequest{PageSize: 1000})
	if err != nil {
		b.t.Fatalf("ListWorkers: %v", err)
	}
	for _, w := range resp.GetWorkers() {
		if w.GetWorkerId() == id {
			return w
		}
	}
	return nil
}

func (b *balancer) info() *pb.GetServerInfoResponse {
	b.t.Helper()
	info, err := pb.NewAdminServiceClient(b.conn).GetServerInfo(b.t.Context(), &pb.GetServerInfoRequest{})
	if err != nil {
		b.t.Fatalf("GetServerInfo: %v", err)
	}
	return info
}

// eventually waits for a condition that something outside brings about.
func (b *balancer) eventually(what string, is func() bool) {
	b.t.Helper()
	b.within(patience, what, is)
}

func (b *balancer) within(limit time.Duration, what string, is func() bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), limit)
	defer cancel()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !is() {
		select {
		case <-poll.C:
		case <-ctx.Done():
			if is() {
				return
			}
			b.t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// need skips aloud when a program is not there, unless the machine promised it.
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

// submitted is a unary Submit under way.
type submitted struct {
	resp *pb.SubmitResponse
	err  error
}

// submit sends a task as text and returns where its outcome will be.
func submit(ctx context.Context, conn *grpc.ClientConn, function, text string) <-chan submitted {
	done := make(chan submitted, 1)
	go func() {
		resp, err := pb.NewTaskServiceClient(conn).Submit(ctx, &pb.SubmitRequest{Function: function, Text: &text})
		done <- submitted{resp, err}
	}()
	return done
}

// outcome waits for a submitted task.
func outcome(t *testing.T, done <-chan submitted) *pb.SubmitResponse {
	t.Helper()
	select {
	case s := <-done:
		if s.err != nil {
			t.Fatalf("Submit: %v", s.err)
		}
		return s.resp
	case <-time.After(patience):
		t.Fatal("Submit did not return")
	}
	return nil
}
