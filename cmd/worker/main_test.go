package main

import (
	"bytes"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"reparto/internal/cli"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWrongUsageIsOneLine(t *testing.T) {
	for line, want := range map[string]string{
		"--nope":                       "--nope",
		"extra":                        "extra",
		"--slots -1":                   "--slots",
		"--slots 65537":                "--slots",
		"--slots 65000 --prefetch 537": "--prefetch",
		"--prefetch -1":                "--prefetch",
		"--exec rev":                   "NAME=COMMAND",
		"--exec =rev":                  "NAME=COMMAND",
		"--exec r*v=rev":               "r*v",
		"--exec a=x --exec a=y":        "offered already",
		"--exec sum=x --builtin":       "offered already",
		"--functions sum,nope":         "--functions",
		"--functions sum --exec a=b":   "--functions",
		"--id with|bar":                "--id",
		"--label x":                    "KEY=VALUE",
		"--label =x":                   "KEY=VALUE",
		"--balancer localhost":         "HOST:PORT",
		"--balancer a:1,localhost":     "HOST:PORT",
		"--balancer a:1 -b a:1":        "a:1 is given twice",
		"--drain-timeout -1s":          "--drain-timeout",
		"--kill-after 0":               "--kill-after",
		"--max-output 0 --exec a=b":    "--max-output",
		"--log xml":                    "text, json, classic",
		"--label k=" + strings.Repeat("v", 17<<10): "--label",
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), strings.Fields(line), strings.NewReader(""), &stdout, &stderr)
		out := stderr.String()
		if code != cli.Usage || strings.Count(out, "\n") != 1 || !strings.HasPrefix(out, "worker: ") || !strings.Contains(out, want) || !strings.Contains(out, "(see 'worker --help')") {
			t.Errorf("%.60s: exit code %d, stderr %q", line, code, out)
		}
	}
}

func TestTheEnvironmentCounts(t *testing.T) {
	t.Setenv("REPARTO_SLOTS", "-7")
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), nil, strings.NewReader(""), &stdout, &stderr)
	if code != cli.Usage || !strings.Contains(stderr.String(), "-7") {
		t.Errorf("exit code %d, stderr %q", code, &stderr)
	}
}

func TestHelpTellsAPersonWhatToDo(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, strings.NewReader(""), &stdout, &stderr); code != cli.OK {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{
		"worker --exec 'rev=rev'", "SIGTERM", "Exit codes", "Exit status 0", "1,2,3,4,5 gives 15",
		"--balancer HOST:PORT", "(default [localhost:9090])", "[$REPARTO_BALANCER]", "[$REPARTO_DRAIN_TIMEOUT]", "--exec NAME=COMMAND",
	} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %q in\n%s", want, &stdout)
		}
	}
}
