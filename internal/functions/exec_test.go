//go:build unix

package functions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"reparto/worker"
)

func TestParseExec(t *testing.T) {
	name, command, err := ParseExec(" wc = wc -w | tr -d '=' ")
	if err != nil || name != "wc" || command != "wc -w | tr -d '='" {
		t.Errorf("got %q, %q, %v", name, command, err)
	}
	for _, spec := range []string{"", "rev", "=rev", "rev=", " = ", "a=b\x00"} {
		if _, _, err := ParseExec(spec); err == nil {
			t.Errorf("%q is taken", spec)
		}
	}
}

func run(t *testing.T, command, payload string, o ExecOptions) (string, error) {
	t.Helper()
	out, err := Exec(command, o)(t.Context(), worker.Task{ID: "t1", Function: "f", Attempt: 2, Payload: []byte(payload)})
	return string(out), err
}

func TestExecResultIsStandardOutputExactly(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 1<<16)
	for _, c := range []struct{ command, payload, want string }{
		{"cat", "a\x00\xff\n\n", "a\x00\xff\n\n"},
		{"rev | tr a-z A-Z", "abc\n", "CBA\n"},
		{"true", "", ""},
		{"printf '%s %s %s' $REPARTO_TASK_ID $REPARTO_FUNCTION $REPARTO_ATTEMPT", "", "t1 f 2"},
		{"cat", big, big},
		{"echo done", big, "done\n"}, // does not read its input
		{"exec 0<&-; echo done", big, "done\n"},
		{"echo oops >&2; echo fine", "", "fine\n"},
	} {
		got, err := run(t, c.command, c.payload, ExecOptions{})
		if err != nil || got != c.want {
			t.Errorf("%s: got %.40q, %v; want %.40q", c.command, got, err, c.want)
		}
	}
}

// failureOf is what the balancer would be told about err.
func failureOf(err error) string { return fmt.Sprintf("%v", err) }

func TestExecFailsWithTheLastLineOfStandardError(t *testing.T) {
	for command, want := range map[string]string{
		"echo first >&2; echo ' the disk is full ' >&2; echo >&2; exit 3": "the disk is full",
		"exit 3":                            "exit status 3",
		"exit 75":                           "exit status 75",
		"echo later >&2; exit 75":           "later",
		"kill -9 $$":                        "signal: killed",
		"printf 'no line feed' >&2; exit 1": "no line feed",
		`printf '\377\n' >&2; exit 1`:       "\uFFFD",
	} {
		got, err := run(t, command, "", ExecOptions{})
		if err == nil || failureOf(err) != want {
			t.Errorf("%s: got %q, %v; want the failure %q", command, got, err, want)
		}
	}
	if _, err := run(t, "no-such-command-here", "", ExecOptions{}); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("got %v, want the shell's own word", err)
	}
}

func TestExecOutputOverTheLimitFails(t *testing.T) {
	o := ExecOptions{MaxOutput: 1000, KillAfter: 200 * time.Millisecond}
	if got, err := run(t, "head -c 1000 /dev/zero", "", o); err != nil || len(got) != 1000 {
		t.Errorf("at the limit: got %d bytes, %v", len(got), err)
	}
	if got, err := run(t, "head -c 1001 /dev/zero", "", o); err == nil || !strings.Contains(err.Error(), "more than 1000 bytes") {
		t.Errorf("past the limit: got %d bytes, %v", len(got), err)
	}
	// One that would write for ever, and one that is deaf as well.
	for _, command := range []string{"yes", "trap '' TERM PIPE; yes; sleep 3600"} {
		if _, err := run(t, command, "", o); err == nil || !strings.Contains(err.Error(), "more than 1000 bytes") {
			t.Errorf("%s: got %v", command, err)
		}
	}
}

// end starts a command that writes "ready" to a file, cancels it then, and
// returns after what time it ended, and the processes that left their number.
func end(t *testing.T, command string, o ExecOptions) (took time.Duration, pids []int) {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("nobody wants it")
	var wg sync.WaitGroup
	defer wg.Wait()
	var began time.Time
	wg.Go(func() {
		eventually(t, func() bool { b, _ := os.ReadFile(dir + "/ready"); return len(b) > 0 })
		began = time.Now()
		cancel(gone)
	})
	_, err := Exec("cd "+dir+"; "+command, o)(ctx, worker.Task{ID: "t1"})
	if !errors.Is(err, gone) {
		t.Errorf("%s: got %v, want the context's cause", command, err)
	}
	took = time.Since(began)
	files, _ := filepath.Glob(dir + "/*.pid")
	for _, f := range files {
		b, _ := os.ReadFile(f)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		pids = append(pids, pid)
	}
	return took, pids
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("it never came to be")
			return
		}
	}
}

// gone says whether the process has ended; a zombie that nobody has collected
// yet counts as ended.
func gone(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

func TestExecCancelReachesTheWholeGroup(t *testing.T) {
	took, pids := end(t, `sleep 3600 & echo $! > a.pid; sleep 3600 & echo $! > b.pid; echo 1 > ready; wait`, ExecOptions{KillAfter: 20 * time.Second})
	if took > 10*time.Second {
		t.Errorf("took %v: SIGTERM did not end it", took)
	}
	if len(pids) != 2 {
		t.Fatalf("got pids %v", pids)
	}
	for _, pid := range pids {
		eventually(t, func() bool { return gone(pid) })
	}
}

func TestExecKillsWhatIgnoresSIGTERM(t *testing.T) {
	const killAfter = 300 * time.Millisecond
	for _, command := range []string{
		`trap '' TERM; echo $$ > a.pid; echo 1 > ready; while :; do sleep 1; done`,
		// The shell ends at once, what it started does not, with its output open
		// and with its output closed.
		`sh -c "trap '' TERM; echo \$\$ > a.pid; echo 1 > ready; while :; do sleep 1; done" & wait`,
		`sh -c "trap '' TERM; echo \$\$ > a.pid; echo 1 > ready; while :; do sleep 1; done" >/dev/null 2>&1 & wait`,
	} {
		took, pids := end(t, command, ExecOptions{KillAfter: killAfter})
		if took < killAfter {
			t.Errorf("%s: killed after %v, before its time", command, took)
		}
		if took > 20*killAfter {
			t.Errorf("%s: took %v", command, took)
		}
		if len(pids) != 1 {
			t.Fatalf("got pids %v", pids)
		}
		eventually(t, func() bool { return gone(pids[0]) })
	}
}

func TestExecGivesTimeToCleanUp(t *testing.T) {
	dir := t.TempDir()
	end(t, `sh -c "trap 'sleep 0.2; echo tidy > `+dir+`/done; exit' TERM; echo 1 > ready; while :; do sleep 0.05; done" >/dev/null 2>&1 & wait`, ExecOptions{KillAfter: 20 * time.Second})
	if b, err := os.ReadFile(dir + "/done"); err != nil || string(b) != "tidy\n" {
		t.Errorf("what SIGTERM started did not come to its end: %q, %v", b, err)
	}
}

func TestExecNothingOutlivesItsTask(t *testing.T) {
	dir := t.TempDir()
	// Without its output, the one in the background delays nothing.
	start := time.Now()
	got, err := run(t, "sleep 3600 >/dev/null 2>&1 & echo $! > "+dir+"/pid; echo fine", "", ExecOptions{KillAfter: 20 * time.Second})
	if err != nil || got != "fine\n" || time.Since(start) > 10*time.Second {
		t.Errorf("got %q, %v after %v", got, err, time.Since(start))
	}
	b, _ := os.ReadFile(dir + "/pid")
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	eventually(t, func() bool { return gone(pid) })

	// With it, it delays the result by KillAfter at most.
	got, err = run(t, "sleep 3600 & echo fine", "", ExecOptions{KillAfter: 50 * time.Millisecond})
	if err != nil || got != "fine\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err = run(t, "sleep 3600 & echo bad >&2; exit 4", "", ExecOptions{KillAfter: 50 * time.Millisecond}); err == nil || err.Error() != "bad" {
		t.Errorf("got %v", err)
	}
}

func TestExecDoesNotStartForAContextThatHasEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Exec("touch "+t.TempDir()+"/x", ExecOptions{})(ctx, worker.Task{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestExecLogsStandardErrorWithinBounds(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(slog.NewTextHandler(&b, nil))
	if _, err := run(t, `echo one >&2; printf 'two\n\nthree' >&2`, "", ExecOptions{Log: log}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"line=one", "line=two", "line=three", "task_id=t1", "function=f", "attempt=2"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %s in %s", want, &b)
		}
	}
	b.Reset()
	_, err := run(t, `yes 0123456789 | head -n 100000 >&2; echo last >&2; exit 1`, "", ExecOptions{Log: log, MaxLog: 100})
	if err == nil || err.Error() != "last" {
		t.Errorf("got %v, want the last line, logged or not", err)
	}
	if n := strings.Count(b.String(), "line=0123456789"); n != 10 || !strings.Contains(b.String(), "dropped_bytes=") {
		t.Errorf("%d lines are logged, want 10 and a word about the rest: %s", n, &b)
	}
	b.Reset()
	_, err = run(t, `head -c 1000000 /dev/zero | tr '\0' é >&2; exit 1`, "", ExecOptions{Log: log})
	if err == nil || len(err.Error()) > 4*maxLine || b.Len() > 10*maxLine {
		t.Errorf("a line without end becomes %d bytes of failure, %d of log", len(err.Error()), b.Len())
	}
}
