package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/cli"
	"reparto/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// submit runs `client submit` with flags and arguments.
func submit(t *testing.T, b *balancer, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	all := append([]string{"submit", "--balancer", b.address}, args...)
	code = run(t.Context(), all, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

func TestSubmitPrintsResultsInTheOrderGiven(t *testing.T) {
	b := startBalancer(t, nil)
	for _, c := range []struct {
		stdin string
		args  []string
		want  string
	}{
		{"", []string{"sum", "1,2,3,4,5"}, "15\n"},
		{"", []string{"sum", "1,2", "3,4", "5,6"}, "3\n7\n11\n"},
		{"", []string{"sum", "-5,3"}, "-2\n"},
		{"", []string{"sum", "-5"}, "-5\n"},
		{"", []string{"echo", "", "x"}, "\nx\n"},
		{"", []string{"echo", "line\n"}, "line\n"},
		{"", []string{"echo", "--", "--timeout", "-"}, "--timeout\n-\n"},
		{"", []string{"--", "echo", "--"}, ""}, // nothing after --
		{"", []string{"sleep", "60ms", "1ms"}, "60ms\n1ms\n"},
		{"1,2\n3,4\r\n5", []string{"sum", "-"}, "3\n7\n5\n"},
		{"a\n\nb\n", []string{"echo", "-"}, "a\n\nb\n"},
		{"", []string{"echo", "-"}, ""},
	} {
		code, out, errs := submit(t, b, c.stdin, c.args...)
		if c.want == "" && c.args[0] == "--" {
			if code != cli.Usage {
				t.Errorf("%q: exit code %d", c.args, code)
			}
			continue
		}
		if code != cli.OK || out != c.want || errs != "" {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q; want %q", c.args, code, out, errs, c.want)
		}
	}
}

func TestManyLinesThroughASmallWindow(t *testing.T) {
	b := startBalancer(t, nil)
	var in, want strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&in, "%d,1\n", i)
		fmt.Fprintf(&want, "%d\n", i+1)
	}
	for _, flags := range [][]string{{"--window", "1024"}, {"--window", "3"}, {"--window-bytes", "1"}} {
		n := in.String()
		w := want.String()
		if flags[1] != "1024" {
			n, w = n[:strings.Index(n, "\n500,")+1], w[:strings.Index(w, "\n501\n")+1]
		}
		code, out, errs := submit(t, b, n, append(flags, "sum", "-")...)
		if code != cli.OK || out != w || errs != "" {
			t.Errorf("%q: exit code %d, %d bytes of %d, stderr %q", flags, code, len(out), len(w), errs)
		}
	}
}

func TestAFailedTaskKeepsItsPlace(t *testing.T) {
	b := startBalancer(t, nil)
	code, out, errs := submit(t, b, "", "sum", "1,2", "1,abc", "3,4")
	if code != cli.Failed || out != "3\nERROR: invalid literal for int() with base 10: 'abc'\n7\n" {
		t.Errorf("exit code %d, stdout %q", code, out)
	}
	if want := "task 2: invalid literal for int() with base 10: 'abc' (HANDLER_ERROR, attempt 1, worker w1)\nclient submit: 1 of 3 tasks failed\n"; errs != want {
		t.Errorf("stderr %q, want %q", errs, want)
	}
	// One alone has said all there is to say.
	code, out, errs = submit(t, b, "", "sum", "x")
	if code != cli.Failed || !strings.HasPrefix(out, "ERROR: ") || strings.Count(errs, "\n") != 1 {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, out, errs)
	}
}

func TestWhatTheBalancerRefuses(t *testing.T) {
	b := startBalancer(t, nil)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--fail-fast", "nobody", "x"}, "(UNAVAILABLE, NO_WORKER)"},
		{[]string{"--timeout", "20ms", "nobody", "x"}, "(DEADLINE_EXCEEDED, "},
		{[]string{"bad name", "x"}, "(INVALID_ARGUMENT, FUNCTION)"},
		{[]string{"--id", "a|b", "echo", "x"}, "(INVALID_ARGUMENT, TASK_ID)"},
		{[]string{"echo", strings.Repeat("x", 4<<20+1)}, "(INVALID_ARGUMENT, PAYLOAD_TOO_LARGE)"},
	} {
		code, out, errs := submit(t, b, "", c.args...)
		if code != cli.Failed || !strings.HasPrefix(out, "ERROR: ") || !strings.Contains(errs, c.want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%.60q: exit code %d, stdout %q, stderr %q; want %q", c.args, code, out, errs, c.want)
		}
	}
}

func TestLinesUpToTheLimit(t *testing.T) {
	b := startBalancer(t, nil)
	longest := strings.Repeat("x", maxLine)
	code, out, errs := submit(t, b, longest+"\r\n"+longest+"y\r\nz\n", "echo", "-")
	lines := strings.Split(out, "\n")
	if code != cli.Failed || len(lines) != 4 || lines[0] != longest || !strings.HasPrefix(lines[1], "ERROR: line 2 has about 4194307 bytes; at most 4194304") || lines[2] != "z" || !strings.HasPrefix(errs, "task 2: line 2 has") {
		t.Errorf("exit code %d, %d lines, stderr %.200q", code, len(lines), errs)
	}
}

func TestFlagsReachTheTask(t *testing.T) {
	seen := make(chan worker.Task, 10)
	var mu sync.Mutex
	tries := 0
	b := startBalancer(t, worker.Handlers{
		"show": func(ctx context.Context, task worker.Task) ([]byte, error) {
			deadline, _ := ctx.Deadline()
			if left := time.Until(deadline); left > 40*time.Second || left < 10*time.Second {
				return nil, fmt.Errorf("%v are left", left)
			}
			seen <- task
			return task.Payload, nil
		},
		"hang": func(ctx context.Context, _ worker.Task) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
		"flaky": func(context.Context, worker.Task) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			tries++
			return nil, worker.Retry(errors.New("not yet"), time.Millisecond)
		},
	})
	if code, _, errs := submit(t, b, "", "--timeout", "40s", "--metadata", "a=1", "--metadata", "b=x=y", "--id", "mine", "--idempotent", "show", "p"); code != cli.OK {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	if got := <-seen; got.ID != "mine" || got.Metadata["a"] != "1" || got.Metadata["b"] != "x=y" {
		t.Errorf("got %+v", got)
	}
	if code, _, errs := submit(t, b, "", "--timeout", "35s", "--id", "two", "show", "p", "q"); code != cli.OK {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	for range 2 {
		if got := <-seen; got.ID != map[string]string{"p": "two-1", "q": "two-2"}[string(got.Payload)] {
			t.Errorf("got %+v", got)
		}
	}
	code, _, errs := submit(t, b, "", "--attempt-timeout", "20ms", "--max-attempts", "1", "hang", "x")
	if code != cli.Failed || !strings.Contains(errs, "ATTEMPT_TIMEOUT") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	code, _, errs = submit(t, b, "", "--max-attempts", "2", "flaky", "x")
	if code != cli.Failed || tries != 2 || !strings.Contains(errs, "not yet (HANDLER_ERROR, attempt 2, worker w1)") {
		t.Errorf("exit code %d after %d tries: %s", code, tries, errs)
	}
}

func TestJSONOutput(t *testing.T) {
	b := startBalancer(t, worker.Handlers{"bytes": func(context.Context, worker.Task) ([]byte, error) { return []byte{0xff, 0}, nil }})
	for _, c := range []struct{ args, want string }{
		{"--id a sum 1,2", `{"task_id":"a","function":"sum","text":"3","attempt":1,"worker_id":"w1"}`},
		{"--id b bytes x", `{"task_id":"b","function":"bytes","result":"/wA=","attempt":1,"worker_id":"w1"}`},
		{"--id d echo <&>", `{"task_id":"d","function":"echo","text":"<&>","attempt":1,"worker_id":"w1"}`},
		{"--id c sum x", `{"task_id":"c","function":"sum","error":{"reason":"HANDLER_ERROR","message":"invalid literal for int() with base 10: 'x'"},"attempt":1,"worker_id":"w1"}`},
	} {
		_, out, _ := submit(t, b, "", append([]string{"--output", "json"}, strings.Fields(c.args)...)...)
		if out != c.want+"\n" {
			t.Errorf("%s: got %s, want %s", c.args, out, c.want)
		}
	}
	code, out, _ := submit(t, b, "", "--output", "json", "--fail-fast", "nobody", "x")
	var got object
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != cli.Failed || got.Error == nil || got.Error.Code != "UNAVAILABLE" || got.Error.Reason != "NO_WORKER" || got.Text != nil {
		t.Errorf("exit code %d, %s", code, out)
	}
	if _, out, _ = submit(t, b, "", "--output", "json", "echo", ""); !strings.Contains(out, `"text":""`) {
		t.Errorf("an empty result is %s", out)
	}
}

func TestClassicClientLines(t *testing.T) {
	b := startBalancer(t, nil)
	code, out, errs := submit(t, b, "", "--log", "classic", "--window", "1", "sum", "1,2,3,4,5", "x")
	out = regexp.MustCompile(`task_[0-9a-f]{16}\b`).ReplaceAllString(out, "task_ID")
	want := `[CLIENT] Conectado al balanceador en ` + b.address + `
[CLIENT] Enviando tarea task_ID: 1,2,3,4,5
[CLIENT] Resultado recibido para tarea task_ID: 15
[CLIENT] Enviando tarea task_ID: x
[CLIENT] Resultado recibido para tarea task_ID: ERROR: invalid literal for int() with base 10: 'x'
[CLIENT] Desconectado
[CLIENT] Resumen de resultados:
  Tarea 1: 15
  Tarea 2: ERROR: invalid literal for int() with base 10: 'x'
`
	// With a window of one, the next may be sent before the last is shown.
	if code != cli.Failed || errs != "" || sorted(out) != sorted(want) || !strings.HasSuffix(out, want[strings.Index(want, "[CLIENT] Desc"):]) {
		t.Errorf("exit code %d, stderr %q, stdout\n%s\nand not\n%s", code, errs, out, want)
	}
}

func sorted(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		for j := range lines[:i] {
			if lines[i] < lines[j] {
				lines[i], lines[j] = lines[j], lines[i]
			}
		}
	}
	return strings.Join(lines, "\n")
}

func TestNoConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := &balancer{address: l.Addr().String()}
	// A port that takes connections and never answers is no better.
	code, out, errs := submit(t, nobody, "", "--connect-timeout", "300ms", "sum", "1")
	if code != cli.NoConnection || out != "" || !strings.HasPrefix(errs, "client submit: no connection to the balancer at "+nobody.address+" within 300ms: ") || strings.Count(errs, "\n") != 1 {
		t.Errorf("silent: exit code %d, stdout %q, stderr %q", code, out, errs)
	}
	l.Close()
	code, out, errs = submit(t, nobody, "", "--connect-timeout", "300ms", "sum", "1")
	if code != cli.NoConnection || out != "" || !strings.Contains(errs, "connection refused") || strings.Count(errs, "\n") != 1 || strings.Contains(errs, "desc =") {
		t.Errorf("closed: exit code %d, stdout %q, stderr %q", code, out, errs)
	}
	code, out, errs = submit(t, nobody, "", "--connect-timeout", "300ms", "--log", "classic", "sum", "1")
	if code != cli.NoConnection || out != "[CLIENT] No se pudo conectar al balanceador. Asegúrese de que esté corriendo.\n" || errs != "" {
		t.Errorf("classic: exit code %d, stdout %q, stderr %q", code, out, errs)
	}
}

func TestAConnectionThatIsLostEndsItAll(t *testing.T) {
	b := startBalancer(t, nil)
	in, feed := io.Pipe()
	out := &signalling{first: make(chan struct{})}
	var errs bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- run(t.Context(), []string{"submit", "-b", b.address, "--connect-timeout", "200ms", "echo", "-"}, in, out, &errs)
	}()
	fmt.Fprintln(feed, "one")
	<-out.first // and so it is flushed when there is nothing to do
	b.stop()
	go func() {
		for {
			if _, err := fmt.Fprintln(feed, "more"); err != nil {
				return
			}
		}
	}()
	select {
	case c := <-code:
		if c != cli.NoConnection || !strings.Contains(errs.String(), "client submit: the connection to the balancer is lost") {
			t.Errorf("exit code %d, stderr %q", c, &errs)
		}
	case <-time.After(patience):
		t.Error("it goes on without a balancer")
	}
	in.Close()
}

// signalling tells when something is written to it.
type signalling struct {
	once  sync.Once
	first chan struct{}
	err   error
}

func (s *signalling) Write(p []byte) (int, error) {
	s.once.Do(func() { close(s.first) })
	if s.err != nil {
		return 0, s.err
	}
	return len(p), nil
}

func TestAnInterruptCancelsWhatIsUnderWay(t *testing.T) {
	started, cancelled := make(chan struct{}), make(chan struct{})
	b := startBalancer(t, worker.Handlers{"hang": func(ctx context.Context, _ worker.Task) ([]byte, error) {
		close(started)
		<-ctx.Done()
		close(cancelled)
		return nil, ctx.Err()
	}})
	ctx, interrupt := context.WithCancel(t.Context())
	go func() { <-started; interrupt() }()
	var out, errs bytes.Buffer
	if code := run(ctx, []string{"submit", "-b", b.address, "hang", "x"}, strings.NewReader(""), &out, &errs); code != cli.Interrupted {
		t.Errorf("exit code %d, stderr %q", code, &errs)
	}
	select {
	case <-cancelled:
	case <-time.After(patience):
		t.Error("it runs on")
	}
}

func TestAnInterruptDoesNotWaitForInput(t *testing.T) {
	b := startBalancer(t, nil)
	for _, address := range []string{b.address, "127.0.0.1:1"} {
		in, feed := io.Pipe()
		ctx, interrupt := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, interrupt)
		if code := run(ctx, []string{"submit", "-b", address, "echo", "-"}, in, io.Discard, io.Discard); code != cli.Interrupted {
			t.Errorf("exit code %d", code)
		}
		feed.Close()
	}
}

func TestOutputThatNobodyReadsEndsItQuietly(t *testing.T) {
	b := startBalancer(t, nil)
	for _, flags := range [][]string{{}, {"--output", "json"}, {"--log", "classic"}} {
		out := &signalling{first: make(chan struct{}), err: syscall.EPIPE}
		var errs bytes.Buffer
		in, feed := io.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() { // endless input
			for {
				if _, err := fmt.Fprintln(feed, "line"); err != nil {
					return
				}
			}
		})
		code := run(t.Context(), append(append([]string{"submit", "-b", b.address}, flags...), "echo", "-"), in, out, &errs)
		if code != cli.OK || errs.Len() > 0 {
			t.Errorf("%q: exit code %d, stderr %q", flags, code, &errs)
		}
		in.Close()
		wg.Wait()
	}
}

func TestOutputThatCanNotBeWrittenIsAnError(t *testing.T) {
	b := startBalancer(t, nil)
	var errs bytes.Buffer
	code := run(t.Context(), []string{"submit", "-b", b.address, "echo", "x"}, strings.NewReader(""), &signalling{first: make(chan struct{}), err: syscall.ENOSPC}, &errs)
	if code != cli.Failed || !strings.Contains(errs.String(), "no space left") {
		t.Errorf("exit code %d, stderr %q", code, &errs)
	}
}

func TestInputThatCanNotBeReadIsAnError(t *testing.T) {
	b := startBalancer(t, nil)
	var out, errs bytes.Buffer
	in := io.MultiReader(strings.NewReader("one\n"), failing{})
	code := run(t.Context(), []string{"submit", "-b", b.address, "echo", "-"}, in, &out, &errs)
	if code != cli.Failed || out.String() != "one\n" || !strings.Contains(errs.String(), "standard input: the tape broke") {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, &out, &errs)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("the tape broke") }

func TestWrongUsageIsOneLine(t *testing.T) {
	for _, args := range []string{
		"", "sum", "sum 1 -", "sum - 1", "sum 1 --timeout 5s", "--nope sum 1", "--window 0 sum 1", "--window 65537 sum 1",
		"--window-bytes 0 sum 1", "--timeout 1us sum 1", "--timeout 25h sum 1", "--attempt-timeout -1s sum 1", "--max-attempts 101 sum 1",
		"--max-attempts -1 sum 1", "--output xml sum 1", "--output json --log classic sum 1", "--metadata x sum 1", "--balancer nowhere sum 1",
		"--connect-timeout 0 sum 1",
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"submit"}, strings.Fields(args)...), strings.NewReader(""), &out, &errs)
		if code != cli.Usage || out.Len() > 0 || strings.Count(errs.String(), "\n") != 1 || !strings.HasSuffix(errs.String(), "(see 'client submit --help')\n") {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", args, code, &out, &errs)
		}
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"sumbit"}, strings.NewReader(""), &out, &errs); code != cli.Usage || !strings.Contains(errs.String(), "submit") {
		t.Errorf("a typing error: exit code %d, stderr %q", code, &errs)
	}
}

func TestHelpTellsAPersonWhatToDo(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"submit", "--help"}, strings.NewReader(""), &out, &errs); code != cli.OK {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"client submit sum 1,2,3,4,5", "Flags go before FUNCTION", "Exit codes", "[$REPARTO_BALANCER]", "[$REPARTO_MAX_ATTEMPTS]", "--id ID", "KEY=VALUE"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

func TestTheBalancerMayComeFromTheEnvironment(t *testing.T) {
	b := startBalancer(t, nil)
	t.Setenv("REPARTO_BALANCER", b.address)
	t.Setenv("REPARTO_METADATA", "a=1\nb=2")
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"submit", "echo", "hi"}, strings.NewReader(""), &out, &errs); code != cli.OK || out.String() != "hi\n" {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, &out, &errs)
	}
}

func TestEveryTaskIsGoneAfterwards(t *testing.T) {
	b := startBalancer(t, nil)
	if code, _, _ := submit(t, b, "", "--timeout", "30s", "sum", "1", "2"); code != cli.OK {
		t.Errorf("exit code %d", code)
	}
	info, err := b.admin.GetServerInfo(t.Context(), &pb.GetServerInfoRequest{})
	if err != nil || info.GetQueued() != 0 || info.GetRunning() != 0 {
		t.Errorf("got %v, %v", info, err)
	}
}
