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

func newGroup(*exec.Cmd) (*group, error) { return &group{}, nil }

func (*group) end(time.Duration) {}
