// Balancer takes tasks from clients, deals them round-robin to the workers that
// have dialled in, and brings each result back.
package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"reparto/internal/classic"
	"reparto/internal/cli"
	"reparto/internal/rpc"
	"reparto/internal/secure"
	"reparto/internal/server"
)

func main() { os.Exit(cli.Main(run)) }

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return cli.Run(ctx, newCommand(), args, stdin, stdout, stderr)
}

const long = `Balancer takes tasks from clients over gRPC, deals them round-robin to the
workers that have dialled in, and brings each result back. Programs that speak
the old text protocol are served too, on ports of their own.

SIGTERM or Ctrl-C makes it refuse new tasks, let running ones finish within
--drain-timeout, and exit 0 (1 if some had to be cut off). A second one ends it
at once. Exit codes: 3 a port is in use, 1 the store can't be opened.

Where other machines can connect it wants TLS (--tls-cert, --tls-key, and
--legacy-tls for the text ports), or --insecure. See docs/tls.md.`

const example = `  balancer
  balancer --grpc 0.0.0.0:9090 --tls-cert server.pem --tls-key server.key
  balancer --grpc 0.0.0.0:9090 --insecure --legacy-clients '' --legacy-workers ''
  balancer --log classic
  REPARTO_GRPC=localhost:7070 balancer`

func newCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "balancer", Short: "deal tasks to workers", Long: long, Example: example, Args: cobra.NoArgs,
	}
	var o server.Options
	var tls secure.Options
	log := addFlags(cmd, &o, &tls)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.Legacy.CheckFlags(); err != nil {
			return cli.Exit(cli.Usage, err)
		}
		o.Log = log.Logger(cmd.OutOrStdout(), cmd.ErrOrStderr(), classic.Options{Role: classic.LoadBalancer})
		o.RPC.Version = cli.ShortVersion()
		var err error
		if o.TLS, err = secure.Open(tls, o.Log); err != nil {
			return cli.Exit(cli.Usage, err)
		}
		if o.LegacyTLS && o.TLS == nil {
			return cli.Usagef("--legacy-tls needs --tls-cert and --tls-key")
		}
		o.HandshakeLimit = tls.HandshakeLimit
		traces, err := cli.Traces(cmd.Context(), "balancer", o.Log)
		if err != nil {
			return err
		}
		defer traces.Close()
		o.Dispatch.Tracer, o.Legacy.TracerProvider = traces.Balancer(), traces.Tracers()
		s, err := server.Listen(o)
		if err != nil {
			if _, network := errors.AsType[*net.OpError](err); !network && !errors.Is(err, server.ErrStore) {
				err = cli.Exit(cli.Usage, err)
			}
			return err
		}
		return serve(cmd.Context(), s, o.TLS)
	}
	return cmd
}

// serve runs s until ctx ends, and looks after the TLS files meanwhile.
func serve(ctx context.Context, s *server.Server, tls *secure.Server) error {
	looking, end := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { tls.Watch(looking) })
	err := s.Run(ctx)
	end()
	watching.Wait()
	return err
}

// addFlags binds every option that an operator may set. Sizes are bytes.
func addFlags(cmd *cobra.Command, o *server.Options, tls *secure.Options) *cli.Log {
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.Address, "grpc", cli.DefaultBalancer, "where to listen for gRPC")
	tls.AddFlags(f, "")
	f.BoolVar(&o.Insecure, "insecure", false, "allow ports without TLS where other machines can connect")
	o.Legacy.AddFlags(f)
	f.BoolVar(&o.LegacyTLS, "legacy-tls", false, "the text ports speak TLS too, with the same certificate and CA")
	f.DurationVar(&o.Legacy.TaskTimeout, "legacy-timeout", 24*time.Hour, "how long a text client's task may take in all, up to 24h")
	f.StringVar(&o.Auth, "auth", "", "file that says who may do what (YAML, see docs/auth.md); read again when it changes; without it everybody may do everything")
	f.StringVar(&o.LegacyPrincipal, "legacy-principal", "text", "with --auth: the principal that the text ports act for")
	f.DurationVar(&o.DrainTimeout, "drain-timeout", 30*time.Second, "how long running tasks may go on when asked to stop")

	d := &o.Dispatch
	f.StringVar(&o.Store, "store", "file:reparto-data", "where durable tasks are kept: file:DIRECTORY, or memory: for as long as the balancer runs")
	f.DurationVar(&d.DefaultTTL, "default-ttl", 7*24*time.Hour, "how long a durable task that names no time may take in all")
	f.DurationVar(&d.MaxTTL, "max-ttl", 366*24*time.Hour, "longest time to live that a durable task may name, and how far ahead it may be scheduled")
	f.DurationVar(&d.DefaultRetention, "default-retention", 24*time.Hour, "how long the outcome of a durable task that names no time is kept")
	f.DurationVar(&d.MaxRetention, "max-retention", 366*24*time.Hour, "longest retention that a durable task may name")
	f.DurationVar(&d.ClaimWindow, "claim-window", 5*time.Second, "how long a task that ran when the balancer stopped waits for its worker to come back")
	f.DurationVar(&d.DefaultTimeout, "default-timeout", 5*time.Minute, "time limit of a task that names none")
	f.DurationVar(&d.MaxTimeout, "max-timeout", 24*time.Hour, "longest time limit that a task may name")
	f.IntVar(&d.MaxPayload, "max-payload", 4<<20, "bytes in a payload or result")
	f.IntVar(&d.DefaultMaxAttempts, "max-attempts", 3, "attempts of a task that fails and asks for a retry, if it names no number")
	f.DurationVar(&d.Heartbeat, "heartbeat", 10*time.Second, "either side of a worker's stream speaks this often; a worker silent for three is gone")
	f.DurationVar(&d.SendLimit, "send-limit", 10*time.Second, "how long a peer may not read what is sent to it")
	b := &d.Balance
	f.IntVar(&b.MaxLost, "max-lost", 3, "workers that a task may lose before it has failed")
	f.IntVar(&b.MaxQueuedTasks, "max-queued-tasks", 1_000_000, "tasks that may wait, in all")
	f.IntVar(&b.MaxFunctionQueuedTasks, "max-function-queued-tasks", 100_000, "tasks that may wait for one function")
	f.IntVar(&b.MaxFunctionQueuedBytes, "max-function-queued-bytes", 256<<20, "bytes that may wait for one function")
	f.IntVar(&b.MaxBytes, "max-bytes", 1<<30, "bytes of all tasks that wait or run")
	f.IntVar(&b.MaxDurableTasks, "max-durable-tasks", 2_000_000, "durable tasks without an outcome")
	f.IntVar(&b.MaxResident, "max-resident", 32<<20, "bytes of durable tasks' payloads in memory; the others are read from disk in their turn")
	f.DurationVar(&b.Aging, "priority-aging", time.Minute, "what a step of priority is worth in time of waiting")
	f.DurationVar(&b.Backoff, "backoff", 100*time.Millisecond, "wait before the next attempt after the first that failed; it doubles with each further one")
	f.DurationVar(&b.MaxBackoff, "max-backoff", 10*time.Second, "longest such wait")
	f.DurationVar(&b.KeepFor, "keep-outcomes", time.Minute, "how long the outcome of a task with an id of its client's is kept")
	f.IntVar(&b.MaxKeptBytes, "max-kept-bytes", 64<<20, "bytes of the outcomes that are kept")
	f.IntVar(&o.RPC.MaxInFlight, "max-in-flight", 65536, "tasks without an outcome on one client stream")
	f.IntVar(&o.RPC.MaxOutbox, "max-outbox", 256<<20, "bytes of outcomes that may wait for a client that reads slowly")
	f.DurationVar(&o.RPC.TextPeersFor, "text-peers-for", 7*24*time.Hour, "how long it is remembered, in memory, who spoke the text protocol (see 'client legacy'), since last seen")
	addLimits(f, &o.RPC)
	return cli.AddLogFlags(f, slog.LevelInfo)
}

// addLimits binds what one principal and one address may do. 0 is no bound.
func addLimits(f *pflag.FlagSet, o *rpc.Options) {
	p, a := &o.PrincipalLimits, &o.AddressLimits
	f.IntVar(&p.TasksInFlight, "principal-tasks", 0, "with --auth: tasks without an outcome that a principal may have; 0 is half of --max-queued-tasks")
	f.Int64Var(&p.QueuedBytes, "principal-bytes", 0, "with --auth: bytes in them; 0 is half of --max-bytes")
	f.Float64Var(&p.TasksPerSecond, "principal-rate", 0, "with --auth: tasks a second that a principal may bring; 0 is no limit")
	f.IntVar(&p.Burst, "principal-burst", 0, "tasks that it may bring at once; 0 is a second's worth")
	f.IntVar(&p.Streams, "principal-streams", 0, "with --auth: streams that a principal may have open; 0 is no limit")
	f.IntVar(&p.Connections, "principal-connections", 0, "with --auth: connections that a principal may call on at a time; 0 is no limit")
	f.IntVar(&a.Connections, "address-connections", 0, "connections from one address; 0 is no limit (all peers of a proxy have one address)")
	f.IntVar(&a.Streams, "address-streams", 0, "streams from one address; 0 is no limit")
	f.IntVar(&a.TasksInFlight, "address-tasks", 0, "tasks that calls from one address may wait for; 0 is no limit")
	f.Int64Var(&a.QueuedBytes, "address-bytes", 0, "bytes in them; 0 is no limit")
	f.Float64Var(&a.TasksPerSecond, "address-rate", 0, "tasks a second from one address; 0 is no limit")
	f.IntVar(&a.Burst, "address-burst", 0, "tasks that one address may bring at once; 0 is a second's worth")
	f.IntVar(&o.MaxStreams, "max-streams", 16384, "calls that one connection may have open")
}
