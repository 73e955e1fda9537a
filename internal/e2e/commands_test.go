package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
)

// reason is the ErrorInfo reason that an error carries.
func reason(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == "reparto" {
			return info.GetReason()
		}
	}
	return ""
}

func TestDemoOnce(t *testing.T) {
	out, code := run(t, "demo", "--once")
	if code != 0 || !strings.Contains(out, "15") || strings.Contains(out, "WRONG") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

func TestDemoStaysUpUntilItIsInterrupted(t *testing.T) {
	p := start(t, "demo")
	p.waitLine(`Ctrl-C`)
	p.signal(syscall.SIGINT)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestSubmit(t *testing.T) {
	b := startBalancer(t)
	startWorker(t, b, "w1")
	startWorker(t, b, "w2", "--exec", "rev=rev")
	for _, c := range []struct {
		args []string
		out  string
		code int
	}{
		{[]string{"sum", "1,2,3,4,5"}, "15\n", 0},
		{[]string{"sum", "1,2", "3,4", "5,6"}, "3\n7\n11\n", 0},
		{[]string{"sum", "-1,-2"}, "-3\n", 0},
		{[]string{"rev", "abc\n"}, "cba\n", 0},
		{[]string{"--fail-fast", "nobody", "1"}, "", 1},
		{[]string{"bad name", "1"}, "", 1},
	} {
		out, code := run(t, "client", append([]string{"submit", "--balancer", b.grpc}, c.args...)...)
		if code != c.code || (c.out != "" && out != c.out) {
			t.Errorf("submit %q: got %q, exit code %d; want %q, %d", c.args, out, code, c.out, c.code)
		}
	}
}

func TestSubmitManyLinesInOrder(t *testing.T) {
	b := startBalancer(t)
	for i := range 3 {
		startWorker(t, b, fmt.Sprintf("w%d", i))
	}
	const n = 100_000
	var in, want bytes.Buffer
	for i := 1; i <= n; i++ {
		fmt.Fprintln(&in, i)
		fmt.Fprintln(&want, i)
	}
	p := startIn(t, &in, "client", "submit", "--balancer", b.grpc, "sum", "-")
	if code := p.exit(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	if got := p.stdout(); got != want.String() {
		t.Errorf("%d bytes came back, want %d, in order", len(got), want.Len())
	}
}

func TestExitCodes(t *testing.T) {
	b := startBalancer(t)
	startWorker(t, b, "w")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := free.Addr().String()
	free.Close()
	for _, c := range []struct {
		name string
		args []string
		code int
	}{
		{"client", []string{"submit", "--balancer", b.grpc, "sum", "1"}, 0},
		{"client", []string{"submit", "--balancer", b.grpc, "sum", "x"}, 1},
		{"client", []string{"submit", "--no-such-flag"}, 2},
		{"client", []string{"submit"}, 2},
		{"client", []string{"submit", "--balancer", nobody, "--connect-timeout", "200ms", "sum", "1"}, 3},
		{"balancer", []string{"--no-such-flag"}, 2},
		{"balancer", []string{"--heartbeat", "soon"}, 2},
		{"balancer", []string{"--grpc", b.grpc, "--legacy-clients", "", "--legacy-workers", ""}, 3},
		{"balancer", []string{"--grpc", "127.0.0.1:0", "--legacy-clients", b.clients}, 3},
		{"worker", []string{"--exec", "no-equals-sign"}, 2},
		{"worker", []string{"--slots", "-1"}, 2},
	} {
		p := start(t, c.name, c.args...)
		if code := p.exit(); code != c.code {
			t.Errorf("%s %q: exit code %d, want %d", c.name, c.args, code, c.code)
		}
		if n := strings.Count(p.printed(), "\n"); c.code >= 2 && n > 1 {
			t.Errorf("%s %q: an error should be one clear line (and a hint), not %d:\n%s", c.name, c.args, n+1, p.printed())
		}
	}
}

func TestGRPCurl(t *testing.T) {
	grpcurl := need(t, "grpcurl")
	b := startBalancer(t)
	startWorker(t, b, "w")
	out, err := exec.Command(grpcurl, "-plaintext", "-d", `{"function":"sum","text":"1,2,3,4,5"}`,
		b.grpc, "reparto.v1.TaskService/Submit").CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"text": "15"`) {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestNetcat(t *testing.T) {
	nc := need(t, "nc")
	b := startBalancer(t)
	startWorker(t, b, "w")
	host, port, err := net.SplitHostPort(b.clients)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{host, port}, {"-N", host, port}} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		cmd := exec.CommandContext(ctx, nc, args...)
		cmd.Stdin = strings.NewReader("TASK|t1|1,2,3,4,5\n")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if line != "RESULT|t1|15\n" {
			t.Errorf("nc %v: got %q, %v", args, line, err)
		}
		if args[0] == "-N" { // it closes its side; the balancer then closes the other
			if err := cmd.Wait(); err != nil {
				t.Errorf("nc -N: %v", err)
			}
		}
		cancel() // without -N it would stay for more
		cmd.Wait()
	}
}
