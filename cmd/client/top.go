package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/protobuf/proto"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/cli"
)

// picture is what a balancer looks like at one moment.
type picture struct {
	at        time.Time
	info      *pb.GetServerInfoResponse
	functions []*pb.Function
	workers   []*pb.Worker
}

// mostShown is how many functions, and how many workers, are asked for.
const mostShown = 10_000

// look asks the balancer for a picture.
func (c *caller) look(ctx context.Context) (*picture, error) {
	info, err := c.admin.GetServerInfo(ctx, &pb.GetServerInfoRequest{})
	if err != nil {
		return nil, err
	}
	p := &picture{at: time.Now(), info: info}
	for req := (&pb.ListFunctionsRequest{PageSize: 1000}); len(p.functions) < mostShown; {
		resp, err := c.admin.ListFunctions(ctx, req)
		if err != nil {
			return nil, err
		}
		p.functions = append(p.functions, resp.GetFunctions()...)
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	for req := (&pb.ListWorkersRequest{PageSize: 1000}); len(p.workers) < mostShown; {
		resp, err := c.admin.ListWorkers(ctx, req)
		if err != nil {
			return nil, err
		}
		p.workers = append(p.workers, resp.GetWorkers()...)
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	return p, nil
}

const topLong = `A live view of a balancer: its functions with queues, rates and latencies, and its
workers with their slots. Keys: tab changes the table, s the column it is sorted
by, r the direction; / filters by name; p pauses or resumes the selected function,
d drains the selected worker, both after a question; ? shows this; q ends.

Latencies are p50/p99 of the last half minute to minute: dispatch is from when a
task could run to when a worker had it, run from then to its answer.

Where standard output is no terminal, and with --once, it prints plain tables.`

func newTop() *cobra.Command {
	c := &caller{}
	var interval time.Duration
	var once bool
	cmd := &cobra.Command{
		Use: "top [flags]", Short: "Watch functions, queues, rates and workers", Long: topLong, Args: cobra.NoArgs, DisableFlagsInUseLine: true,
	}
	c.addFlags(cmd.Flags())
	cmd.Flags().DurationVar(&interval, "interval", time.Second, "how often to look, at least 100ms")
	cmd.Flags().BoolVar(&once, "once", false, "print one view and end")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if interval < 100*time.Millisecond {
			return cli.Usagef("--interval is %v; give at least 100ms", interval)
		}
		return c.with(cmd, func(ctx context.Context) error {
			out, file := cmd.OutOrStdout().(*os.File)
			if once || c.asJSON() || !file || !term.IsTerminal(int(out.Fd())) {
				return c.printViews(ctx, interval, once || c.asJSON())
			}
			return c.watch(ctx, cmd.InOrStdin(), out, interval)
		})
	}
	return cmd
}

// watch shows the live view until it is left, or ctx ends.
func (c *caller) watch(ctx context.Context, in io.Reader, out io.Writer, interval time.Duration) error {
	t := newTopModel(c.balancer.Target, interval)
	t.look = func() (*picture, error) {
		soon, cancel := context.WithTimeout(ctx, max(5*time.Second, interval))
		defer cancel()
		return c.look(soon)
	}
	t.act = func(a action) (string, error) {
		soon, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return c.act(soon, a)
	}
	_, err := tea.NewProgram(t, tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out), tea.WithoutSignalHandler()).Run()
	if ctx.Err() != nil {
		return nil // with says so
	}
	return err
}

// act does what the view was asked to.
func (c *caller) act(ctx context.Context, a action) (string, error) {
	var err error
	switch a.verb {
	case "pause":
		_, err = c.admin.PauseFunction(ctx, &pb.PauseFunctionRequest{Function: a.name})
	case "resume":
		_, err = c.admin.ResumeFunction(ctx, &pb.ResumeFunctionRequest{Function: a.name})
	case "drain":
		_, err = c.admin.DrainWorker(ctx, &pb.DrainWorkerRequest{WorkerId: a.name})
	}
	return fmt.Sprintf("asked to %s %s", a.verb, clean(a.name)), err
}

// printViews prints plain tables, one after another or just one.
func (c *caller) printViews(ctx context.Context, interval time.Duration, once bool) error {
	var before *picture
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		p, err := c.look(ctx)
		if err != nil {
			return err
		}
		if err := c.printView(p, before); err != nil || once {
			return err
		}
		before = p
		c.printf("\n")
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *caller) printView(p, before *picture) error {
	if c.asJSON() {
		if err := c.json(p.info); err != nil {
			return err
		}
		for _, m := range slices.Concat(messages(p.functions), messages(p.workers)) {
			if err := c.json(m); err != nil {
				return err
			}
		}
		return nil
	}
	c.printf("%s\n\n", headline(p))
	if err := c.table(headings(functionColumns), texts(functionRows(p))); err != nil {
		return err
	}
	c.printf("\n")
	return c.table(headings(workerColumns), texts(workerRows(p, before)))
}

func messages[M proto.Message](list []M) (all []proto.Message) {
	for _, m := range list {
		all = append(all, m)
	}
	return all
}
