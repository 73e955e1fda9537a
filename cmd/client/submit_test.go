package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
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
