package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"reparto/client"
	"reparto/internal/classic"
	"reparto/internal/cli"
)

const submitLong = `submit hands tasks to a balancer and prints their results, one to a line and in
the order in which the tasks were given. Each PAYLOAD is a task, and all are
under way at once. With - as the only PAYLOAD, each line of standard input is a
task; up to --window of them are under way at a time, so input may be endless.

Flags go before FUNCTION. Everything after it is payload, so that negative
numbers need no care; what would be a flag before it needs -- in between:
  client submit echo -- --timeout

A task that fails prints ERROR: and its message in its place, so that lines keep
matching, and "task N: ..." on standard error; the others go on. A result that
ends with a line feed gets no second one; one with line feeds inside prints as
it is: use --output json where lines must match.

--log classic prints the lines of the old client instead of bare results.

Exit codes: 0 every task has its result, 1 a task failed, 2 wrong usage, 3 no
connection to the balancer, 130 interrupted. When nobody reads the output any
more, as behind head, submit ends quietly and cancels what is under way.`

const submitExamples = `  client submit sum 1,2,3,4,5
  client submit sum 1,2 -3,4 5,6
  seq 1 100000 | client submit sum -
  client submit --timeout 5s --fail-fast --output json sleep 250ms
  client submit --balancer balancer.example:9090 --metadata room=7 echo hello`

// submitFlags are what the command line says.
type submitFlags struct {
	balancer       cli.Peer
	connectTimeout time.Duration
	timeout        time.Duration
	attemptTimeout time.Duration
	maxAttempts    int
	id             string
	metadata       cli.Pairs
	failFast       bool
	idempotent     bool
	window         int
	windowBytes    int
	output         cli.Choice
	log            *cli.Log
}

func newSubmit() *cobra.Command {
	f := submitFlags{output: cli.Choice{Value: "text", Allowed: []string{"text", "json"}}}
	c := &cobra.Command{
		Use:     "submit [flags] FUNCTION PAYLOAD...",
		Short:   "Have tasks done, and print their results",
		Long:    submitLong,
		Example: submitExamples,
		Args: func(_ *cobra.Command, args []string) error {
			_, _, err := split(args)
			return err
		},
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return cli.Exit(cli.Usage, err)
			}
			function, payloads, err := split(args)
			if err != nil {
				return cli.Exit(cli.Usage, err)
			}
			return f.submit(c.Context(), function, payloads, c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr())
		},
		DisableFlagsInUseLine: true,
	}
	s := c.Flags()
	s.SetInterspersed(false)
	s.SortFlags = false
	f.balancer.AddFlags(s)
	s.DurationVar(&f.connectTimeout, "connect-timeout", 5*time.Second, "how long to try to reach the balancer")
	s.DurationVar(&f.timeout, "timeout", 0, "how long a task may take in all, 1ms to 24h (default the balancer's, 5m)")
	s.DurationVar(&f.attemptTimeout, "attempt-timeout", 0, "how long one attempt at a task may take (default no limit but --timeout)")
	s.IntVar(&f.maxAttempts, "max-attempts", 0, "how many attempts may fail and ask for another, 1 to 100 (default the balancer's, 3)")
	s.StringVar(&f.id, "id", "", "the task's id: the same id with the same content is the same task; with several tasks they are `ID`-1, ID-2, ...")
	s.Var(&f.metadata, "metadata", "travels with each task to its worker; may be repeated")
	s.BoolVar(&f.failFast, "fail-fast", false, "fail instead of waiting when no worker offers the function")
	s.BoolVar(&f.idempotent, "idempotent", false, "the task may run twice without harm: submit it again when the connection breaks")
	s.IntVar(&f.window, "window", 1024, "how many tasks may be under way, or wait for an earlier one's result, 1 to 65536")
	s.IntVar(&f.windowBytes, "window-bytes", 64<<20, "how many bytes of payloads and results these may have; one task may always go")
	s.Var(&f.output, "output", "text, or json: an object to a line with task_id, function, text or result (base64), error, attempt, worker_id")
	f.log = cli.AddLogFlags(s, slog.LevelWarn)
	return c
}

// split takes the function and the payloads out of the arguments.
func split(args []string) (function string, payloads []string, err error) {
	if len(args) > 0 {
		function, payloads = args[0], args[1:]
	}
	literal := len(payloads) > 0 && payloads[0] == "--"
	if literal {
		payloads = payloads[1:]
	}
	if function == "" || len(payloads) == 0 {
		return "", nil, fmt.Errorf("needs FUNCTION and at least one PAYLOAD, or - for standard input, such as: sum 1,2,3")
	}
	if literal {
		return function, payloads, nil
	}
	for _, p := range payloads {
		switch {
		case p == "-" && len(payloads) > 1:
			return "", nil, fmt.Errorf("- for standard input must be the only PAYLOAD; there are %d", len(payloads))
		case len(p) > 2 && p[:2] == "--":
			return "", nil, fmt.Errorf("%q comes after FUNCTION; flags go before it, and -- before payloads that look like flags", p)
		}
	}
	return function, payloads, nil
}

// check says what is wrong, in the words of the command line. What a task may
// ask for beyond that is the balancer's to judge.
func (f *submitFlags) check() error {
	if err := f.balancer.Check(); err != nil {
		return err
	}
	const day = 24 * time.Hour
	switch {
	case f.connectTimeout <= 0:
		return fmt.Errorf("--connect-timeout is %v; give more than 0", f.connectTimeout)
	case f.timeout != 0 && (f.timeout < time.Millisecond || f.timeout > day):
		return fmt.Errorf("--timeout is %v; give 1ms to 24h", f.timeout)
	case f.attemptTimeout != 0 && (f.attemptTimeout < time.Millisecond || f.attemptTimeout > day):
		return fmt.Errorf("--attempt-timeout is %v; give 1ms to 24h", f.attemptTimeout)
	case f.maxAttempts < 0 || f.maxAttempts > 100:
		return fmt.Errorf("--max-attempts is %d; give 1 to 100", f.maxAttempts)
	case f.window < 1 || f.window > 65536:
		return fmt.Errorf("--window is %d; give 1 to 65536", f.window)
	case f.windowBytes < 1:
		return fmt.Errorf("--window-bytes is %d; give at least 1", f.windowBytes)
	case f.output.Value == "json" && f.log.Classic():
		return fmt.Errorf("--output json and --log classic both want standard output; give one of them")
	}
	return nil
}

// submit has the tasks done, until all are or ctx ends.
func (f *submitFlags) submit(ctx context.Context, function string, payloads []string, stdin io.Reader, stdout, stderr io.Writer) error {
	out := &watched{w: stdout}
	log := f.log.Logger(out, stderr, classic.Options{Role: classic.Client})
	conn, err := connect(ctx, &f.balancer, f.connectTimeout)
	if err != nil {
		if f.log.Classic() {
			log.Error("no connection", "error", err)
			return cli.Exit(cli.NoConnection, nil)
		}
		return err
	}
	defer func() { _ = conn.Close() }() // it was in use until here: there is nothing to fail
	log.Debug("connected", "address", f.balancer.Target)

	traces, err := cli.Traces(ctx, "client", log)
	if err != nil {
		return err
	}
	defer traces.Close()
	options := []client.Option{client.WithConnectTimeout(f.connectTimeout), client.WithTracerProvider(traces.Tracers())}
	if !f.log.Classic() {
		options = append(options, client.WithLog(log))
	}
	c := client.New(conn, options...)
	r := &submission{
		client: c, task: f.task(function), window: newWindow(f.window, f.windowBytes),
		log: log, debug: log.Enabled(ctx, slog.LevelDebug), classic: f.log.Classic(), ownIDs: f.id != "", id: f.id,
	}
	fromStdin := len(payloads) == 1 && payloads[0] == "-"
	show := newPrinter(out, stderr, f, function)
	show.bar = newBar(stdout, stderr, function, len(payloads), fromStdin)
	return r.run(ctx, source(payloads, fromStdin, stdin), show)
}

// task is what all tasks have in common.
func (f *submitFlags) task(function string) client.Task {
	return client.Task{
		Function: function, Metadata: f.metadata, Timeout: f.timeout, AttemptTimeout: f.attemptTimeout,
		MaxAttempts: f.maxAttempts, FailFast: f.failFast, Idempotent: f.idempotent,
	}
}
