// Package bench measures Reparto end to end: balancer, workers and clients as
// processes of their own that talk over loopback, next to a relay with no logic
// that is measured in the same minutes, so that ratios hold where absolute
// figures drift. docs/benchmarks.md has the method and the last numbers.
//
//	go test ./internal/bench                              # do all roles work? A few seconds
//	go test ./internal/bench -run '^$' -bench . -timeout 30m
//
// The processes are this test binary, told its role by an environment variable.
package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"testing"

	"reparto/internal/cli"
)

// roleVariable tells a process what it is; configVariable holds its config as
// JSON.
const (
	roleVariable   = "REPARTO_BENCH_ROLE"
	configVariable = "REPARTO_BENCH_CONFIG"
)

// function is the one that all tasks name, and payload what they carry.
const function = "echo"

var payload = []byte("1,2,3,4,5")

// config is what a process of any role needs to know.
type config struct {
	Address  string // of the broker
	Kind     string // of client or worker
	InFlight int
	// Warmup and Window are in milliseconds. With Tasks, the client stops after
	// that many, however long it takes.
	Warmup, Window, Tasks int
	Sessions, PerConn     int
	Profile               string // a path without its ending; empty: none
}

// role is the main of a process. It says when it is ready, and returns when its
// work is done or ctx ends, which is when the parent closes its input.
type role func(ctx context.Context, c config, say func(kind string, v any)) error

var roles = map[string]role{
	"relay": runRelay, "balancer": runBalancer, "worker": runWorker, "client": runClient, "sessions": runSessions,
}

func TestMain(m *testing.M) {
	name := os.Getenv(roleVariable)
	if name == "" {
		flag.Parse()
		os.Exit(m.Run())
	}
	if err := runRole(name); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// line is one thing that a process says on its standard output.
type line struct {
	Kind  string
	Value json.RawMessage
}

// memory is what a process holds after it has collected its garbage.
type memory struct {
	HeapBytes, StackBytes uint64
	Goroutines            int
}

func runRole(name string) error {
	cli.TuneGC()
	var c config
	if err := json.Unmarshal([]byte(os.Getenv(configVariable)), &c); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	out := json.NewEncoder(os.Stdout)
	said := make(chan struct{}, 1)
	say := func(kind string, v any) {
		said <- struct{}{}
		raw, _ := json.Marshal(v)
		out.Encode(line{kind, raw})
		<-said
	}
	go func() { // ends with the process
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() { // any line asks for the memory
			debug.FreeOSMemory()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			say("memory", memory{m.HeapAlloc, m.StackInuse, runtime.NumGoroutine()})
		}
		cancel()
	}()
	if c.Profile == "" {
		return roles[name](ctx, c, say)
	}
	f, err := os.Create(c.Profile + ".cpu")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := pprof.StartCPUProfile(f); err != nil {
		return err
	}
	err = roles[name](ctx, c, say)
	pprof.StopCPUProfile()
	allocs, createErr := os.Create(c.Profile + ".allocs")
	if createErr != nil {
		return createErr
	}
	defer allocs.Close()
	if err := pprof.Lookup("allocs").WriteTo(allocs, 0); err != nil {
		return err
	}
	return err
}
