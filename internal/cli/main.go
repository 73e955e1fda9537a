package cli

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Main calls run as a process does and returns what to exit with. SIGINT and
// SIGTERM end the context; a second one ends the process at once, with the code
// Interrupted. Output that nobody reads is an error of the write (see
// IsClosedOutput) and no signal. It is called once, by main.
func Main(run func(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int) int {
	TuneGC()
	// Notify and not Ignore: what is ignored stays ignored in the commands that a
	// worker runs. Nobody reads the channel; a full one drops.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // until the process ends
		<-signals
		cancel()
		<-signals
		os.Exit(Interrupted)
	}()
	return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}
