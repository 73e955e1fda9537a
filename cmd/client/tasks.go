package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/cli"
)

// aboutTasks is a command that does something for each of its task ids.
func aboutTasks(use, about, long string, do func(c *caller, ctx context.Context, id string) error) *cobra.Command {
	c := &caller{}
	cmd := &cobra.Command{
		Use: use + " [flags] ID...", Short: about, Long: long, Args: cobra.MinimumNArgs(1), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.each(cmd, args, func(ctx context.Context, id string) error { return do(c, ctx, id) })
		},
	}
	c.addFlags(cmd.Flags())
	return cmd
}

func newGet() *cobra.Command {
	return aboutTasks("get", "Show all that is known of enqueued tasks", "", func(c *caller, ctx context.Context, id string) error {
		resp, err := c.tasks.GetTask(ctx, &pb.GetTaskRequest{TaskId: id})
		return c.show(resp.GetTask(), err)
	})
}

func newCancel() *cobra.Command {
	return aboutTasks("cancel", "End enqueued tasks that have no outcome yet", "", func(c *caller, ctx context.Context, id string) error {
		resp, err := c.tasks.CancelTask(ctx, &pb.CancelTaskRequest{TaskId: id})
		return c.became(resp.GetTask(), err)
	})
}

func newRetry() *cobra.Command {
	return aboutTasks("retry", "Queue failed, cancelled or expired tasks again", "", func(c *caller, ctx context.Context, id string) error {
		resp, err := c.tasks.RetryTask(ctx, &pb.RetryTaskRequest{TaskId: id})
		return c.became(resp.GetTask(), err)
	})
}

func newExplain() *cobra.Command {
	return aboutTasks("explain", "Tell why enqueued tasks are where they are", "", func(c *caller, ctx context.Context, id string) error {
		resp, err := c.tasks.ExplainTask(ctx, &pb.ExplainTaskRequest{TaskId: id})
		if err != nil {
			return err
		}
		if c.asJSON() {
			return c.json(resp)
		}
		c.printf("%s %s: %s\n", clean(resp.GetTaskId()), stateName(resp.GetState()), clean(resp.GetExplanation()))
		return nil
	})
}

const waitLong = `wait waits for the outcomes of enqueued tasks and prints their results, one to a
line and in the order of the ids. A task that failed, was cancelled or expired
prints ERROR: and its message in its place. Exit codes: 0 every task has its
result, 1 one has none, 3 no connection.`

func newWait() *cobra.Command {
	var timeout time.Duration
	c := &caller{}
	cmd := &cobra.Command{
		Use: "wait [flags] ID...", Short: "Wait for the outcomes of enqueued tasks, and print them", Long: waitLong,
		Args: cobra.MinimumNArgs(1), DisableFlagsInUseLine: true,
	}
	c.addFlags(cmd.Flags())
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait for each (default for ever)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if timeout < 0 {
			return cli.Usagef("--timeout is %v; give more than 0", timeout)
		}
		failed := false
		err := c.each(cmd, args, func(ctx context.Context, id string) error {
			ok, err := c.waitFor(ctx, id, timeout)
			failed = failed || err == nil && !ok
			return err
		})
		if err == nil && failed {
			return cli.Exit(cli.Failed, nil)
		}
		return err
	}
	return cmd
}

// longPoll is how long one call waits.
const longPoll = 30 * time.Second

// waitFor waits for a task, prints its outcome, and reports whether it is a
// result. 0 waits for ever.
func (c *caller) waitFor(ctx context.Context, id string, timeout time.Duration) (bool, error) {
	end := time.Now().Add(timeout)
	for {
		poll := longPoll
		if timeout > 0 {
			poll = max(min(poll, time.Until(end)), time.Millisecond)
		}
		resp, err := c.tasks.WaitTask(ctx, &pb.WaitTaskRequest{TaskId: id, Timeout: durationpb.New(poll)})
		if err != nil {
			return false, err
		}
		t := resp.GetTask()
		switch {
		case resp.GetDone():
			return c.outcome(t)
		case timeout > 0 && !time.Now().Before(end):
			return false, fmt.Errorf("task %s is %s after %v; ask \"client explain %s\" why", clean(id), stateName(t.GetState()), timeout, clean(id))
		}
	}
}

// outcome prints a task's outcome, and reports whether it is a result.
func (c *caller) outcome(t *pb.Task) (bool, error) {
	ok := t.GetState() == pb.TaskState_TASK_STATE_SUCCEEDED
	switch {
	case c.asJSON():
		return ok, c.json(t)
	case !ok:
		c.printf("ERROR: %s\n", clean(message(t)))
		return false, nil
	}
	result := t.GetResult()
	if !bytes.HasSuffix(result, []byte("\n")) {
		result = append(result, '\n')
	}
	_, err := c.out.Write(result)
	return true, err
}

// message is why a task has no result.
func message(t *pb.Task) string {
	if m := t.GetFailure().GetMessage(); m != "" {
		return m
	}
	return "the task is " + stateName(t.GetState())
}

// became prints the state that a task has now.
func (c *caller) became(t *pb.Task, err error) error {
	if err != nil {
		return err
	}
	if c.asJSON() {
		return c.json(t)
	}
	c.printf("%s %s\n", clean(t.GetTaskId()), stateName(t.GetState()))
	return nil
}

// show prints a task at length.
func (c *caller) show(t *pb.Task, err error) error {
	if err != nil {
		return err
	}
	if c.asJSON() {
		return c.json(t)
	}
	rows := [][]string{
		{"function", clean(t.GetFunction())},
		{"state", stateName(t.GetState())},
		{"priority", strconv.Itoa(int(t.GetPriority()))},
		{"enqueued", at(t.GetEnqueueTime())},
	}
	add := func(name, value string, there bool) {
		if there {
			rows = append(rows, []string{name, value})
		}
	}
	add("may run", at(t.GetRunAt()), t.GetRunAt() != nil)
	add("expires", at(t.GetExpireTime()), t.GetFinishTime() == nil)
	add("finished", at(t.GetFinishTime()), t.GetFinishTime() != nil)
	add("forgotten", at(t.GetForgetTime()), t.GetForgetTime() != nil)
	add("attempts", fmt.Sprintf("%d failed of %d, %d lost", t.GetFailedAttempts(), t.GetMaxAttempts(), t.GetLostAttempts()), true)
	for k, v := range t.GetMetadata() {
		add("metadata", short(k+"="+v, 100), true)
	}
	add("payload", data(t.GetPayload()), true)
	add("result", data(t.GetResult()), t.GetState() == pb.TaskState_TASK_STATE_SUCCEEDED)
	add("failure", short(t.GetFailure().GetReason()+": "+t.GetFailure().GetMessage(), 300), t.GetFailure() != nil)
	if err := c.table("id "+clean(t.GetTaskId()), rows); err != nil || len(t.GetAttempts()) == 0 {
		return err
	}
	c.printf("\n")
	return c.table("ATTEMPT WORKER STARTED TOOK ENDED", attempts(t.GetAttempts()))
}

func attempts(list []*pb.Attempt) (rows [][]string) {
	for _, a := range list {
		took, ended := "-", "runs"
		if a.GetEndTime() != nil {
			took, ended = span(a.GetEndTime().AsTime().Sub(a.GetStartTime().AsTime())), "result"
		}
		if f := a.GetFailure(); f != nil {
			ended = short(f.GetReason()+": "+f.GetMessage(), 120)
		}
		rows = append(rows, []string{strconv.Itoa(int(a.GetAttempt())), clean(a.GetWorkerId()), at(a.GetStartTime()), took, ended})
	}
	return rows
}

// data shows bytes as text where they are, and how many there are.
func data(b []byte) string {
	if !utf8.Valid(b) {
		return fmt.Sprintf("%d bytes that are not text", len(b))
	}
	return fmt.Sprintf("%s (%d bytes)", short(string(b), 100), len(b))
}

const listLong = `list shows enqueued tasks, the newest first where the balancer made their ids.`

func newList() *cobra.Command {
	c := &caller{}
	var function string
	var limit int
	state := cli.Choice{Allowed: []string{"", "scheduled", "queued", "running", "succeeded", "failed", "cancelled", "expired"}}
	cmd := &cobra.Command{
		Use: "list [flags]", Short: "List enqueued tasks", Long: listLong, Args: cobra.NoArgs, DisableFlagsInUseLine: true,
		Example: "  client list --state failed\n  client list --function sum --limit 0 --output json",
	}
	c.addFlags(cmd.Flags())
	cmd.Flags().Var(&state, "state", "only tasks in this state: scheduled, queued, running, succeeded, failed, cancelled or expired")
	cmd.Flags().StringVar(&function, "function", "", "only tasks of this function")
	cmd.Flags().IntVar(&limit, "limit", 100, "how many at most; 0: all")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if limit < 0 {
			return cli.Usagef("--limit is %d; give 0 or more", limit)
		}
		req := &pb.ListTasksRequest{Function: function, State: pb.TaskState(pb.TaskState_value["TASK_STATE_"+strings.ToUpper(state.Value)])}
		return c.with(cmd, func(ctx context.Context) error { return c.list(ctx, req, limit) })
	}
	return cmd
}

// list prints page after page, each as a table of its own under one heading.
func (c *caller) list(ctx context.Context, req *pb.ListTasksRequest, limit int) error {
	var rows [][]string
	left := limit
	for {
		if req.PageSize = 1000; limit > 0 {
			req.PageSize = int32(min(left, 1000))
		}
		resp, err := c.tasks.ListTasks(ctx, req)
		if err != nil {
			return err
		}
		for _, t := range resp.GetTasks() {
			if c.asJSON() {
				if err := c.json(t); err != nil {
					return err
				}
			} else {
				rows = append(rows, listed(t))
			}
		}
		left -= len(resp.GetTasks())
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" || limit > 0 && left <= 0 {
			break
		}
	}
	if c.asJSON() {
		return nil
	}
	return c.table("ID FUNCTION STATE PRIORITY FAILED LOST ENQUEUED FINISHED MESSAGE", rows)
}

func listed(t *pb.Task) []string {
	return []string{
		clean(t.GetTaskId()), clean(t.GetFunction()), stateName(t.GetState()), strconv.Itoa(int(t.GetPriority())),
		fmt.Sprintf("%d/%d", t.GetFailedAttempts(), t.GetMaxAttempts()), strconv.Itoa(int(t.GetLostAttempts())),
		age(t.GetEnqueueTime()), age(t.GetFinishTime()), short(t.GetFailure().GetMessage(), 60),
	}
}
