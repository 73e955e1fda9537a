package functions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"reparto/worker"
)

// exitRetry is EX_TEMPFAIL of sysexits.h: the command asks for another attempt.
const exitRetry = 75

// Reasons of failures that come from a command.
const (
	reasonExitStatus     = "EXIT_STATUS"
	reasonExecFailed     = "EXEC_FAILED"
	reasonResultTooLarge = "RESULT_TOO_LARGE"
)

// ExecOptions tune a command that is a function. The zero value works; negative
// values mean the default too.
type ExecOptions struct {
	// KillAfter is how long a command that was told to end (SIGTERM) may go on
	// before it is killed (SIGKILL), and how long what it left in the background
	// may keep its output open. Default 5 s.
	KillAfter time.Duration
	// MaxOutput is how many bytes of standard output make a result. A command
	// that writes more is ended, and its task fails with RESULT_TOO_LARGE.
	// Default 4 MiB, the balancer's own limit.
	MaxOutput int
	// MaxLog is how many bytes of standard error are logged for each task; what
	// comes after is read and dropped, and counted in one line. Default 64 KiB.
	MaxLog int
	// Log gets standard error, a line at a time, at INFO. Nil: dropped.
	Log *slog.Logger
}

func (o ExecOptions) complete() ExecOptions {
	if o.KillAfter <= 0 {
		o.KillAfter = 5 * time.Second
	}
	if o.MaxOutput <= 0 {
		o.MaxOutput = 4 << 20
	}
	if o.MaxLog <= 0 {
		o.MaxLog = 64 << 10
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// ParseExec takes a NAME=COMMAND apart, as it comes from a command line. Whether
// NAME may name a function is not checked here.
func ParseExec(spec string) (name, command string, err error) {
	name, command, ok := strings.Cut(spec, "=")
	name, command = strings.TrimSpace(name), strings.TrimSpace(command)
	if !ok || name == "" || command == "" {
		return "", "", fmt.Errorf("%q is not NAME=COMMAND; give a function and what runs it, such as rev=rev or words='wc -w'", spec)
	}
	if strings.ContainsRune(command, 0) {
		return "", "", fmt.Errorf("the command of %q has a zero byte in it", name)
	}
	return name, command, nil
}

// Exec makes a command a function. The shell (/bin/sh -c; cmd /C on Windows)
// runs it once for each task, so that pipes and quotes work as at a prompt.
//
// The payload is its standard input, and its standard output, byte for byte, is
// the result. A command that does not read its input is fine. Standard error
// goes to the log. In its environment are REPARTO_TASK_ID, REPARTO_FUNCTION and
// REPARTO_ATTEMPT.
//
// Exit status 0 is a result; 75 is a failure that asks for another attempt; any
// other is the end of the task. The failure's message is the last line of
// standard error, its reason EXIT_STATUS. A command that can't be started at
// all asks for another attempt, perhaps elsewhere: reason EXEC_FAILED.
//
// The command runs in a process group of its own. When ctx ends, the group gets
// SIGTERM, and SIGKILL after KillAfter. What a command leaves running in its
// group is killed when it has ended: nothing outlives its task. Where there are
// no process groups (Windows), only the shell itself is killed, at once.
func Exec(command string, o ExecOptions) worker.Handler {
	o = o.complete()
	return func(ctx context.Context, t worker.Task) ([]byte, error) {
		return o.run(ctx, command, t)
	}
}

func (o ExecOptions) run(ctx context.Context, command string, t worker.Task) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stdout := &resultWriter{limit: o.MaxOutput, overflow: cancel}
	stderr := &lineLogger{ctx: ctx, room: o.MaxLog, log: o.Log.With("task_id", t.ID, "function", t.Function, "attempt", t.Attempt)}

	cmd := shell(ctx, command)
	cmd.Stdin = bytes.NewReader(t.Payload)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.Env = append(os.Environ(),
		"REPARTO_TASK_ID="+t.ID, "REPARTO_FUNCTION="+t.Function, "REPARTO_ATTEMPT="+strconv.Itoa(t.Attempt))
	// Wait allows this much time for what comes after ctx's end or the command's
	// own: then it kills the shell and closes the pipes, which ends the copying.
	cmd.WaitDelay = o.KillAfter
	group, err := newGroup(cmd)
	if err != nil {
		return nil, notStarted(ctx, err)
	}
	started := time.Now()
	if err := cmd.Start(); err != nil {
		group.end(0)
		return nil, notStarted(ctx, err)
	}
	err = cmd.Wait()
	group.end(o.KillAfter)
	stderr.close()
	o.Log.Debug("command ended", "task_id", t.ID, "function", t.Function, "status", cmd.ProcessState.String(), "took", time.Since(started))
	return o.judge(ctx, cmd.ProcessState.ExitCode(), err, stdout, stderr)
}

// notStarted asks for another attempt: what this machine lacks now, another or
// the same may have later.
func notStarted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return worker.Retry(worker.Fail(reasonExecFailed, fmt.Errorf("the command did not start: %w", err)), 0)
}

// judge turns the way a command ended into what its task gets.
func (o ExecOptions) judge(ctx context.Context, status int, err error, stdout *resultWriter, stderr *lineLogger) ([]byte, error) {
	switch {
	case stdout.full:
		return nil, worker.Fail(reasonResultTooLarge, fmt.Errorf("the command wrote more than %d bytes to its standard output", o.MaxOutput))
	case err == nil, status == 0 && errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil:
		// A command that left something behind that kept its output open has
		// still said all that it had to say.
		return stdout.b, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	text := stderr.last
	if text == "" {
		text = err.Error() // exit status 3, signal: killed
	}
	failure := worker.Fail(reasonExitStatus, errors.New(text))
	if status == exitRetry {
		failure = worker.Retry(failure, 0)
	}
	return nil, failure
}
