package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/cli"
)

// caller is what commands have in common that ask the balancer something and
// print the answer: as a table or in words for people, as JSON for programs.
type caller struct {
	balancer       cli.Peer
	connectTimeout time.Duration
	output         cli.Choice

	tasks  pb.TaskServiceClient
	admin  pb.AdminServiceClient
	health healthpb.HealthClient
	out    *watched
	stderr io.Writer
}

func (c *caller) addFlags(f *pflag.FlagSet) {
	c.output = cli.Choice{Value: "text", Allowed: []string{"text", "json"}}
	f.SortFlags = false
	c.balancer.AddFlags(f)
	f.DurationVar(&c.connectTimeout, "connect-timeout", 5*time.Second, "how long to try to reach the balancer")
	f.Var(&c.output, "output", "text, or json: an object to a line, with the fields of the contract")
}

// with connects, and calls do.
func (c *caller) with(cmd *cobra.Command, do func(ctx context.Context) error) error {
	if err := c.balancer.Check(); err != nil {
		return cli.Exit(cli.Usage, err)
	}
	if c.connectTimeout <= 0 {
		return cli.Usagef("--connect-timeout is %v; give more than 0", c.connectTimeout)
	}
	conn, err := connect(cmd.Context(), &c.balancer, c.connectTimeout)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // it was in use until here: there is nothing to fail
	c.tasks, c.admin, c.health = pb.NewTaskServiceClient(conn), pb.NewAdminServiceClient(conn), healthpb.NewHealthClient(conn)
	c.out, c.stderr = &watched{w: cmd.OutOrStdout()}, cmd.ErrOrStderr()
	err = do(cmd.Context())
	switch {
	case cli.IsClosedOutput(c.out.failed()): // nobody reads any more
		return nil
	case cmd.Context().Err() != nil:
		return cli.Exit(cli.Interrupted, nil)
	case err == nil:
		return c.out.failed()
	}
	return plain(err)
}

// plain is an error in the balancer's words alone.
func plain(err error) error {
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	code := cli.Failed
	switch s.Code() {
	case codes.Unavailable:
		code = cli.NoConnection
	case codes.InvalidArgument:
		code = cli.Usage
	}
	return cli.Exit(code, errors.New(clean(s.Message())))
}

// each calls do for every argument, and goes on after one that fails.
func (c *caller) each(cmd *cobra.Command, args []string, do func(ctx context.Context, arg string) error) error {
	return c.with(cmd, func(ctx context.Context) error {
		var first error
		for _, arg := range args {
			err := do(ctx, arg)
			if err == nil || ctx.Err() != nil {
				continue
			}
			if len(args) == 1 {
				return err
			}
			// There is nobody to tell when this fails.
			_, _ = fmt.Fprintf(c.stderr, "%s: %s\n", clean(arg), clean(plain(err).Error()))
			first = err
		}
		if first != nil {
			return cli.Exit(cli.Failed, nil)
		}
		return nil
	})
}

// json prints a message on a line of its own.
func (c *caller) json(m proto.Message) error {
	text, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: false}.Marshal(m)
	if err != nil {
		return fmt.Errorf("print as json: %w", err)
	}
	var line strings.Builder // protojson varies its spaces on purpose
	compact := json.NewEncoder(&line)
	compact.SetEscapeHTML(false)
	if err := compact.Encode(json.RawMessage(text)); err != nil {
		return fmt.Errorf("print as json: %w", err)
	}
	_, err = io.WriteString(c.out, line.String())
	return err
}

func (c *caller) asJSON() bool { return c.output.Value == "json" }

// table prints rows below a heading, in columns.
func (c *caller) table(heading string, rows [][]string) error {
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	// What is written here shows at Flush.
	_, _ = fmt.Fprintln(w, strings.ReplaceAll(heading, " ", "\t"))
	for _, row := range rows {
		_, _ = fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// printf prints for people.
func (c *caller) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(c.out, format, args...) // the output remembers its error
}

// clean makes text from elsewhere fit for a terminal: what does not print is
// shown as in a Go string.
func clean(s string) string {
	quoted := strconv.Quote(s)
	quoted = quoted[1 : len(quoted)-1]
	return strings.ReplaceAll(quoted, `\"`, `"`)
}

// short cuts clean text to a number of characters.
func short(s string, most int) string {
	r := []rune(clean(s))
	if len(r) <= most {
		return string(r)
	}
	return string(r[:most-1]) + "…"
}

// at is a time for people: the local one, and how far away it is.
func at(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	when := t.AsTime()
	if d := time.Until(when); d > 0 {
		return when.Local().Format(time.DateTime) + " (in " + span(d) + ")"
	}
	return when.Local().Format(time.DateTime) + " (" + span(time.Since(when)) + " ago)"
}

// age is how long ago a time was.
func age(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return span(time.Since(t.AsTime()))
}

func lasting(d *durationpb.Duration) string {
	if d == nil {
		return "-"
	}
	return span(d.AsDuration())
}

// span is a duration in as many digits as people want.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Second).String(), "0s")
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

func stateName(s pb.TaskState) string { return strings.TrimPrefix(s.String(), "TASK_STATE_") }
