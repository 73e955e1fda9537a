package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestLimitsChangeWhileItRuns: SIGHUP puts a changed file in force; one that is wrong
// changes nothing, and the balancer goes on.
func TestLimitsChangeWhileItRuns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "balancer.yaml")
	write := func(limit string) {
		t.Helper()
		text := fmt.Sprintf("legacy-clients: ''\nlegacy-workers: ''\nstore: 'memory:'\nmax-function-queued-tasks: %s\n", limit)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("1")
	b := startBalancer(t, "--config", path, "--legacy-clients", "", "--store", "memory:")
	queued := func(n int64) {
		t.Helper()
		b.eventually(fmt.Sprint(n, " tasks are queued"), func() bool { return b.info().GetQueued() == n })
	}
	refused := func() {
		t.Helper()
		if s := <-submit(t.Context(), b.conn, "f", "x"); status.Code(s.err) != codes.ResourceExhausted {
			t.Fatalf("%v, %v; want it to be refused", s.resp, s.err)
		}
	}
	submit(t.Context(), b.conn, "f", "x")
	queued(1)
	refused()

	write("3")
	b.signal(syscall.SIGHUP)
	b.waitLine(`a key has changed.*key=max-function-queued-tasks from=1 to=3`)
	submit(t.Context(), b.conn, "f", "x")
	submit(t.Context(), b.conn, "f", "x")
	queued(3)
	refused()
	if got := b.info().GetLimits().GetMaxFunctionQueuedTasks(); got != 3 {
		t.Errorf("the balancer tells a limit of %d", got)
	}

	write("many")
	b.signal(syscall.SIGHUP)
	b.waitLine(`nothing has changed.*balancer.yaml:4: max-function-queued-tasks: .*many`)
	queued(3)

	write("1\naddress-tasks: -1")
	b.signal(syscall.SIGHUP)
	b.waitLine(`nothing has changed.*--address-tasks is -1; give 0 or more`)

	write("1\nheartbeat: 5s")
	b.signal(syscall.SIGHUP)
	b.waitLine(`needs a restart" key=heartbeat running=10s configured=5s`)
	queued(3) // what is here stays
	refused()
}

// TestAWorkerGoesOnAfterSIGHUP: it reads its file again, and nothing is cut off.
func TestAWorkerGoesOnAfterSIGHUP(t *testing.T) {
	path := filepath.Join(t.TempDir(), "worker.yaml")
	if err := os.WriteFile(path, []byte("slots: 2\nlog-level: info\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := startBalancer(t)
	w := startWorker(t, b, "w", "--config", path)
	if got := b.worker("w").GetSlots(); got != 2 {
		t.Fatalf("the worker has %d slots; its file says 2", got)
	}
	if err := os.WriteFile(path, []byte("slots: 3\nlog-level: debug\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.signal(syscall.SIGHUP)
	w.waitLine(`key=log-level from=info to=debug`)
	w.waitLine(`needs a restart" key=slots running=2 configured=3`)
	if out := outcome(t, submit(t.Context(), b.conn, "sum", "1,2")); !strings.Contains(out.String(), `"3"`) {
		t.Errorf("%v", out)
	}
}
