package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
)

// levels are the loads of the open loop, in percent of the capacity that the
// same system had just before in a closed one.
var levels = []int{50, 80, 120}

// openPoint is what the open loop is measured at; its capacity has as many in
// flight.
var openPoint = point{Label: "capacity", InFlight: 1024, Size: 9, Workers: 3}

func (o options) openRows() []row {
	limited := func(ctx context.Context, dir string) (broker, error) {
		return startBalancer(ctx, dir, "--max-function-queued-tasks", strconv.Itoa(o.queue), "--max-in-flight", strconv.Itoa(openSlots))
	}
	// With its default of 991, many waiting tasks cost gearmand so much that it
	// never recovers.
	roomy := func(ctx context.Context, dir string) (broker, error) {
		return gearmandWith(ctx, dir, "--hashtable-buckets", "1000003")
	}
	return []row{
		{repartoFunc.name, limited, repartoFunc.craft, repartoFunc.way},
		{gearmanBest.name, roomy, gearmanBest.craft, gearmanBest.way},
		natsAsync,
	}
}

// open measures arrivals by the clock.
func (o options) open(ctx context.Context) (document, []result, int) {
	rows := o.chosen(o.openRows())
	var results []result
	failures := 0
	add := func(r row, label string, round int, t timing, rate float64) sample {
		s, err := measure(ctx, r, openPoint, t, rate)
		if err != nil {
			if ctx.Err() == nil {
				complain("FAILED: %s at %s: %v", r.name, label, err)
			}
			failures++
			return sample{}
		}
		results = append(results, result{"open", r.name, label, round, s})
		complain("open, round %d: %s at %s: %.0f/s of %.0f/s, p99 %.0f µs", round+1, r.name, label, s.Rate, s.Offered, s.P99)
		return s
	}
	type cell struct {
		row
		level int
	}
	var cells []cell
	for _, r := range rows {
		for _, l := range levels {
			cells = append(cells, cell{r, l})
		}
	}
	for round := range o.rounds {
		for _, i := range rand.Perm(len(cells)) {
			c := cells[i]
			// Just before each: what else runs on the machine changes in seconds.
			capacity := add(c.row, openPoint.Label, round, o.timing, 0).Rate
			if capacity > 0 && ctx.Err() == nil {
				add(c.row, percent(c.level), round, timing{o.warmup, o.openWindow}, capacity*float64(c.level)/100)
			}
			if ctx.Err() != nil {
				return document{}, results, failures
			}
		}
	}
	return openDocument(rows, results, o.queue), results, failures
}

func percent(level int) string { return fmt.Sprintf("%d %%", level) }

func openDocument(rows []row, results []result, queue int) document {
	d := document{
		title: "tasks of 9 bytes that arrive by the clock (Poisson), 3 workers, at a part of the capacity measured just before",
		head:  []string{"", "of capacity", "asked/s", "offered/s", "goodput/s", "refused/s", "failed", "lost", "p50", "p99", "p99.9", "broker's memory"},
		notes: fmt.Sprintf("Latencies count from when a task was due, not from when it was sent, and are of those accepted. *asked*: what the clock said; "+
			"*offered*: what the client managed to hand over; *goodput*: results within the window; *refused*: at once, RESOURCE_EXHAUSTED. "+
			"*lost*: no result %v after the window. In Reparto %d tasks may wait; the others have no such limit; gearmand has a million hash buckets here.",
			patience, queue),
	}
	var names, labels []string
	for _, l := range levels {
		labels = append(labels, percent(l))
	}
	for _, r := range rows {
		names = append(names, r.name)
		for _, at := range append([]string{openPoint.Label}, labels...) {
			if of := pick(results, r.name, at); len(of) > 0 {
				d.body = append(d.body, append([]string{r.name, at}, openCells(of)...))
			}
		}
	}
	d.plots = []plotted{
		{"goodput", "Results a second, by offered part of capacity", "results a second", names, labels, results, func(r result) float64 { return r.Rate }},
		{"p99", "99 % of accepted tasks take no longer, by offered part of capacity", "milliseconds", names, labels, results, func(r result) float64 { return r.P99 / 1000 }},
	}
	return d
}

func openCells(of []result) []string {
	rate := func(v func(result) float64) string { return count(medianOf(of, v)) }
	us := func(v func(result) float64) string { return duration(medianOf(of, v)) }
	var lost, failed uint64
	for _, r := range of {
		lost, failed = lost+r.Lost, failed+r.Failed
	}
	return []string{
		rate(func(r result) float64 { return r.Asked }), rate(func(r result) float64 { return r.Offered }),
		rate(func(r result) float64 { return r.Rate }), rate(func(r result) float64 { return r.Refused }),
		fmt.Sprint(failed), fmt.Sprint(lost),
		us(func(r result) float64 { return r.P50 }), us(func(r result) float64 { return r.P99 }), us(func(r result) float64 { return r.P999 }),
		fmt.Sprintf("%.0f MiB", medianOf(of, func(r result) float64 { return float64(r.BrokerPeak) / (1 << 20) })),
	}
}
