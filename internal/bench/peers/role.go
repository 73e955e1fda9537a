package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"
)

// roleVariable makes this program play a worker or a client instead of measuring;
// it holds a config as JSON.
const roleVariable = "REPARTO_PEERS_ROLE"

// config is what a process of any role needs to know.
type config struct {
	Role    string
	Kind    string // of client or worker
	Address string // of the broker
	Size    int    // bytes of a payload

	// Of a client. A closed loop keeps InFlight tasks in flight; with a Rate, an
	// open loop hands over so many a second, come what may.
	InFlight       int
	Rate           float64
	Warmup, Window time.Duration

	// Of a worker process: how many workers it is, and how long a task takes.
	Workers int
	Takes   time.Duration
}

// say tells the parent something: what it is, and a value.
type say func(kind string, v any)

// line is one thing said, on the child's standard output.
type line struct {
	Kind  string
	Value json.RawMessage
}

// roles are what this program can play. Each returns when its work is done or ctx
// ends, which is when the parent closes the child's standard input.
var roles map[string]func(ctx context.Context, c config, tell say) error

func init() { // not where it is declared: the roles start processes themselves
	roles = map[string]func(context.Context, config, say) error{
		"client": runClient, "worker": runWorker,
		"text-relay": runTextRelay, "reparto": repartoWorker, "jetstream": jetStreamWorker, "rabbitmq": rabbitWorker,
	}
}

// gcPercent is the same for all clients and workers, so that none looks better by
// its collector.
const gcPercent = 400

func play(raw string) int {
	var c config
	if err := json.Unmarshal([]byte(raw), &c); err != nil {
		fmt.Fprintln(os.Stderr, "role:", err)
		return 2
	}
	debug.SetGCPercent(gcPercent)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	out := json.NewEncoder(os.Stdout)
	err := roles[c.Role](ctx, c, func(kind string, v any) {
		value, _ := json.Marshal(v) // our own types
		_ = out.Encode(line{kind, value})
	})
	if err != nil && ctx.Err() == nil {
		fmt.Fprintf(os.Stderr, "%s %s: %v\n", c.Role, c.Kind, err)
		return 1
	}
	return 0
}
