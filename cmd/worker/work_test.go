//go:build unix

package main

import (
	"net"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"reparto/internal/cli"
)

func TestWorkerOffersTheBuiltInFunctions(t *testing.T) {
	b := startBalancer(t, "127.0.0.1:0")
	p := start(t, "--balancer", b.address, "--id", "w1", "--label", "room=a b", "--slots", "3", "--prefetch", "2")
	if got := b.submit(t, "sum", "1,2,3,4,5"); string(got.GetResult()) != "15" || got.GetWorkerId() != "w1" {
		t.Errorf("got %v", got)
	}
	if w := b.workers(t); len(w) != 1 || strings.Join(w[0].GetFunctions(), " ") != "echo sleep sum" || w[0].GetSlots() != 5 || w[0].GetLabels()["room"] != "a b" || w[0].GetBuild() != cli.ShortVersion() {
		t.Errorf("got %v", w)
	}
	eventually(t, "it says that it is registered", func() bool { return strings.Contains(p.stderr.String(), "msg=registered") })
	if code := p.stop(); code != cli.OK {
		t.Errorf("exit code %d", code)
	}
	if out := p.stdout.String(); out != "" {
		t.Errorf("standard output has %q", out)
	}
}

func TestWorkerNamesItself(t *testing.T) {
	b := startBalancer(t, "127.0.0.1:0")
	start(t, "-b", b.address)
	eventually(t, "it is there", func() bool { return len(b.workers(t)) == 1 })
	if id := b.workers(t)[0].GetWorkerId(); !regexp.MustCompile(`^worker_[0-9a-f]{8}$`).MatchString(id) {
		t.Errorf("it is called %q", id)
	}
}

func TestWorkerRunsCommands(t *testing.T) {
	b := startBalancer(t, "127.0.0.1:0")
	p := start(t, "--balancer", b.address, "--exec", "rev=rev", "--exec", "fail=echo the disk is full >&2; exit 3",
		"--exec", "later=exit 75", "--exec", "who=printf %s/%s/%s $REPARTO_TASK_ID $REPARTO_FUNCTION $REPARTO_ATTEMPT", "--exec", "big=head -c 21 /dev/zero", "--max-output", "20")
	if got := b.submit(t, "rev", "abc"); strings.TrimSpace(string(got.GetResult())) != "cba" {
		t.Errorf("rev: got %v", got)
	}
	if w := b.workers(t); strings.Join(w[0].GetFunctions(), " ") != "big fail later rev who" || int(w[0].GetSlots()) != runtime.GOMAXPROCS(0) {
		t.Errorf("it offers %v, %d at once", w[0].GetFunctions(), w[0].GetSlots())
	}
	if f := b.submit(t, "fail", "x").GetFailure(); f.GetReason() != "EXIT_STATUS" || f.GetMessage() != "the disk is full" || f.GetRetry() {
		t.Errorf("fail: got %v", f)
	}
	if f := b.submit(t, "later", "x").GetFailure(); f.GetReason() != "EXIT_STATUS" || f.GetMessage() != "exit status 75" || !f.GetRetry() {
		t.Errorf("later: got %v", f)
	}
	if f := b.submit(t, "big", "x").GetFailure(); f.GetReason() != "RESULT_TOO_LARGE" {
		t.Errorf("big: got %v", f)
	}
	if got := b.submit(t, "who", "x"); string(got.GetResult()) != "task_who/who/1" {
		t.Errorf("who: got %q", got.GetResult())
	}
	if !strings.Contains(p.stderr.String(), `line="the disk is full"`) {
		t.Errorf("standard error is not in the log: %s", &p.stderr)
	}
}

func TestWorkerOffersBothWhenAsked(t *testing.T) {
	b := startBalancer(t, "127.0.0.1:0")
	start(t, "--balancer", b.address, "--exec", "rev=rev", "--builtin")
	eventually(t, "it is there", func() bool { return len(b.workers(t)) == 1 })
	if w := b.workers(t); strings.Join(w[0].GetFunctions(), " ") != "echo rev sleep sum" {
		t.Errorf("it offers %v", w[0].GetFunctions())
	}
}

func TestWorkerOffersOnlyWhatItIsTold(t *testing.T) {
	b := startBalancer(t, "127.0.0.1:0")
	start(t, "--balancer", b.address, "--functions", "sum,echo")
	eventually(t, "it is there", func() bool { return len(b.workers(t)) == 1 })
	if w := b.workers(t); strings.Join(w[0].GetFunctions(), " ") != "echo sum" {
		t.Errorf("it offers %v", w[0].GetFunctions())
	}
}

func TestWorkerFinishesWhatItHolds(t *testing.T) {
	b := startBalancer(t, "127.0.0.1:0")
	dir := t.TempDir()
	p := start(t, "--balancer", b.address, "--exec", "slow=echo 1 > "+dir+"/ready; until [ -e "+dir+"/go ]; do sleep 0.02; done; echo done")
	result := make(chan string, 1)
	go func() { result <- string(b.submit(t, "slow", "x").GetResult()) }()
	eventually(t, "it runs", func() bool { _, err := os.Stat(dir + "/ready"); return err == nil })
	code := make(chan int, 1)
	go func() { code <- p.stop() }()
	eventually(t, "it is leaving", func() bool { w := b.workers(t); return len(w) == 1 && w[0].GetDraining() })
	if err := os.WriteFile(dir+"/go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := <-result; got != "done\n" {
		t.Errorf("got %q", got)
	}
	if c := <-code; c != cli.OK {
		t.Errorf("exit code %d", c)
	}
}

func TestWorkerWaitsForItsBalancer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	p := start(t, "--balancer", address)
	eventually(t, "it says that nobody is there", func() bool {
		return strings.Contains(p.stderr.String(), "no connection") && strings.Contains(p.stderr.String(), "retry_in=")
	})
	b := startBalancer(t, address)
	if got := b.submit(t, "echo", "hi"); string(got.GetResult()) != "hi" {
		t.Errorf("got %v", got)
	}
	if code := p.stop(); code != cli.OK {
		t.Errorf("exit code %d", code)
	}
}

func TestWorkerThatNeverFoundItsBalancerStops(t *testing.T) {
	p := start(t, "--balancer", "127.0.0.1:1")
	eventually(t, "it tries", func() bool { return strings.Contains(p.stderr.String(), "no connection") })
	if code := p.stop(); code != cli.OK {
		t.Errorf("exit code %d", code)
	}
}

func TestClassicWorkerLines(t *testing.T) {
	b := startBalancer(t, "127.0.0.1:0")
	p := start(t, "--balancer", b.address, "--id", "worker_abc123", "--log", "classic")
	if got := b.submit(t, "sum", " 1,+2,3,4,5"); string(got.GetResult()) != "15" {
		t.Errorf("got %v", got)
	}
	eventually(t, "it has sent the result", func() bool { return strings.Contains(p.stdout.String(), "enviado") })
	if code := p.stop(); code != cli.OK {
		t.Errorf("exit code %d", code)
	}
	want := `[WORKER worker_abc123] Conectado al balanceador en ` + b.address + `
[WORKER worker_abc123] Registrado como disponible
[WORKER worker_abc123] Registro confirmado por balanceador
[WORKER worker_abc123] Listo para procesar tareas
[WORKER worker_abc123] Tarea recibida: task_sum, datos:  1,+2,3,4,5
[WORKER worker_abc123] Tarea procesada: suma de [1, 2, 3, 4, 5] = 15
[WORKER worker_abc123] Resultado enviado para tarea task_sum
[WORKER worker_abc123] Desconectado
`
	if p.stdout.String() != want || p.stderr.String() != "" {
		t.Errorf("it shows\n%s%s\nand not\n%s", &p.stdout, &p.stderr, want)
	}
}

func TestClassicWorkerSaysWhatWentWrong(t *testing.T) {
	b := startBalancer(t, "127.0.0.1:0")
	// The balancer is gone before it may have acknowledged the result, which the
	// worker then tries to deliver for as long as it may drain.
	p := start(t, "--balancer", b.address, "--id", "w", "--log", "classic", "--drain-timeout", "1s")
	if got := b.submit(t, "sum", "1,abc"); got.GetFailure().GetMessage() != "invalid literal for int() with base 10: 'abc'" {
		t.Errorf("got %v", got)
	}
	eventually(t, "the line is there", func() bool {
		return strings.Contains(p.stdout.String(), "[WORKER w] Error procesando tarea: invalid literal for int() with base 10: 'abc'\n")
	})
	b.stop()
	eventually(t, "the line is there", func() bool { return strings.Contains(p.stdout.String(), "[WORKER w] Conexión cerrada: ") })
}

// TestSeveralBalancers: it works for each, and goes on for the others when one goes
// away; one that refuses it for good ends it all.
func TestSeveralBalancers(t *testing.T) {
	one, two := startBalancer(t, "127.0.0.1:0"), startBalancer(t, "127.0.0.1:0")
	p := start(t, "--balancer", one.address, "--balancer", two.address, "--id", "w")
	for _, b := range []*balancer{one, two} {
		if got := b.submit(t, "sum", "1,2"); string(got.GetResult()) != "3" {
			t.Errorf("balancer %s: %v", b.address, got)
		}
	}
	one.stop()
	two.submit(t, "echo", "x")
	startBalancer(t, one.address).submit(t, "echo", "x") // it is back there too
	if code := p.stop(); code != cli.OK {
		t.Errorf("it ended with %d", code)
	}
	same := start(t, "--balancer", one.address, "--balancer", "localhost:"+one.address[len("127.0.0.1:"):], "--id", "w")
	eventually(t, "it says that both are one", func() bool {
		return strings.Contains(same.stderr.String(), "balancer "+one.address+": ") || strings.Contains(same.stderr.String(), "balancer localhost:")
	})
	if code := same.stop(); code != cli.Failed {
		t.Errorf("as two workers under one name it ended with %d", code)
	}
}
