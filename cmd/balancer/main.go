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

SIGHUP reads the file of --config again, and puts limits and the level of the log
in force; what else has changed there is named in the log, and needs a restart.

Where other machines can connect it wants TLS (--tls-cert, --tls-key, and
--legacy-tls for the text ports), or --insecure. See docs/tls.md.`

const example = `  balancer
  balancer --grpc 0.0.0.0:9090 --tls-cert server.pem --tls-key server.key
  balancer --grpc 0.0.0.0:9090 --insecure --legacy-clients '' --legacy-workers ''
  balancer --log classic
  balancer --config balancer.yaml --print-config
  REPARTO_GRPC=localhost:7070 balancer`

// settings are what the command line, the environment and a file say.
type settings struct {
	server.Options
	tls secure.Options
	log *cli.Log
}

func newCommand() *cobra.Command {
	cmd, _ := newSettings()
	return cmd
}

func newSettings() (*cobra.Command, *settings) {
	cmd := &cobra.Command{
		Use: "balancer", Short: "deal tasks to workers", Long: long, Example: example, Args: cobra.NoArgs,
	}
	o := &settings{}
	o.addFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(cmd.Flags()); err != nil {
			return cli.Exit(cli.Usage, err)
		}
		o.Log = o.log.Logger(cmd.OutOrStdout(), cmd.ErrOrStderr(), classic.Options{Role: classic.LoadBalancer})
		o.RPC.Version, o.Commit = cli.ShortVersion(), cli.Commit()
		var err error
		if o.TLS, err = secure.Open(o.tls, o.Log); err != nil {
			return cli.Exit(cli.Usage, err)
		}
		if (o.LegacyTLS || o.HTTP.TLS) && o.TLS == nil {
			return cli.Usagef("--legacy-tls and --http-tls need --tls-cert and --tls-key")
		}
		o.HandshakeLimit = o.tls.HandshakeLimit
		traces, err := cli.Traces(cmd.Context(), "balancer", o.Log)
		if err != nil {
			return err
		}
		defer traces.Close()
		o.Dispatch.Tracer, o.Legacy.TracerProvider = traces.Balancer(), traces.Tracers()
		s, err := server.Listen(o.Options)
		if err != nil {
			if _, network := errors.AsType[*net.OpError](err); !network && !errors.Is(err, server.ErrStore) {
				err = cli.Exit(cli.Usage, err)
			}
			return err
		}
		return o.serve(cmd, s)
	}
	return cmd, o
}

// check says what is wrong in the words of the command line.
func (o *settings) check(flags *pflag.FlagSet) error {
	if err := cli.CheckNoneNegative(flags); err != nil {
		return err
	}
	return o.Legacy.CheckFlags()
}

// serve runs s until the command is to end, and looks after the TLS files and the
// configuration meanwhile.
func (o *settings) serve(cmd *cobra.Command, s *server.Server) error {
	r := cli.Reloader{Running: cmd, Reloadable: reloadable, Log: o.Log, Fresh: func() (*cobra.Command, func() error) {
		c, fresh := newSettings()
		return c, func() error {
			err := fresh.check(c.Flags())
			if err == nil {
				err = s.Reload(fresh.Options)
			}
			if err == nil {
				o.log.SetLevel(fresh.log)
			}
			return err
		}
	}}
	return r.Beside(cmd.Context(), func(ctx context.Context) error {
		looking, end := context.WithCancel(ctx)
		var watching sync.WaitGroup
		defer watching.Wait()
		defer end()
		watching.Go(func() { o.TLS.Watch(looking) })
		return s.Run(ctx)
	})
}

// reloadable are the keys that SIGHUP puts in force; server.Server.Reload takes
// them.
var reloadable = []string{
	"log-level",
	"max-lost", "max-queued-tasks", "max-function-queued-tasks", "max-function-queued-bytes", "max-bytes",
	"max-durable-tasks", "max-resident", "backoff", "max-backoff", "keep-outcomes", "max-kept-bytes",
	"principal-tasks", "principal-bytes", "principal-rate", "principal-burst", "principal-streams", "principal-connections",
	"address-streams", "address-tasks", "address-bytes", "address-rate", "address-burst",
}

// addFlags binds every option that an operator may set. Sizes are bytes.
func (o *settings) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.SortFlags = false
	cli.AddConfigFlags(f)
	f.StringVar(&o.Address, "grpc", cli.DefaultBalancer, "where to listen for gRPC")
	o.tls.AddFlags(f, "")
	f.BoolVar(&o.Insecure, "insecure", false, "allow ports without TLS where other machines can connect")
	o.Legacy.AddFlags(f)
	f.BoolVar(&o.LegacyTLS, "legacy-tls", false, "the text ports speak TLS too, with the same certificate and CA")
	f.DurationVar(&o.Legacy.TaskTimeout, "legacy-timeout", 24*time.Hour, "how long a text client's task may take in all, up to 24h")
	f.StringVar(&o.HTTP.Address, "http", "", "where to listen for HTTP: /metrics, /healthz, /readyz; such as localhost:8080")
	f.BoolVar(&o.HTTP.TLS, "http-tls", false, "the HTTP port speaks TLS too, with the same certificate and CA")
	f.BoolVar(&o.HTTP.Pprof, "pprof", false, "with --http: serve profiles of the process under /debug/pprof/")
	f.BoolVar(&o.RPC.Channelz, "channelz", false, "serve grpc.channelz.v1, which shows connections and sockets, to administrators")
	f.IntVar(&o.Dispatch.Balance.MaxMeasured, "metrics-functions", 100, "functions that are counted each by itself; the others together, as _other")
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
	o.log = cli.AddLogFlags(f, slog.LevelInfo)
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
