package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"reparto/internal/classic"
	"reparto/internal/cli"
	"reparto/internal/functions"
	"reparto/internal/task"
	"reparto/worker"
)

// work runs a worker until the command is to end.
func (f *flags) work(c *cobra.Command) error {
	ctx, id := c.Context(), cmp.Or(f.id, newID())
	log := f.log.Logger(c.OutOrStdout(), c.ErrOrStderr(), classic.Options{Role: classic.Worker, WorkerID: id})
	handlers, err := f.handlers(log)
	if err != nil {
		return cli.Exit(cli.Usage, err)
	}
	if err := f.check(id); err != nil {
		return cli.Exit(cli.Usage, err)
	}
	conns, hangUp, err := f.dial(log)
	if err != nil {
		return err
	}
	defer hangUp()
	// The commands that it runs inherit what is left there.
	if err := os.Unsetenv(cli.TokenVariable); err != nil {
		return err
	}
	traces, err := cli.Traces(ctx, "worker", log)
	if err != nil {
		return err
	}
	defer traces.Close()

	offered := strings.Join(slices.Sorted(maps.Keys(handlers)), " ")
	o := worker.Options{
		ID: id, Slots: f.slots, Prefetch: f.prefetch, Labels: f.labels, Build: cli.ShortVersion(),
		Log: log, DrainTimeout: f.drainTimeout, TracerProvider: traces.Tracers(),
	}
	r := cli.Reloader{Running: c, Fresh: f.fresh, Reloadable: reloadable, Log: log}
	return r.Beside(ctx, func(ctx context.Context) error {
		work, ctx := errgroup.WithContext(ctx)
		for _, c := range conns {
			o := o
			if len(conns) > 1 {
				o.Log = log.With("balancer", c.Target)
			}
			log.Info("dialling", "balancer", c.Target, "worker_id", id, "functions", offered)
			work.Go(func() error {
				err := c.Guard(ctx, c.conn, func(ctx context.Context) error { return worker.Run(ctx, c.conn, handlers, o) })
				if err != nil && len(conns) > 1 {
					err = fmt.Errorf("balancer %s: %w", c.Target, err)
				}
				return err
			})
		}
		return work.Wait()
	})
}

// connection is one to a balancer.
type connection struct {
	*cli.Peer
	conn *grpc.ClientConn
}

// dial returns a connection to each balancer, and what closes them.
func (f *flags) dial(log *slog.Logger) (conns []connection, hangUp func(), err error) {
	hangUp = func() {
		for _, c := range conns {
			_ = c.conn.Close() // it was in use until now: there is nothing to fail
		}
	}
	for _, peer := range f.balancers.Each() {
		conn, err := peer.Dial(log)
		if err != nil {
			hangUp()
			return nil, nil, err
		}
		conns = append(conns, connection{peer, conn})
	}
	return conns, hangUp, nil
}

// newID makes a name as workers have always had it.
func newID() string {
	var b [4]byte
	rand.Read(b[:]) // never fails
	return "worker_" + hex.EncodeToString(b[:])
}

// handlers are the functions that the command line asks for.
func (f *flags) handlers(log *slog.Logger) (worker.Handlers, error) {
	h := worker.Handlers{}
	if len(f.execs) == 0 || f.builtin {
		h = functions.BuiltIn()
		if log.Enabled(context.Background(), slog.LevelDebug) {
			h["sum"] = sumLogged(log)
		}
	}
	if err := f.only(h); err != nil {
		return nil, err
	}
	for _, spec := range f.execs {
		name, command, err := functions.ParseExec(spec)
		if err != nil {
			return nil, fmt.Errorf("--exec: %w", err)
		}
		if err := task.CheckFunction(name); err != nil {
			return nil, fmt.Errorf("--exec %q: %w", spec, err)
		}
		if _, twice := h[name]; twice {
			return nil, fmt.Errorf("--exec %q: the function %s is offered already", spec, name)
		}
		h[name] = functions.Exec(command, functions.ExecOptions{KillAfter: f.killAfter, MaxOutput: f.maxOutput, Log: log})
	}
	if len(h) > task.MaxWorkerFuncs {
		return nil, fmt.Errorf("--exec: %d functions are offered; at most %d are allowed", len(h), task.MaxWorkerFuncs)
	}
	if len(f.execs) > 0 && f.slots == 0 {
		f.slots = runtime.GOMAXPROCS(0)
	}
	return h, nil
}

// only leaves in h what --functions names.
func (f *flags) only(h worker.Handlers) error {
	if f.functions == nil {
		return nil
	}
	for _, name := range f.functions {
		if h[name] == nil {
			return fmt.Errorf("--functions: %.128q is not among the built-in functions that are offered; those are echo, sleep and sum, without --exec or with --builtin", name)
		}
	}
	maps.DeleteFunc(h, func(name string, _ worker.Handler) bool { return !slices.Contains(f.functions, name) })
	return nil
}

// check says what is wrong, in the words of the command line.
func (f *flags) check(id string) error {
	if err := f.balancers.Check(); err != nil {
		return err
	}
	if err := task.CheckWorkerID(id); err != nil {
		return fmt.Errorf("--id: %w", err)
	}
	if err := task.CheckMetadata("--label", f.labels); err != nil {
		return err
	}
	switch {
	case f.slots < 0 || f.slots > task.MaxSlots:
		return fmt.Errorf("--slots is %d; give 1 to %d, or 0 for the default", f.slots, task.MaxSlots)
	case f.prefetch < 0 || f.prefetch > task.MaxSlots-max(f.slots, 1):
		return fmt.Errorf("--prefetch is %d; with --slots it is at most %d", f.prefetch, task.MaxSlots)
	case f.drainTimeout < 0:
		return fmt.Errorf("--drain-timeout is %v; give a time, or 0 for no limit", f.drainTimeout)
	case f.killAfter < time.Millisecond:
		return fmt.Errorf("--kill-after is %v; give at least 1ms", f.killAfter)
	case f.maxOutput < 1:
		return fmt.Errorf("--max-output is %d; give at least 1", f.maxOutput)
	}
	return nil
}

// sumLogged is functions.Sum, which also tells what it added.
func sumLogged(log *slog.Logger) worker.Handler {
	return func(ctx context.Context, t worker.Task) ([]byte, error) {
		result, err := functions.Sum(ctx, t)
		if err != nil {
			return nil, err
		}
		numbers, err := functions.Integers(t.Payload)
		if err != nil {
			return nil, err
		}
		var b strings.Builder
		for i, n := range numbers {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(n.String())
		}
		log.DebugContext(ctx, "sum computed", "task_id", t.ID, "numbers", "["+b.String()+"]", "result", string(result))
		return result, nil
	}
}
