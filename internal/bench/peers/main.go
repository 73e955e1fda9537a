// Peers measures Reparto next to what else a person can install: gearmand, NATS
// and RabbitMQ for tasks whose client waits for the result, NATS JetStream and
// RabbitMQ's quorum queues for durable ones.
//
//	make bench-peers                                    from the top of the repository
//	make bench-peers ARGS='-parts live -rounds 1'       a part of it
//	go run . -rounds 1 -rows NATS                       here; without -write it only prints
//
// Each system runs alone, from a fresh start, in an order that is shuffled each
// round; broker, clients and workers are processes of their own. Tables hold
// medians, and ratios that were taken round by round. With -write they replace
// what stands between the part's markers in docs/benchmarks.md, and plots go to
// docs/plots. It is a module of its own, so that nobody else inherits what it
// needs.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// options are what the command line says.
type options struct {
	timing
	rounds     int
	scale      int // of durable tasks
	queue      int // limit of tasks that wait, in the open loop
	openWindow time.Duration
	openRate   float64 // tasks a second that count as all it can do; 0: measured
	parts      []string
	rows       *regexp.Regexp
	points     *regexp.Regexp
	write      bool
	json       string
}

// chosen are the rows that are asked for and can run here.
func (o options) chosen(rows []row) (chosen []row) {
	for _, r := range available(rows) {
		if o.rows.MatchString(r.name) {
			chosen = append(chosen, r)
		}
	}
	return chosen
}

func main() {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("peers", flag.ExitOnError)
	flags.IntVar(&o.rounds, "rounds", 5, "rounds, each in another order")
	flags.DurationVar(&o.warmup, "warmup", 300*time.Millisecond, "how long each measurement runs before it counts")
	flags.DurationVar(&o.window, "window", 1500*time.Millisecond, "how long it counts")
	flags.DurationVar(&o.openWindow, "open-window", 3*time.Second, "how long it counts in the open loop")
	flags.Float64Var(&o.openRate, "open-rate", 0, "tasks a second that count as 100 % in the open loop; 0: each row's capacity, measured just before")
	flags.IntVar(&o.queue, "queue", 2000, "tasks that may wait in Reparto in the open loop")
	flags.IntVar(&o.scale, "scale", 1, "multiplies the number of durable tasks")
	flags.BoolVar(&o.write, "write", false, "write docs/benchmarks.md and docs/plots")
	flags.StringVar(&o.json, "json", "", "a file for every single result")
	names := flags.String("parts", "live,text,durable", "what to measure: live, text, payloads, workers, slow, open, durable; or all")
	rows := flags.String("rows", "", "only rows whose name matches this regular expression; they are never written")
	points := flags.String("points", "", "only points whose label matches, likewise (live, text, payloads, workers, slow)")
	install := flags.Bool("install", false, "as root on Debian: install gearmand and RabbitMQ first")
	_ = flags.Parse(args) // it exits by itself
	var err error
	if o.rows, err = regexp.Compile(*rows); err != nil {
		return err
	}
	if o.points, err = regexp.Compile(*points); err != nil {
		return err
	}
	if o.write && *rows+*points != "" {
		complain("only some rows or points: they are printed, and not written")
		o.write = false
	}
	if o.rounds < 1 {
		return errors.New("-rounds must be 1 or more")
	}
	if o.openRate < 0 {
		return fmt.Errorf("-open-rate %v: want tasks a second, or 0", o.openRate)
	}
	if *names == "all" {
		*names = "live,text,payloads,workers,slow,open,durable"
	}
	o.parts = strings.Split(*names, ",")
	if *install {
		if err := installPeers(ctx); err != nil {
			return err
		}
	}
	return o.measureAll(ctx, strings.Join(args, " "))
}

// measureAll measures part by part, and publishes each when it is done.
func (o options) measureAll(ctx context.Context, args string) error {
	var all []result
	failures := 0
	for _, name := range o.parts {
		do, err := o.doer(name)
		if err != nil {
			return err
		}
		m := thisMachine(args)
		doc, results, failed := do(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		failures += failed
		if len(results) == 0 {
			return fmt.Errorf("%s: nothing was measured", name)
		}
		all = append(all, results...)
		if err := o.publish(name, m, doc); err != nil {
			return err
		}
	}
	if o.json != "" {
		raw, err := json.MarshalIndent(all, "", " ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.json, raw, 0o644); err != nil {
			return err
		}
	}
	if failures > 0 {
		return fmt.Errorf("%d measurements failed", failures)
	}
	return nil
}

// doer finds what measures a part.
func (o options) doer(name string) (func(context.Context) (document, []result, int), error) {
	switch name {
	case "durable":
		return o.durable, nil
	case "open":
		return o.open, nil
	}
	for _, p := range parts {
		if p.name == name {
			return func(ctx context.Context) (document, []result, int) {
				results, failed := p.rounds(ctx, o)
				return p.document(results), results, failed
			}, nil
		}
	}
	return nil, fmt.Errorf("no part is called %q", name)
}

// complain tells whoever watches; tables go to standard output.
func complain(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func installPeers(ctx context.Context) error {
	for _, args := range [][]string{{"update"}, {"install", "-y", "gearman-job-server", "rabbitmq-server"}} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("apt-get %s: %w", args[0], err)
		}
	}
	return nil
}
