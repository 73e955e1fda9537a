// Demo shows all of Reparto in one process: a balancer with the text adapter,
// three workers, and sample tasks by gRPC and by text.
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
	"google.golang.org/grpc"

	"reparto/internal/cli"
	"reparto/internal/dispatch"
	"reparto/internal/functions"
	"reparto/internal/server"
	"reparto/worker"
)

func main() { os.Exit(cli.Main(run)) }

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return cli.Run(ctx, newCommand(), args, stdin, stdout, stderr)
}

const long = `Demo starts a balancer with its text ports, two gRPC workers and a text worker
in one process, runs sample tasks by gRPC and by text, prints how they ended and
what to try next, and stays up until Ctrl-C. It takes the usual ports, or free
ones where those are in use.`

func newCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "demo", Short: "see it work", Long: long, Args: cobra.NoArgs,
		Example: "  demo\n  demo --once",
	}
	once := cmd.Flags().Bool("once", false, "exit when the sample tasks are done: 0 if every result was right, else 1")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return demo(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), *once)
	}
	return cmd
}

func demo(ctx context.Context, stdout, stderr io.Writer, once bool) error {
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := listen(log, once)
	if err != nil {
		return err
	}
	// The balancer goes last, so that the workers can say goodbye.
	outlive, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var balancer sync.WaitGroup
	var ran error
	balancer.Go(func() { ran = s.Run(outlive) })
	fmt.Fprintf(stdout, "balancer: gRPC %v, text clients %v, text workers %v\n", s.Addr(), s.Legacy().ClientAddr(), s.Legacy().WorkerAddr())

	working, leave := context.WithCancel(ctx)
	defer leave()
	workers, err := startWorkers(working, s, log)
	if err == nil {
		fmt.Fprintln(stdout, "workers:  worker-1 and worker-2 (gRPC: echo, sleep, sum), worker_0badcafe (text: sum)")
		fmt.Fprintln(stdout)
		err = play(ctx, s, stdout)
	}
	if err == nil && !once {
		tryNext(stdout, s)
		<-ctx.Done()
	}
	leave()
	err = errors.Join(err, workers())
	stop()
	balancer.Wait()
	return errors.Join(err, ran)
}

// listen takes the usual ports, and free ones if those are in use or if nobody
// is to find them.
func listen(log *slog.Logger, anyPort bool) (*server.Server, error) {
	o := server.Options{Log: log, DrainTimeout: 5 * time.Second, Dispatch: dispatch.Options{Log: log}}
	o.Address, o.Legacy.ClientAddress, o.Legacy.WorkerAddress = cli.DefaultBalancer, "localhost:8888", "localhost:8889"
	if !anyPort {
		s, err := server.Listen(o)
		if _, network := errors.AsType[*net.OpError](err); !network {
			return s, err
		}
	}
	o.Address, o.Legacy.ClientAddress, o.Legacy.WorkerAddress = "localhost:0", "localhost:0", "localhost:0"
	return server.Listen(o)
}

// startWorkers starts two gRPC workers and a text worker, and returns once the
// gRPC ones are registered. The function it returns waits until all have left;
// they leave when ctx ends.
func startWorkers(ctx context.Context, s *server.Server, log *slog.Logger) (func() error, error) {
	conn, err := grpc.NewClient(s.Addr().String(), worker.DialOptions(nil)...)
	if err != nil {
		return func() error { return nil }, err
	}
	var running sync.WaitGroup
	var mu sync.Mutex
	var failed error
	start := func(work func() error) {
		running.Go(func() {
			if err := work(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = errors.Join(failed, err)
			}
		})
	}
	registered := make(chan struct{}, 16)
	for _, id := range []string{"worker-1", "worker-2"} {
		start(func() error {
			return worker.Run(ctx, conn, functions.BuiltIn(), worker.Options{
				ID: id, Log: log, DrainTimeout: 5 * time.Second,
				OnRegistered: func(worker.Registration) {
					select {
					case registered <- struct{}{}:
					default:
					}
				},
			})
		})
	}
	start(func() error { return textWorker(ctx, s.Legacy().WorkerAddr().String(), "worker_0badcafe") })
	wait := func() error {
		running.Wait()
		return errors.Join(failed, conn.Close())
	}
	for range 2 {
		select {
		case <-registered:
		case <-ctx.Done():
			return wait, ctx.Err()
		}
	}
	return wait, nil
}

func tryNext(out io.Writer, s *server.Server) {
	_, port, _ := net.SplitHostPort(s.Legacy().ClientAddr().String())
	flag := ""
	if a := s.Addr().String(); a != "127.0.0.1:9090" && a != "[::1]:9090" {
		flag = " --balancer " + a
	}
	fmt.Fprintf(out, `
Try next, in another terminal:
  go run ./cmd/client submit%s sum 1,2,3,4,5
  seq 1 100000 | go run ./cmd/client submit%s sum - | tail -1
  go run ./cmd/worker%s --exec 'rev=rev'        # then: go run ./cmd/client submit%s rev hola
  printf 'TASK|t1|1,2,3,4,5\n' | nc localhost %s
  grpcurl -plaintext -d '{"function":"sum","text":"1,2,3,4,5"}' %v reparto.v1.TaskService/Submit

Ctrl-C ends it.
`, flag, flag, flag, flag, port, s.Addr())
}
