//go:build unix

package functions

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

func shell(ctx context.Context, command string) *exec.Cmd {
	return exec.CommandContext(ctx, "/bin/sh", "-c", command)
}

// group is the process group of one command, which it is the leader of.
type group struct {
	cmd *exec.Cmd
	// told is when the group was told to end; zero when it was not. It is written
	// before cmd.Wait returns and read after.
	told time.Time
	// inherited is held open by all that the command starts, alive is its other
	// end: reading that ends when the last of them has ended. Asking the kernel
	// about the group would not do: what has ended and was not collected still
	// counts there, and in a container perhaps nobody collects.
	inherited, alive *os.File
}

// newGroup has the command start in a process group of its own, so that a signal
// reaches all that it starts, and a Ctrl-C at the worker's terminal does not:
// the worker then finishes what it holds. Its end must be called.
func newGroup(cmd *exec.Cmd) (*group, error) {
	alive, inherited, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	g := &group{cmd: cmd, inherited: inherited, alive: alive}
	cmd.ExtraFiles = []*os.File{inherited}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
	cmd.Cancel = func() error {
		if err := g.signal(syscall.SIGTERM); err != nil {
			return os.ErrProcessDone
		}
		g.told = time.Now()
		return nil
	}
	return g, nil
}

// end is for after the command itself has ended, or was not started: it kills
// what is left of its group, but leaves it killAfter if it was told to end.
func (g *group) end(killAfter time.Duration) {
	_ = g.inherited.Close()
	if !g.told.IsZero() && g.alive.SetReadDeadline(g.told.Add(killAfter)) == nil {
		_, _ = io.Copy(io.Discard, g.alive) // until the deadline or the last of them
	}
	// The kernel does not give the group's number to another while one of its
	// processes lives; when none does, there is nothing to signal.
	_ = g.signal(syscall.SIGKILL)
	_ = g.alive.Close()
}

func (g *group) signal(s syscall.Signal) error {
	if g.cmd.Process == nil || g.cmd.Process.Pid <= 1 {
		return errors.New("no process") // never signal group 0 or -1: that is us, or everybody
	}
	return syscall.Kill(-g.cmd.Process.Pid, s)
}
