// Peers measures durable tasks in Reparto next to what else a person can install:
// NATS JetStream with file storage, as it comes (synced every two minutes) and
// with every message synced, and RabbitMQ's quorum queues with confirms.
//
//	make bench-peers              from the top of the repository
//	go run . -rounds 5            here
//
// Every system runs alone, with its own fresh data, in an order that is shuffled
// each round; the table holds medians, and ratios to Reparto in the same run. It
// is a module of its own, so that nobody else inherits what it needs.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"time"
)

// system is something that takes durable tasks.
type system interface {
	// start begins with no data, in a directory of its own.
	start(ctx context.Context, dir string) error
	// enqueue hands over n tasks, so many at a time in flight, and returns once all
	// are acknowledged.
	enqueue(ctx context.Context, n, inFlight int, payload []byte) error
	// work does the same while three workers take the tasks, and returns once all
	// are done.
	work(ctx context.Context, n, inFlight int, payload []byte) error
	stop()
}

type contender struct {
	name string
	make func() system
	// fewer divides the number of tasks, for what would take minutes else.
	fewer int
}

// load is one row of the table.
type load struct {
	name     string
	n        int
	inFlight int
	size     int
	work     bool
}

func loads(scale int) []load {
	return []load{
		{"enqueue, 9 B, 1 in flight", 2_000 * scale, 1, 9, false},
		{"enqueue, 9 B, 64 in flight", 40_000 * scale, 64, 9, false},
		{"enqueue, 9 B, 1024 in flight", 100_000 * scale, 1024, 9, false},
		{"enqueue, 1 KiB, 1 in flight", 2_000 * scale, 1, 1024, false},
		{"enqueue, 1 KiB, 64 in flight", 40_000 * scale, 64, 1024, false},
		{"enqueue, 1 KiB, 1024 in flight", 100_000 * scale, 1024, 1024, false},
		{"enqueue to done, 9 B, 1024 in flight, 3 workers", 50_000 * scale, 1024, 9, true},
		{"enqueue to done, 1 KiB, 1024 in flight, 3 workers", 50_000 * scale, 1024, 1024, true},
	}
}

func main() {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role))
	}
	rounds := flag.Int("rounds", 5, "how many rounds")
	scale := flag.Int("scale", 1, "multiplies the number of tasks")
	only := flag.String("only", "", "systems whose names contain this")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := compare(ctx, *rounds, *scale, *only); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// compare runs all rounds and prints the table.
func compare(ctx context.Context, rounds, scale int, only string) error {
	contenders := slices.DeleteFunc(all(), func(c contender) bool { return !strings.Contains(c.name, only) })
	rows := loads(scale)
	rates := map[string][][]float64{}
	for _, c := range contenders {
		rates[c.name] = make([][]float64, len(rows))
	}
	for round := range rounds {
		order := slices.Clone(contenders)
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, c := range order {
			for i, l := range rows {
				rate, err := one(ctx, c, l)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", c.name, l.name, err)
				}
				rates[c.name][i] = append(rates[c.name][i], rate)
				fmt.Fprintf(os.Stderr, "round %d: %s: %s: %.0f/s\n", round+1, c.name, l.name, rate)
			}
		}
	}
	print(contenders, rows, rates)
	return nil
}

// one runs one load on one system, from a fresh start.
func one(ctx context.Context, c contender, l load) (rate float64, err error) {
	dir, err := os.MkdirTemp("", "reparto-peers-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	s := c.make()
	if err := s.start(ctx, dir); err != nil {
		return 0, fmt.Errorf("start: %w", err)
	}
	defer s.stop()
	if c.fewer > 1 {
		l.n = max(l.n/c.fewer, 4*l.inFlight)
	}
	payload := []byte(strings.Repeat("x", l.size))
	do, warm := s.enqueue, max(l.n/20, 1)
	if l.work {
		do = s.work
	}
	if err := do(ctx, warm, l.inFlight, payload); err != nil {
		return 0, fmt.Errorf("warm-up: %w", err)
	}
	began := time.Now()
	if err := do(ctx, l.n, l.inFlight, payload); err != nil {
		return 0, err
	}
	return float64(l.n) / time.Since(began).Seconds(), nil
}

func print(contenders []contender, rows []load, rates map[string][][]float64) {
	fmt.Printf("%s, %d cores, %s; tasks a second, median (lowest to highest), and the part of the first column\n\n",
		time.Now().Format(time.DateOnly), runtime.NumCPU(), runtime.Version())
	fmt.Print("| load |")
	for _, c := range contenders {
		fmt.Printf(" %s |", c.name)
	}
	fmt.Print("\n|---|" + strings.Repeat("---|", len(contenders)) + "\n")
	for i, l := range rows {
		fmt.Printf("| %s |", l.name)
		first := median(rates[contenders[0].name][i])
		for _, c := range contenders {
			r := rates[c.name][i]
			m := median(r)
			fmt.Printf(" %.0f (%.0f to %.0f), %.2f |", m, slices.Min(r), slices.Max(r), m/first)
		}
		fmt.Println()
	}
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[len(v)/2] + v[(len(v)-1)/2]) / 2
}
