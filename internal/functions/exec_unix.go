//go:build unix

package functions

import (
	"context"
	"errors"
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
}

// newGroup has the command start in a process group of its own, so that a signal
// reaches all that it starts, and a Ctrl-C at the worker's terminal does not:
// the worker then finishes what it holds.
func newGroup(cmd *exec.Cmd) *group {
	g := &group{cmd: cmd}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
	cmd.Cancel = func() error {
		if err := g.signal(syscall.SIGTERM); err != nil {
			return os.ErrProcessDone
		}
		g.told = time.Now()
		return nil
	}
	return g
}

// end is for after the command itself has ended: it kills what is left of its
// group, but leaves it killAfter if it was told to end. It polls, because nobody
// but its parent can wait for a process.
func (g *group) end(killAfter time.Duration) {
	if !g.told.IsZero() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for time.Since(g.told) < killAfter && g.signal(0) == nil {
			<-tick.C
		}
	}
	// The kernel does not give the group's number to another while one of its
	// processes lives; when none does, there is nothing to signal.
	_ = g.signal(syscall.SIGKILL)
}

func (g *group) signal(s syscall.Signal) error {
	if g.cmd.Process == nil || g.cmd.Process.Pid <= 1 {
		return errors.New("no process") // never signal group 0 or -1: that is us, or everybody
	}
	return syscall.Kill(-g.cmd.Process.Pid, s)
}
