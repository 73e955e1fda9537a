package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"reparto/client"
	"reparto/internal/cli"
	"reparto/internal/dispatch"
	"reparto/internal/functions"
	"reparto/internal/legacy"
	"reparto/internal/rpc"
	"reparto/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startBalancer starts a balancer, with a gRPC worker if asked, and returns its
// address.
func startBalancer(t *testing.T, withWorker bool) string {
	t.Helper()
	d, err := dispatch.Open(dispatch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := rpc.NewServer(d, rpc.Options{})
	conn, err := grpc.NewClient(l.Addr().String(), worker.DialOptions(nil)...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	if withWorker {
		wg.Go(func() {
			_ = worker.Run(ctx, conn, functions.BuiltIn(), worker.Options{ID: "w1", DrainTimeout: time.Millisecond})
		})
	}
	t.Cleanup(func() {
		cancel()
		s.Close()
		d.Close()
		wg.Wait()
		conn.Close()
	})
	return l.Addr().String()
}

// patience is far beyond what anything here takes.
const patience = 30 * time.Second

// output is what a program prints, to be read while it runs.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// await waits for a match and returns its first group.
func (o *output) await(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if m := re.FindStringSubmatch(o.String()); m != nil {
			return m[1]
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %s in %s", pattern, o)
		}
	}
}

// start runs an adapter; stop asks it to stop and returns its exit code.
func start(t *testing.T, args ...string) (stdout, stderr *output, stop func() int) {
	t.Helper()
	stdout, stderr = &output{}, &output{}
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"--legacy-clients", "127.0.0.1:0", "--legacy-workers", "127.0.0.1:0"}, args...), strings.NewReader(""), stdout, stderr)
	}()
	stop = sync.OnceValue(func() int {
		cancel()
		select {
		case c := <-code:
			return c
		case <-time.After(patience):
			t.Error("the adapter does not stop")
			return -1
		}
	})
	t.Cleanup(func() { stop() })
	return stdout, stderr, stop
}

// ask sends a line and returns the one that comes back.
func ask(t *testing.T, conn net.Conn, line string) string {
	t.Helper()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintln(conn, line); err != nil {
		t.Fatal(err)
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatalf("after %q: %v", line, err)
	}
	return strings.TrimSuffix(answer, "\n")
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestATextClientGetsItsResult(t *testing.T) {
	balancer := startBalancer(t, true)
	_, stderr, stop := start(t, "--balancer", balancer)
	conn := dial(t, stderr.await(t, `msg="listening for clients" address=(\S+)`))
	if got := ask(t, conn, "TASK|t1|1,2,3,4,5"); got != "RESULT|t1|15" {
		t.Errorf("got %q", got)
	}
	if got := ask(t, conn, "TASK|t2|1,abc"); got != "RESULT|t2|ERROR: invalid literal for int() with base 10: 'abc'" {
		t.Errorf("got %q", got)
	}
	if code := stop(); code != cli.OK {
		t.Errorf("exit code %d", code)
	}
}

func TestClassicAdapterLines(t *testing.T) {
	balancer := startBalancer(t, false)
	stdout, _, stop := start(t, "--balancer", balancer, "--log", "classic", "--legacy-ack-gap", "0")
	w := dial(t, "127.0.0.1:"+stdout.await(t, `Escuchando workers en puerto (\d+)`))
	if got := ask(t, w, "REGISTER|worker_abc123"); got != "ACK|worker_abc123" {
		t.Fatalf("got %q", got)
	}
	stdout.await(t, `(Worker registrado)`)
	c := dial(t, "127.0.0.1:"+stdout.await(t, `Escuchando clientes en puerto (\d+)`))
	done := make(chan string, 1)
	go func() { done <- ask(t, c, "TASK|task_xyz789|1,2") }()
	line, err := bufio.NewReader(w).ReadString('\n')
	if err != nil || line != "ASSIGN_TASK|task_xyz789|1,2\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	fmt.Fprintln(w, "TASK_RESULT|task_xyz789|3")
	if got := <-done; got != "RESULT|task_xyz789|3" {
		t.Errorf("got %q", got)
	}
	stdout.await(t, `(enviado)`)
	fmt.Fprintln(c, "HELLO|x")
	stdout.await(t, `(inválido)`)
	_ = c.Close()
	_ = w.Close()
	if code := stop(); code != cli.OK {
		t.Errorf("exit code %d", code)
	}
	tuple := func(conn net.Conn) string {
		a := conn.LocalAddr().(*net.TCPAddr)
		return fmt.Sprintf("('%s', %d)", a.IP, a.Port)
	}
	port := func(conn net.Conn) int { return conn.RemoteAddr().(*net.TCPAddr).Port }
	want := fmt.Sprintf(`[LOAD BALANCER] Iniciado en localhost
[LOAD BALANCER] Escuchando clientes en puerto %d
[LOAD BALANCER] Escuchando workers en puerto %d
[LOAD BALANCER] Worker conectado desde %[3]s
[LOAD BALANCER] Worker registrado: worker_abc123 desde %[3]s
[LOAD BALANCER] Cliente conectado desde %[4]s
[LOAD BALANCER] Tarea recibida: task_xyz789 de %[4]s
[LOAD BALANCER] Tarea task_xyz789 asignada a worker worker_abc123
[LOAD BALANCER] Resultado recibido para tarea task_xyz789
[LOAD BALANCER] Resultado enviado al cliente para tarea task_xyz789
[LOAD BALANCER] Formato de mensaje inválido: HELLO|x
`, port(c), port(w), tuple(w), tuple(c))
	if stdout.String() != want {
		t.Errorf("it shows\n%s\nand not\n%s", stdout, want)
	}
}

func TestWrongUsageIsOneLine(t *testing.T) {
	for line, want := range map[string]string{
		"--nope": "--nope", "extra": "extra", "--balancer nowhere": "--balancer",
		"--legacy-clients= --legacy-workers=": "turned off",
		"--legacy-clients 8888":               "8888",
		"--legacy-function a|b":               "a|b",
		"--legacy-max-line 0":                 "--legacy-max-line",
		"--legacy-max-line 10":                "64",
		"--legacy-max-connections -1":         "--legacy-max-connections",
		"--legacy-quiet 0":                    "--legacy-quiet",
		"--legacy-ack-gap -1s":                "--legacy-ack-gap",
		"--timeout 25h":                       "24h",
		"--log xml":                           "--log",
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), strings.Fields(line), strings.NewReader(""), &stdout, &stderr)
		out := stderr.String()
		if code != cli.Usage || strings.Count(out, "\n") != 1 || !strings.Contains(out, want) || !strings.HasSuffix(out, "(see 'adapter --help')\n") {
			t.Errorf("%s: exit code %d, stderr %q", line, code, out)
		}
	}
}

func TestZeroMeansNoneWhereItSaysSo(t *testing.T) {
	f := flags{balancer: cli.Peer{Target: cli.DefaultBalancer}, legacy: legacy.Options{
		ClientAddress: "localhost:0", MaxLine: 1, MaxConnections: 1, MaxInFlight: 1, MaxInFlightBytes: 1,
		Quiet: 1, MessageTimeout: 1, WriteTimeout: 1, TaskTimeout: 1, ConnectTimeout: 1, KeepAlive: time.Second, MaxPeers: 1,
	}}
	if err := f.check(); err != nil {
		t.Fatal(err)
	}
	// Less than 0 is what legacy.Options have for none; 0 would be their default.
	if o := f.legacy; o.AckGap >= 0 || o.ResultGap >= 0 || o.DrainTimeout >= 0 || o.ReportInterval >= 0 || o.KeepAlive != time.Second {
		t.Errorf("got %+v", o)
	}
}

func TestAPortInUseIsNoConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"--legacy-clients", l.Addr().String()}, strings.NewReader(""), &stdout, &stderr)
	if code != cli.NoConnection || strings.Count(stderr.String(), "\n") != 1 || !strings.Contains(stderr.String(), "in use") {
		t.Errorf("exit code %d, stderr %q", code, &stderr)
	}
}

func TestHelpNamesWhatMatters(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, strings.NewReader(""), &stdout, &stderr); code != cli.OK {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"--legacy-clients", "[$REPARTO_LEGACY_CLIENTS]", "Exit codes", "adapter --log classic", "--drain-timeout"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %q in\n%s", want, &stdout)
		}
	}
}

// What happened in the last moments is told before the adapter ends, and its next
// run counts on.
func TestTheBalancerIsToldWhoSpeaksText(t *testing.T) {
	balancer := startBalancer(t, true)
	c, err := client.Dial(balancer)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for run := range 2 {
		_, stderr, stop := start(t, "--balancer", balancer, "--legacy-id", "web1")
		conn := dial(t, stderr.await(t, `msg="listening for clients" address=(\S+)`))
		for range 3 {
			ask(t, conn, "TASK|t1|1,2")
		}
		_ = conn.Close()
		if code := stop(); code != cli.OK {
			t.Errorf("exit code %d", code)
		}
		n := 0
		for p, err := range c.TextPeers(t.Context()) {
			n++
			if err != nil || p.Adapter != "web1" || p.Address != "127.0.0.1" || p.Connections != 0 || p.Tasks != int64(3*run+3) {
				t.Errorf("after run %d: %+v, %v", run, p, err)
			}
		}
		if n != 1 {
			t.Errorf("after run %d: %d peers", run, n)
		}
	}
}
