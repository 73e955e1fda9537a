//go:build unix

package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// TestProcess is no test: it is the program that the tests below start.
func TestProcess(t *testing.T) {
	mode := os.Getenv("CLI_TEST_PROCESS")
	if mode == "" {
		t.Skip("run by others")
	}
	os.Exit(Main(func(ctx context.Context, _ []string, _ io.Reader, stdout, stderr io.Writer) int {
		fmt.Fprintln(stderr, "up")
		if mode == "pipe" {
			for {
				if _, err := fmt.Fprintln(stdout, "line"); err != nil {
					fmt.Fprintln(stderr, "closed", IsClosedOutput(err))
					return 7
				}
			}
		}
		<-ctx.Done()
		fmt.Fprintln(stderr, "ending")
		if mode == "deaf" {
			select {}
		}
		return 5
	}))
}

func process(t *testing.T, mode string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProcess$")
	cmd.Env = append(os.Environ(), "CLI_TEST_PROCESS="+mode)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if mode == "pipe" {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdout = w
		defer w.Close()
		defer r.Close() // so that nobody reads
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	says(t, lines, "up")
	return cmd, lines
}

func says(t *testing.T, lines *bufio.Scanner, want string) {
	t.Helper()
	if !lines.Scan() || lines.Text() != want {
		t.Fatalf("it says %q, want %q", lines.Text(), want)
	}
}

func TestASignalEndsTheContext(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd, lines := process(t, "waits")
		_ = cmd.Process.Signal(s)
		says(t, lines, "ending")
		if err := cmd.Wait(); err == nil || err.Error() != "exit status 5" {
			t.Errorf("after %v: %v", s, err)
		}
	}
}

func TestASecondSignalEndsAtOnce(t *testing.T) {
	cmd, lines := process(t, "deaf")
	_ = cmd.Process.Signal(syscall.SIGTERM)
	says(t, lines, "ending")
	_ = cmd.Process.Signal(syscall.SIGINT)
	if err := cmd.Wait(); err == nil || err.Error() != "exit status 130" {
		t.Errorf("got %v", err)
	}
}

func TestClosedOutputIsAnErrorAndNoSignal(t *testing.T) {
	cmd, lines := process(t, "pipe")
	says(t, lines, "closed true")
	if err := cmd.Wait(); err == nil || err.Error() != "exit status 7" {
		t.Errorf("got %v", err)
	}
}
