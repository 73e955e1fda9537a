package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/cli"
)

const enqueueLong = `enqueue hands over tasks that outlive this command and the balancer, and prints
the id of each, one to a line and in the order in which they were given, once
they are on disk. With - as the only PAYLOAD, each line of standard input is a
task, and goes as soon as it is there. Ask for the outcome with "client wait ID".

Flags go before FUNCTION, as for submit. A task that is refused prints an empty
line in its place and "task N: ..." on standard error.`

const enqueueExamples = `  client enqueue sum 1,2,3,4,5
  client wait $(client enqueue sum 1,2,3)
  seq 1 100000 | client enqueue sum - > ids
  client enqueue --delay 1h --priority 5 --max-attempts 10 report monthly`

// enqueueFlags are what the command line says.
type enqueueFlags struct {
	caller
	id                                    string
	runAt, expireAt                       string
	delay, ttl, retention, attemptTimeout time.Duration
	backoff, backoffMaximum               time.Duration
	backoffMultiplier, backoffJitter      float64
	priority, maxAttempts                 int
	metadata                              cli.Pairs
	wait                                  bool
	template                              *pb.EnqueueTask
}

func newEnqueue() *cobra.Command {
	f := &enqueueFlags{}
	c := &cobra.Command{
		Use: "enqueue [flags] FUNCTION PAYLOAD...", Short: "Hand over tasks that are never lost", Long: enqueueLong, Example: enqueueExamples,
		Args: func(_ *cobra.Command, args []string) error {
			_, _, err := split(args)
			return err
		},
		RunE: func(c *cobra.Command, args []string) error {
			function, payloads, err := split(args)
			if err != nil {
				return cli.Exit(cli.Usage, err)
			}
			if f.template, err = f.task(function); err != nil {
				return cli.Exit(cli.Usage, err)
			}
			fromStdin := len(payloads) == 1 && payloads[0] == "-"
			return f.with(c, func(ctx context.Context) error {
				return f.enqueue(ctx, source(payloads, fromStdin, c.InOrStdin()))
			})
		},
		DisableFlagsInUseLine: true,
	}
	s := c.Flags()
	s.SetInterspersed(false)
	f.addFlags(s)
	s.StringVar(&f.id, "id", "", "the task's id: the same id with the same content is the same task; with several tasks they are `ID`-1, ID-2, ...")
	s.StringVar(&f.runAt, "run-at", "", "not before this `TIME`, such as 2027-01-31T18:00:00Z")
	s.DurationVar(&f.delay, "delay", 0, "not before this time has passed")
	s.IntVar(&f.priority, "priority", 0, "1 (urgent) to 5 (idle) (default 3)")
	s.IntVar(&f.maxAttempts, "max-attempts", 0, "how many attempts may fail and ask for another, 1 to 100 (default the balancer's, 3)")
	s.DurationVar(&f.backoff, "backoff", 0, "the wait after the first failed attempt (default the balancer's, 100ms)")
	s.Float64Var(&f.backoffMultiplier, "backoff-multiplier", 0, "how many times longer each further wait is (default 2)")
	s.DurationVar(&f.backoffMaximum, "backoff-max", 0, "the longest wait (default the balancer's, 10s)")
	s.Float64Var(&f.backoffJitter, "backoff-jitter", 0, "the part of a wait that is left to chance, 0 to 1")
	s.DurationVar(&f.attemptTimeout, "attempt-timeout", 0, "how long one attempt may take (default no limit of its own)")
	s.DurationVar(&f.ttl, "ttl", 0, "how long the task may take in all, from when it may run (default the balancer's, 168h)")
	s.StringVar(&f.expireAt, "expire-at", "", "when the task has expired, instead of --ttl, as a `TIME`")
	s.DurationVar(&f.retention, "retention", 0, "how long the outcome is kept (default the balancer's, 24h)")
	s.Var(&f.metadata, "metadata", "travels with each task to its worker; may be repeated")
	s.BoolVar(&f.wait, "wait", false, "wait for the outcomes, and print them instead of the ids")
	return c
}

// task is what all tasks have in common.
func (f *enqueueFlags) task(function string) (*pb.EnqueueTask, error) {
	t := &pb.EnqueueTask{
		Function: function, Metadata: f.metadata, Priority: int32(f.priority), MaxAttempts: int32(f.maxAttempts),
		Delay: some(f.delay), TimeToLive: some(f.ttl), Retention: some(f.retention), AttemptTimeout: some(f.attemptTimeout),
	}
	if f.backoff != 0 || f.backoffMaximum != 0 || f.backoffMultiplier != 0 || f.backoffJitter != 0 {
		t.Backoff = &pb.Backoff{
			Initial: some(f.backoff), Maximum: some(f.backoffMaximum), Multiplier: f.backoffMultiplier, Jitter: f.backoffJitter,
		}
	}
	var err error
	if t.RunAt, err = moment("--run-at", f.runAt); err != nil {
		return nil, err
	}
	t.ExpireTime, err = moment("--expire-at", f.expireAt)
	return t, err
}

func some(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func moment(flag, text string) (*timestamppb.Timestamp, error) {
	if text == "" {
		return nil, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, fmt.Errorf("%s is %q; give a time such as 2027-01-31T18:00:00Z", flag, text)
	}
	return timestamppb.New(t), nil
}

// enqueueBatch is how many tasks travel in one call, and how many bytes.
const (
	enqueueBatch      = 1000
	enqueueBatchBytes = 4 << 20
)

// enqueue hands over all that there is, a batch at a time.
func (f *enqueueFlags) enqueue(ctx context.Context, from *payloads) error {
	traces, err := cli.Traces(ctx, "client", slog.New(slog.NewTextHandler(f.stderr, nil)))
	if err != nil {
		return err
	}
	defer traces.Close()
	failed := false
	for number, more := 1, true; more; {
		req, spans := &pb.EnqueueRequest{}, []func(taskID, refusal string){}
		for size := 0; len(req.Tasks) < enqueueBatch && size < enqueueBatchBytes; {
			if len(req.Tasks) > 0 && !from.ready() {
				break // what is there travels; nobody waits for more
			}
			payload, problem, err := from.next()
			if err = errors.Join(problem, err); err != nil {
				return err
			}
			if more = payload != nil; !more {
				break
			}
			t := f.one(payload, number+len(req.Tasks), from.single)
			var end func(taskID, refusal string)
			t.Metadata, end = traces.Enqueue(ctx, t.GetFunction(), t.GetMetadata())
			req.Tasks, spans = append(req.Tasks, t), append(spans, end)
			size += len(payload)
		}
		if len(req.Tasks) == 0 {
			break
		}
		resp, err := f.tasks.Enqueue(ctx, req)
		if err != nil {
			for _, end := range spans {
				end("", err.Error())
			}
			return err
		}
		for i, r := range resp.GetResults() {
			if i < len(spans) {
				spans[i](r.GetTaskId(), r.GetError().GetMessage())
			}
			ok, err := f.enqueued(ctx, r, number+i)
			if err != nil {
				return err
			}
			failed = failed || !ok
		}
		number += len(req.Tasks)
	}
	if failed {
		return cli.Exit(cli.Failed, nil)
	}
	return nil
}

func (f *enqueueFlags) one(payload []byte, number int, single bool) *pb.EnqueueTask {
	c := f.template
	t := &pb.EnqueueTask{
		Function: c.Function, Payload: payload, Metadata: c.Metadata, RunAt: c.RunAt, Delay: c.Delay, Priority: c.Priority,
		MaxAttempts: c.MaxAttempts, Backoff: c.Backoff, AttemptTimeout: c.AttemptTimeout, ExpireTime: c.ExpireTime,
		TimeToLive: c.TimeToLive, Retention: c.Retention, TaskId: f.id,
	}
	if f.id != "" && !single {
		t.TaskId = fmt.Sprintf("%s-%d", f.id, number)
	}
	return t
}

// enqueued prints what became of one task, and reports whether all is well.
func (f *enqueueFlags) enqueued(ctx context.Context, r *pb.Enqueued, number int) (bool, error) {
	e := r.GetError()
	if e != nil {
		_, _ = fmt.Fprintf(f.stderr, "task %d: %s\n", number, clean(e.GetMessage())) // nobody to tell
	}
	switch {
	case f.asJSON() && (e != nil || !f.wait):
		return e == nil, f.json(r)
	case e == nil && f.wait:
		return f.waitFor(ctx, r.GetTaskId(), 0)
	}
	f.printf("%s\n", clean(r.GetTaskId()))
	return e == nil, nil
}
