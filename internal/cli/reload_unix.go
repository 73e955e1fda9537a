//go:build unix

package cli

import (
	"os"
	"os/signal"
	"syscall"
)

// hangups is where SIGHUP arrives, until the function is called.
func hangups() (<-chan os.Signal, func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}
