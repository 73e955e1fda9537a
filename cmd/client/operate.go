package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	pb "reparto/gen/reparto/v1"
)

func newWorkers() *cobra.Command {
	c := &caller{}
	var function string
	cmd := &cobra.Command{
		Use: "workers [flags]", Short: "List the connected workers", Args: cobra.NoArgs, DisableFlagsInUseLine: true,
	}
	c.addFlags(cmd.Flags())
	cmd.Flags().StringVar(&function, "function", "", "only workers that offer this function")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.with(cmd, func(ctx context.Context) error { return c.workers(ctx, function) })
	}
	return cmd
}

func (c *caller) workers(ctx context.Context, function string) error {
	var rows [][]string
	req := &pb.ListWorkersRequest{Function: function, PageSize: 1000}
	for {
		resp, err := c.admin.ListWorkers(ctx, req)
		if err != nil {
			return err
		}
		for _, w := range resp.GetWorkers() {
			if c.asJSON() {
				if err := c.json(w); err != nil {
					return err
				}
				continue
			}
			state := "ready"
			if w.GetDraining() {
				state = "draining"
			}
			rows = append(rows, []string{
				clean(w.GetWorkerId()), clean(w.GetAddress()), state, fmt.Sprintf("%d/%d", w.GetFreeSlots(), w.GetSlots()),
				strconv.FormatInt(w.GetTasksDone(), 10), lasting(w.GetConnectedFor()), lasting(w.GetLastHeardAgo()),
				short(strings.Join(w.GetFunctions(), ","), 60),
			})
		}
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	if c.asJSON() {
		return nil
	}
	return c.table("WORKER ADDRESS STATE FREE DONE CONNECTED HEARD FUNCTIONS", rows)
}

func newFunctions() *cobra.Command {
	c := &caller{}
	cmd := &cobra.Command{
		Use: "functions [flags]", Short: "List the functions that have a worker or a task", Args: cobra.NoArgs, DisableFlagsInUseLine: true,
	}
	c.addFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return c.with(cmd, c.functions) }
	return cmd
}

func (c *caller) functions(ctx context.Context) error {
	var rows [][]string
	req := &pb.ListFunctionsRequest{PageSize: 1000}
	for {
		resp, err := c.admin.ListFunctions(ctx, req)
		if err != nil {
			return err
		}
		for _, f := range resp.GetFunctions() {
			if c.asJSON() {
				if err := c.json(f); err != nil {
					return err
				}
				continue
			}
			state := "open"
			if f.GetPaused() {
				state = "paused"
			}
			rows = append(rows, []string{
				clean(f.GetName()), state, strconv.Itoa(int(f.GetWorkers())), strconv.Itoa(int(f.GetFreeSlots())),
				strconv.FormatInt(f.GetQueued(), 10), strconv.FormatInt(f.GetRunning(), 10), strconv.FormatInt(f.GetScheduled(), 10),
				lasting(f.GetOldestAge()), fmt.Sprintf("%.1f", f.GetSubmittedPerSecond()), fmt.Sprintf("%.1f", f.GetFinishedPerSecond()),
				strconv.FormatInt(f.GetFailed(), 10), latency(f.GetDispatchLatency()).text, latency(f.GetRunTime()).text,
			})
		}
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	if c.asJSON() {
		return nil
	}
	return c.table("FUNCTION STATE WORKERS FREE QUEUED RUNNING SCHEDULED OLDEST IN/s OUT/s FAILED DISPATCH RUN", rows)
}

// forEach is a command that does something for each of its arguments, and says
// what it did.
func forEach(use, about string, do func(c *caller, ctx context.Context, name string) (said string, err error)) *cobra.Command {
	c := &caller{}
	cmd := &cobra.Command{Use: use + "...", Short: about, Args: cobra.MinimumNArgs(1), DisableFlagsInUseLine: true}
	c.addFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return c.each(cmd, args, func(ctx context.Context, name string) error {
			said, err := do(c, ctx, name)
			if err == nil && !c.asJSON() {
				c.printf("%s %s\n", clean(name), said)
			}
			return err
		})
	}
	return cmd
}

func newPause() *cobra.Command {
	return forEach("pause [flags] FUNCTION", "Give out no more tasks of a function", func(c *caller, ctx context.Context, name string) (string, error) {
		resp, err := c.admin.PauseFunction(ctx, &pb.PauseFunctionRequest{Function: name})
		if err == nil && c.asJSON() {
			return "", c.json(resp)
		}
		if resp.GetWasPaused() {
			return "was paused already", err
		}
		return "is paused", err
	})
}

func newResume() *cobra.Command {
	return forEach("resume [flags] FUNCTION", "Give out the tasks of a paused function again", func(c *caller, ctx context.Context, name string) (string, error) {
		resp, err := c.admin.ResumeFunction(ctx, &pb.ResumeFunctionRequest{Function: name})
		if err == nil && c.asJSON() {
			return "", c.json(resp)
		}
		if !resp.GetWasPaused() {
			return "was not paused", err
		}
		return "is resumed", err
	})
}

func newDrain() *cobra.Command {
	return forEach("drain [flags] WORKER", "Have a worker finish what it holds, and leave", func(c *caller, ctx context.Context, id string) (string, error) {
		resp, err := c.admin.DrainWorker(ctx, &pb.DrainWorkerRequest{WorkerId: id})
		if err == nil && c.asJSON() {
			return "", c.json(resp)
		}
		return "leaves when it has finished", err
	})
}
