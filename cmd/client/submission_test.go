package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"reparto/internal/cli"
	"reparto/worker"
)

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
	return strings.Join(slices.Sorted(strings.SplitSeq(s, "\n")), "\n")
}
