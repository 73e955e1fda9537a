// Command worker does the work that a balancer deals out: with the built-in
// functions, or with any command (--exec).
package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"reparto/internal/cli"
)

func main() { os.Exit(cli.Main(run)) }

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return cli.Run(ctx, newCommand(), args, stdin, stdout, stderr)
}

// flags are what the command line says.
type flags struct {
	balancers    cli.Peers
	id           string
	slots        int
	prefetch     int
	execs        []string
	builtin      bool
	functions    []string
	drainTimeout time.Duration
	killAfter    time.Duration
	maxOutput    int
	labels       cli.Pairs
	log          *cli.Log
}

const long = `worker dials a balancer, says what it can do, and does the tasks it is given,
several at once. It opens no port. When the balancer is away, it waits and
dials again. With several --balancer it works for each of them, with all its
--slots for each; when one of them refuses it for good, it leaves them all. SIGINT or SIGTERM lets it finish what it holds; a second one ends
it at once.

Without --exec it offers the built-in functions:
  sum    adds integers of any size: 1,2,3,4,5 gives 15
  echo   gives its input back
  sleep  waits for a duration such as 250ms

With --exec NAME=COMMAND it offers NAME, done by COMMAND: the shell runs it for
each task, with the task's payload as standard input. Its standard output is the
result; its standard error goes to the log. Exit status 0 is a result, 75 asks
for another attempt, any other is a failure, whose message is the last line of
standard error. The environment has REPARTO_TASK_ID, REPARTO_FUNCTION and
REPARTO_ATTEMPT. When the task is cancelled or its time is up, the command and
all that it started get SIGTERM, and SIGKILL 5 s later.

Every flag may come from the environment instead, from the variable in brackets;
a flag that can be repeated is then one to a line.

Exit codes: 0 asked to stop and finished, 1 something failed or was left behind,
2 wrong usage.`

const examples = `  worker
  worker --balancer balancer.example:9090 --tls-ca ca.pem --slots 8
  worker --balancer one.example:9090 --balancer two.example:9090 --tls
  worker --exec 'rev=rev' --exec 'words=tr -s " " "\n" | wc -l'
  worker --exec 'thumbnail=convert - -resize 200x png:-' --slots 2 --label room=gpu
  worker --log classic`

func newCommand() *cobra.Command {
	c, _ := newFlags()
	return c
}

func newFlags() (*cobra.Command, *flags) {
	f := &flags{}
	c := &cobra.Command{
		Use:     "worker [flags]",
		Short:   "Do the tasks that a balancer deals out",
		Long:    long,
		Example: examples,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return f.work(c)
		},
	}
	s := c.Flags()
	s.SortFlags = false
	cli.AddConfigFlags(s)
	f.balancers.AddFlags(s)
	s.StringVar(&f.id, "id", "", "this worker's name; no two may have the same (default worker_ and 8 hexadecimal digits)")
	s.IntVar(&f.slots, "slots", 0, "how many tasks at once, 1 to 65536, for each balancer (default 512, but as many as CPUs with --exec)")
	s.IntVar(&f.prefetch, "prefetch", 0, "how many more tasks to hold ready; for very short tasks")
	s.StringArrayVar(&f.execs, "exec", nil, "offer `NAME=COMMAND`; may be repeated")
	s.BoolVar(&f.builtin, "builtin", false, "with --exec, offer the built-in functions too")
	s.StringSliceVar(&f.functions, "functions", nil, "offer only these, with commas between them: of the built-in ones, e.g. where the balancer lets this worker do no others")
	s.DurationVar(&f.drainTimeout, "drain-timeout", 30*time.Second, "how long to finish what it holds once it is to stop; 0: no limit")
	s.DurationVar(&f.killAfter, "kill-after", 5*time.Second, "how long after SIGTERM a command gets SIGKILL")
	s.IntVar(&f.maxOutput, "max-output", 4<<20, "the most bytes that a command may write as its result")
	s.Var(&f.labels, "label", "shown to operators; may be repeated")
	f.log = cli.AddLogFlags(s, slog.LevelInfo)
	return c, f
}

// reloadable are the keys that SIGHUP puts in force.
var reloadable = []string{"log-level"}

// fresh are the flags anew, for cli.Reloader.
func (f *flags) fresh() (*cobra.Command, func() error) {
	c, fresh := newFlags()
	return c, func() error {
		f.log.SetLevel(fresh.log)
		return nil
	}
}
