package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"time"
)

// sample is one measurement. CPU is in seconds for 100,000 tasks.
type sample struct {
	report
	BrokerCPU, ClientCPU, WorkerCPU float64
	BrokerPeak                      uint64 // bytes
}

func (s sample) allCPU() float64 { return s.BrokerCPU + s.ClientCPU + s.WorkerCPU }

// result is a sample and what it is of.
type result struct {
	Part, Row, Point string
	Round            int
	sample
}

// timing is how long each measurement takes.
type timing struct{ warmup, window time.Duration }

// processes is how many processes the workers are at most: a thousand workers
// share them.
const processes = 3

// measure starts a row's broker, workers and client, has them run, and ends them.
func measure(ctx context.Context, r row, p point, t timing, rate float64) (sample, error) {
	dir, err := os.MkdirTemp("", "reparto-peers-")
	if err != nil {
		return sample{}, err
	}
	defer os.RemoveAll(dir)
	b, err := r.start(ctx, dir)
	if err != nil {
		return sample{}, fmt.Errorf("start: %w", err)
	}
	defer b.end()
	workers, err := r.hire(dir, b.workers, p)
	defer func() {
		for _, w := range workers {
			w.end()
		}
	}()
	if err != nil {
		return sample{}, err
	}
	client, err := role(dir, config{
		Role: "client", Kind: r.way, Address: b.clients, Size: p.Size, InFlight: p.InFlight, Rate: rate,
		Warmup: t.warmup, Window: t.window,
	})
	if err != nil {
		return sample{}, err
	}
	defer client.end()
	s, err := observe(b.process, client, workers)
	if err == nil && s.Tasks == 0 && rate == 0 {
		err = fmt.Errorf("no task was done; %d were lost", s.Lost)
	}
	return s, err
}

// hire starts the row's workers.
func (r row) hire(dir, address string, p point) (workers []*process, err error) {
	for i := range min(processes, p.Workers) {
		n := p.Workers / processes
		if i < p.Workers%processes {
			n++
		}
		var w *process
		if r.craft == raw {
			if w, err = benchmarkRole(dir, "sessions", fmt.Sprintf(`{"Address":%q,"Sessions":%d,"PerConn":1}`, address, n)); err == nil {
				err = w.expect("ready", nil)
			}
		} else {
			w, err = startWorker(dir, config{Role: "worker", Kind: r.craft, Address: address, Workers: n, Takes: p.Takes})
		}
		if err != nil {
			return workers, fmt.Errorf("workers: %w", err)
		}
		workers = append(workers, w)
	}
	return workers, nil
}

// observe takes what a client reports, and what all have used in its window.
func observe(broker, client *process, workers []*process) (sample, error) {
	look := func() (of [3]usage, err error) {
		for i, ps := range [][]*process{{broker}, {client}, workers} {
			if of[i], err = use(ps...); err != nil {
				return of, err
			}
		}
		return of, nil
	}
	if err := client.expect("go", nil); err != nil {
		return sample{}, err
	}
	before, err := look()
	if err != nil {
		return sample{}, err
	}
	if err := client.expect("end", nil); err != nil {
		return sample{}, err
	}
	after, err := look()
	if err != nil {
		return sample{}, err
	}
	var s sample
	if err := client.expect("report", &s.report); err != nil {
		return sample{}, err
	}
	if s.Tasks > 0 {
		cpu := func(i int) float64 { return (after[i].CPU - before[i].CPU).Seconds() * 100_000 / float64(s.Tasks) }
		s.BrokerCPU, s.ClientCPU, s.WorkerCPU = cpu(0), cpu(1), cpu(2)
	}
	last, err := use(broker) // what is left over may have taken more
	s.BrokerPeak = last.Peak
	return s, err
}

// rounds measures every row of a part at every point, in another order each
// round. What goes wrong is said, and counted.
func (p part) rounds(ctx context.Context, o options) (results []result, failures int) {
	type cell struct {
		row
		point
	}
	var cells []cell
	for _, r := range o.chosen(p.rows) {
		for _, at := range p.points {
			if o.points.MatchString(at.Label) {
				cells = append(cells, cell{r, at})
			}
		}
	}
	for round := range o.rounds {
		for _, i := range rand.Perm(len(cells)) {
			c := cells[i]
			s, err := measure(ctx, c.row, c.point, o.timing, 0)
			if ctx.Err() != nil {
				return results, failures + 1
			}
			if err != nil {
				failures++
				complain("FAILED: %s at %v: %v", c.name, c.point, err)
				continue
			}
			results = append(results, result{p.name, c.name, c.Label, round, s})
			complain("%s, round %d: %s at %s: %.0f/s, p99 %.0f µs, %d lost", p.name, round+1, c.name, c.Label, s.Rate, s.P99, s.Lost)
		}
	}
	return results, failures
}
