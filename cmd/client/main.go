// Command client is the command line for whoever has work to be done.
package main

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"

	"reparto/internal/cli"
)

func main() { os.Exit(cli.Main(run)) }

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return cli.Run(ctx, newCommand(), args, stdin, stdout, stderr)
}

func newCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "client",
		Short: "Have work done by the workers of a balancer",
		Example: `  client submit sum 1,2,3,4,5
  client wait $(client enqueue sum 1,2,3,4,5)
  client submit --help`,
	}
	c.AddCommand(newSubmit(), newEnqueue(), newWait(), newGet(), newList(), newCancel(), newRetry(), newExplain(),
		newHealth(), newTop(), newWorkers(), newFunctions(), newPause(), newResume(), newDrain(), newLegacy(), newDoctor(), newToken())
	return c
}
