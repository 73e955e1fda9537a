package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"reparto/internal/cli"
	"reparto/internal/doctor"
)

// doctorFlags are those of the command beside the balancer's.
type doctorFlags struct {
	balancer      cli.Peer
	timeout, idle time.Duration
	expiryWarning string
	warnBefore    time.Duration // expiryWarning, once it is read
	largest       int
	output        cli.Choice
	json          bool
}

func newDoctor() *cobra.Command {
	d := &doctorFlags{output: cli.Choice{Value: "text", Allowed: []string{"text", "json"}}}
	cmd := &cobra.Command{
		Use: "doctor [flags]", Short: "Examine the way to the balancer, and what stands between", Args: cobra.NoArgs, DisableFlagsInUseLine: true,
		Long: `Examine the way to the balancer, and what stands between.

It goes the way that clients and workers go, and tells what it finds, a check
to a line: ok, warn, FAIL or skip, and what to do. Where a proxy is at fault,
the lines of HAProxy's or Nginx's configuration follow. It leaves no task and no
worker behind. Exit codes: 0 nothing failed, 1 something did, 3 no connection.

It takes seconds. Streams are held idle only with --idle: give more than the
time limits of what stands between, which are 60 s where nobody changed them.`,
		Example: `  client doctor --balancer balancer.example:443 --tls
  client doctor --balancer balancer.example:443 --tls --token-file shop.token --idle 90s
  client doctor --output json | jq -r 'select(.status == "FAIL").check'`,
	}
	f := cmd.Flags()
	f.SortFlags = false
	d.balancer.AddFlags(f)
	f.DurationVar(&d.idle, "idle", 0, "hold streams for this `TIME` on which nothing passes; 0: none")
	f.IntVar(&d.largest, "largest", 0, "try messages up to this many `BYTES`; 0: the balancer's own limit, -1: none")
	f.StringVar(&d.expiryWarning, "expiry-warning", "30d", "warn of certificates that expire within this `TIME`, such as 30d or 36h")
	f.DurationVar(&d.timeout, "timeout", 10*time.Second, "how long each connection and each call may take; large messages thrice as long")
	f.Var(&d.output, "output", "text, or json: an object to a line, a check each, and then the advice")
	f.BoolVar(&d.json, "json", false, "the same as --output json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := d.validate(); err != nil {
			return cli.Exit(cli.Usage, err)
		}
		return d.examine(cmd)
	}
	return cmd
}

func (d *doctorFlags) validate() (err error) {
	switch {
	case d.timeout <= 0:
		return fmt.Errorf("--timeout is %v; give more than 0", d.timeout)
	case d.idle < 0:
		return fmt.Errorf("--idle is %v; give 0 or more", d.idle)
	case d.largest < -1:
		return fmt.Errorf("--largest is %d; give a number of bytes, 0 for the balancer's own limit, or -1 for none", d.largest)
	}
	if d.warnBefore, err = days(d.expiryWarning); err != nil {
		return fmt.Errorf("--expiry-warning is %q: %w", d.expiryWarning, err)
	}
	return d.balancer.Check()
}

func (d *doctorFlags) examine(cmd *cobra.Command) error {
	first, err := d.balancer.Dial(nil) // reads the files
	if err != nil {
		return err
	}
	_ = first.Close() // it was not used
	o := doctor.Options{
		Target: d.balancer.Target, ServerName: d.balancer.ServerName(), Timeout: d.timeout, ExpiryWarning: d.warnBefore,
		Idle: d.idle, Largest: d.largest,
		Dial: func(more ...grpc.DialOption) (*grpc.ClientConn, error) { return d.balancer.Dial(nil, more...) },
	}
	if d.balancer.TLS() {
		o.Credentials = d.balancer.Credentials()
	}
	if o.Certificate, err = d.balancer.Certificate(); err != nil {
		return cli.Exit(cli.Usage, err)
	}
	out := &watched{w: cmd.OutOrStdout()}
	asJSON := d.json || d.output.Value == "json"
	report, err := doctor.Examine(cmd.Context(), o, func(f doctor.Finding) { printFinding(out, f, asJSON) })
	for i, a := range report.Advice {
		printAdvice(out, a, asJSON, i == 0)
	}
	switch {
	case cli.IsClosedOutput(out.failed()): // nobody reads any more
		return nil
	case cmd.Context().Err() != nil:
		return cli.Exit(cli.Interrupted, nil)
	case err != nil:
		return err
	case out.failed() != nil:
		return out.failed()
	case !report.Reached:
		return cli.Exit(cli.NoConnection, nil)
	case report.Failed():
		return cli.Exit(cli.Failed, nil)
	}
	return nil
}

// printFinding writes a line; the output remembers its error.
func printFinding(out *watched, f doctor.Finding, asJSON bool) {
	if asJSON {
		printObject(out, f)
		return
	}
	line := fmt.Sprintf("%-4s  %-18s  %s", f.Status, f.Check, clean(f.Said))
	if f.Do != "" {
		line += ". Do: " + clean(f.Do)
	}
	_, _ = fmt.Fprintln(out, line)
}

func printAdvice(out *watched, a doctor.Advice, asJSON, first bool) {
	if asJSON {
		printObject(out, struct {
			Check string `json:"check"`
			doctor.Advice
		}{"advice", a})
		return
	}
	heading := "If it is " + a.Proxy + ", change:"
	if a.Because != "" {
		heading = "Change in the configuration of " + a.Proxy + " (to judge by " + clean(a.Because) + "):"
	}
	if first {
		heading = "\n" + heading
	}
	_, _ = fmt.Fprintln(out, heading)
	for _, l := range a.Lines {
		_, _ = fmt.Fprintln(out, "    "+clean(l))
	}
}

func printObject(out *watched, v any) {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // ours always marshal; the output remembers its error
}
