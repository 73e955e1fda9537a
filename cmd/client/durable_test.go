package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"reparto/worker"
)

// asked runs the command line and returns what it prints.
func (b *balancer) asked(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, errs bytes.Buffer
	args = append([]string{args[0], "--balancer", b.address}, args[1:]...)
	code = run(ctx, args, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

// want runs the command line, which must end with the code and print what the
// pattern says.
func (b *balancer) want(t *testing.T, code int, pattern string, args ...string) string {
	t.Helper()
	got, out, errs := b.asked(t, "", args...)
	if got != code || !regexp.MustCompile("(?s)^"+pattern+"$").MatchString(out+errs) {
		t.Fatalf("client %v: exit code %d, want %d\n%s%s\nwant %s", args, got, code, out, errs, pattern)
	}
	return strings.TrimSpace(out)
}

func TestTheLifeOfADurableTask(t *testing.T) {
	b := startBalancer(t, worker.Handlers{
		"bad": func(context.Context, worker.Task) ([]byte, error) { return nil, errors.New("no \x1b[31mgood") },
	})
	id := b.want(t, 0, `[0-9a-f-]{36}\n`, "enqueue", "sum", "1,2,3,4,5")
	b.want(t, 0, `15\n`, "wait", id)
	b.want(t, 0, `id +`+id+`\nfunction +sum\nstate +SUCCEEDED\n.*payload +1,2,3,4,5 \(9 bytes\)\nresult +15 \(2 bytes\)\n\nATTEMPT .*\n1 +w1 .*result\n`, "get", id)
	b.want(t, 0, id+` SUCCEEDED: .*\n`, "explain", id)
	b.want(t, 1, `.*has no final outcome.*\n`, "retry", id)

	bad := b.want(t, 0, `.*`, "enqueue", "bad", "x")
	b.want(t, 1, `ERROR: no \\x1b\[31mgood\n`, "wait", bad)
	b.want(t, 0, `ID .*\n`+bad+` +bad +FAILED .*no \\x1b\[31mgood\n`, "list", "--state", "failed")
	b.want(t, 0, bad+` (QUEUED|RUNNING)\n`, "retry", bad)
	b.want(t, 1, `ERROR: .*`, "wait", bad)

	later := b.want(t, 0, `later\n`, "enqueue", "--id", "later", "--delay", "1h", "--priority", "1", "sum", "1")
	b.want(t, 0, `later SCHEDULED: .*delayed until.*\n`, "explain", later)
	b.want(t, 1, `client wait: task later is SCHEDULED after 1ms.*`, "wait", "--timeout", "1ms", later)
	b.want(t, 0, `later CANCELLED\n`, "cancel", later)
	b.want(t, 1, `client get: no such task.*\n`, "get", "nobody")
	b.want(t, 1, `.*nobody: no such task.*`, "get", id, "nobody")
	b.want(t, 1, `\ntask 1: priority: is 9.*`, "enqueue", "--priority", "9", "sum", "1")
	b.want(t, 2, `.*--run-at is "soon".*`, "enqueue", "--run-at", "soon", "sum", "1")
	b.want(t, 2, `.*page_token.*|.*limit.*`, "list", "--limit", "-1")
}

func TestEnqueueManyFromInput(t *testing.T) {
	b := startBalancer(t, nil)
	var lines strings.Builder
	for range 2500 { // three batches
		lines.WriteString("1,2\n")
	}
	code, out, errs := b.asked(t, lines.String(), "enqueue", "--id", "many", "sum", "-")
	if got := strings.Fields(out); code != 0 || len(got) != 2500 || got[0] != "many-1" || got[2499] != "many-2500" {
		t.Fatalf("exit code %d, %d ids, %s", code, len(got), errs)
	}
	if code, out, errs = b.asked(t, "1,2\n3,4\n", "enqueue", "--wait", "sum", "-"); code != 0 || out != "3\n7\n" {
		t.Fatalf("exit code %d, %q, %s", code, out, errs)
	}
	code, out, _ = b.asked(t, "", "list", "--limit", "0", "--output", "json")
	if n := strings.Count(out, "\n"); code != 0 || n != 2502 {
		t.Fatalf("exit code %d, %d tasks listed, want 2502", code, n)
	}
	for line := range strings.Lines(out) {
		var task struct {
			Function string `json:"function"`
		}
		if err := json.Unmarshal([]byte(line), &task); err != nil || task.Function != "sum" {
			t.Fatalf("%q: %v", line, err)
		}
	}
	if _, out, _ = b.asked(t, "", "list", "--limit", "7"); strings.Count(out, "\n") != 8 {
		t.Fatalf("a limit of 7 lists\n%s", out)
	}
}

func TestOperating(t *testing.T) {
	b := startBalancer(t, nil)
	deadline := time.Now().Add(patience)
	for !strings.Contains(b.want(t, 0, `WORKER.*`, "workers"), "w1 ") {
		if time.Now().After(deadline) {
			t.Fatal("the worker does not show")
		}
	}
	b.want(t, 0, `sum is paused\n`, "pause", "sum")
	b.want(t, 0, `sum was paused already\n`, "pause", "sum")
	id := b.want(t, 0, `.*`, "enqueue", "sum", "1,1")
	b.want(t, 0, `.*paused.*`, "explain", id)
	b.want(t, 0, `FUNCTION.*\nsum +paused +1 .*`, "functions")
	b.want(t, 0, `sum is resumed\n`, "resume", "sum")
	b.want(t, 0, `2\n`, "wait", id)
	b.want(t, 0, `w1 leaves when it has finished\n`, "drain", "w1")
	b.want(t, 1, `.*no worker of that id.*`, "drain", "nobody")
	b.want(t, 2, `.*requires at least 1 arg.*`, "pause")
}
