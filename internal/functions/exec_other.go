//go:build !unix

package functions

import (
	"context"
	"os/exec"
	"time"
)

func shell(ctx context.Context, command string) *exec.Cmd {
	return exec.CommandContext(ctx, "cmd", "/C", command)
}

// group does nothing: there are no process groups here, and the end of ctx kills
// the shell.
type group struct{}

func newGroup(*exec.Cmd) *group { return &group{} }

func (*group) end(time.Duration) {}
