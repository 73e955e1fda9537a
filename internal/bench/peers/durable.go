package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
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

// durable runs all rounds of the part with durable tasks.
func (o options) durable(ctx context.Context) (document, []result, int) {
	contenders := slices.DeleteFunc(contenders(), func(c contender) bool { return !o.rows.MatchString(c.name) })
	rows := loads(o.scale)
	var results []result
	failures := 0
	for round := range o.rounds {
		for _, k := range rand.Perm(len(contenders)) {
			c := contenders[k]
			for _, l := range rows {
				rate, err := one(ctx, c, l)
				if ctx.Err() != nil {
					return document{}, results, failures + 1
				}
				if err != nil {
					failures++
					complain("FAILED: %s: %s: %v", c.name, l.name, err)
					continue
				}
				results = append(results, result{"durable", c.name, l.name, round, sample{report: report{Rate: rate}}})
				complain("durable, round %d: %s: %s: %.0f/s", round+1, c.name, l.name, rate)
			}
		}
	}
	return durableDocument(contenders, rows, results), results, failures
}

// one runs one load on one system, from a fresh start.
func one(ctx context.Context, c contender, l load) (rate float64, err error) {
	dir, err := os.MkdirTemp("", "reparto-peers-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	s := c.make()
	defer s.stop()
	if err := s.start(ctx, dir); err != nil {
		return 0, fmt.Errorf("start: %w", err)
	}
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

func durableDocument(contenders []contender, rows []load, results []result) document {
	head := []string{"load"}
	for _, c := range contenders {
		head = append(head, c.name)
	}
	d := document{title: "durable tasks a second, median (lowest to highest), and the ratio to the first column, round by round", head: head}
	for _, l := range rows {
		line := []string{l.name}
		for _, c := range contenders {
			s := pick(results, c.name, l.name)
			if len(s) == 0 {
				line = append(line, "")
				continue
			}
			rate := func(r result) float64 { return r.Rate }
			text := spreadOf(values(s, rate), count)
			if c.name != contenders[0].name {
				text += "; × " + ratio(s, pick(results, contenders[0].name, l.name), rate)
			}
			line = append(line, text)
		}
		d.body = append(d.body, line)
	}
	return d
}
