// Command adapter serves programs that speak the old text protocol, as a process
// of its own beside a balancer somewhere else.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"reparto/internal/classic"
	"reparto/internal/cli"
	"reparto/internal/legacy"
	"reparto/internal/secure"
)

func main() { os.Exit(cli.Main(run)) }

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return cli.Run(ctx, newCommand(), args, stdin, stdout, stderr)
}

const long = `adapter serves programs that speak the old text protocol: clients on one port,
workers on another. To the balancer it is a gRPC client and a gRPC worker like
any other. A balancer can do the same by itself; a process of its own lets the
old programs stay on their machine, or have their ports on several.

When the balancer is away, text clients' tasks wait for it up to
--connect-timeout, and text workers are registered again when it is back.

SIGTERM or Ctrl-C makes it take nothing new, let what is under way finish within
--drain-timeout, and exit 0. A second one ends it at once.

Exit codes: 0 asked to stop, 1 something broke, 2 wrong usage, 3 a port is in
use, or TLS with the balancer can't succeed.`

const examples = `  adapter --balancer balancer.example:9090 --tls-ca ca.pem
  adapter --legacy-workers ''                       # for clients alone
  adapter --legacy-clients 0.0.0.0:8888 --insecure --legacy-function invoices.total
  adapter --log classic`

// flags are what the command line says.
type flags struct {
	balancer cli.Peer
	legacy   legacy.Options
	tls      secure.Options // of the text ports
	log      *cli.Log
}

func newCommand() *cobra.Command {
	c, _ := newFlags()
	return c
}

func newFlags() (*cobra.Command, *flags) {
	f := &flags{}
	c := &cobra.Command{
		Use:     "adapter [flags]",
		Short:   "Serve programs that speak the old text protocol",
		Long:    long,
		Example: examples,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return f.serve(c)
		},
	}
	s := c.Flags()
	s.SortFlags = false
	cli.AddConfigFlags(s)
	f.balancer.AddFlags(s)
	o := &f.legacy
	o.AddFlags(s)
	f.tls.AddFlags(s, "legacy-")
	s.DurationVar(&o.TaskTimeout, "timeout", 24*time.Hour, "how long a text client's task may take in all, up to 24h")
	s.DurationVar(&o.ConnectTimeout, "connect-timeout", 20*time.Second, "how long a text client's task may wait for the balancer")
	s.DurationVar(&o.DrainTimeout, "drain-timeout", 30*time.Second, "how long what is under way may go on once it is to stop; 0: not at all")
	s.BoolVar(&o.Idempotent, "idempotent", false, "text tasks may run twice without harm: submit them again when the balancer was lost")
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

// check says what is wrong in the words of the command line, and turns 0 into
// what legacy.Options take for none. Bounds beyond that are theirs.
func (f *flags) check() error {
	if err := f.balancer.Check(); err != nil {
		return err
	}
	o := &f.legacy
	if o.ClientAddress == "" && o.WorkerAddress == "" {
		return errors.New("--legacy-clients and --legacy-workers are both turned off; nothing is left to do")
	}
	for name, d := range map[string]time.Duration{
		"timeout": o.TaskTimeout, "connect-timeout": o.ConnectTimeout,
	} {
		if d <= 0 {
			return fmt.Errorf("--%s is %v; give more than 0", name, d)
		}
	}
	switch {
	case o.DrainTimeout < 0:
		return fmt.Errorf("--drain-timeout is %v; give a time, or 0 for none", o.DrainTimeout)
	case o.DrainTimeout == 0:
		o.DrainTimeout = -1
	}
	return o.CheckFlags()
}

// serve runs an adapter until the command is to end.
func (f *flags) serve(c *cobra.Command) error {
	ctx := c.Context()
	if err := f.check(); err != nil {
		return cli.Exit(cli.Usage, err)
	}
	log := f.log.Logger(c.OutOrStdout(), c.ErrOrStderr(), classic.Options{Role: classic.LoadBalancer})
	tls, err := secure.Open(f.tls, log)
	if err != nil {
		return cli.Exit(cli.Usage, err)
	}
	traces, err := cli.Traces(ctx, "adapter", log)
	if err != nil {
		return err
	}
	defer traces.Close()
	f.legacy.TracerProvider = traces.Tracers()
	f.legacy.Log, f.legacy.TLS, f.legacy.HandshakeTimeout = log, tls.Config(), f.tls.HandshakeLimit
	a, err := legacy.Listen(f.legacy)
	if err != nil {
		if _, network := errors.AsType[*net.OpError](err); !network {
			err = cli.Exit(cli.Usage, err)
		}
		return err
	}
	port := secure.Port{TLS: tls != nil, Remedy: "--legacy-tls-cert and --legacy-tls-key"}
	if err := secure.CheckPorts([]secure.Port{
		port.At("text clients", "--legacy-clients", f.legacy.ClientAddress, a.ClientAddr()),
		port.At("text workers", "--legacy-workers", f.legacy.WorkerAddress, a.WorkerAddr()),
	}, f.balancer.Insecure, log); err != nil {
		return errors.Join(cli.Exit(cli.Usage, err), a.Close())
	}
	conn, err := f.balancer.Dial(log)
	if err != nil {
		return errors.Join(err, a.Close())
	}
	defer func() { _ = conn.Close() }() // it was in use until here: there is nothing to fail
	conn.Connect()                      // now, so that what TLS has against it shows at the start
	return f.balancer.Guard(ctx, conn, func(ctx context.Context) error {
		var watching sync.WaitGroup
		defer watching.Wait()
		watching.Go(func() { tls.Watch(ctx) })
		r := cli.Reloader{Running: c, Fresh: f.fresh, Reloadable: reloadable, Log: log}
		return r.Beside(ctx, func(ctx context.Context) error { return a.Serve(ctx, conn) })
	})
}
