package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
)

// levels are the loads of the open loop, in percent of the capacity that the
// same system has in a closed one.
var levels = []int{50, 80, 100, 120}

// whole is the level that the goodput of the others is compared to.
const whole = 100

// capacityLabel names the closed loop, which has as many in flight as its point
// says.
const capacityLabel = "capacity"

// openRow is a row of the open loop and the point that it is measured at.
type openRow struct {
	row
	at point
}

func (o options) openRows() []openRow {
	limited := func(ctx context.Context, dir string) (broker, error) {
		return startBalancer(ctx, dir, "--max-function-queued-tasks", strconv.Itoa(o.queue), "--max-in-flight", strconv.Itoa(openSlots))
	}
	// With its default of 991, many waiting tasks cost gearmand so much that it
	// never recovers.
	roomy := func(ctx context.Context, dir string) (broker, error) {
		return gearmandWith(ctx, dir, "--hashtable-buckets", "1000003")
	}
	quick := point{InFlight: 1024, Size: 9, Workers: 3}
	// What bounds these is the slots of the worker, and not the processor.
	slow := point{InFlight: 1024, Size: 9, Workers: 1, Takes: 10 * time.Millisecond}
	return []openRow{
		{row{repartoFunc.name, limited, repartoFunc.craft, repartoFunc.way}, quick},
		{row{repartoFunc.name + ", 1 worker, tasks of 10 ms", limited, repartoFunc.craft, repartoFunc.way}, slow},
		{row{gearmanBest.name, roomy, gearmanBest.craft, gearmanBest.way}, quick},
		{natsAsync, quick},
	}
}

// open measures arrivals by the clock. What else runs on the machine changes in
// seconds, so all loads of a row follow at once upon its capacity.
func (o options) open(ctx context.Context) (document, []result, int) {
	var rows []openRow
	for _, r := range o.openRows() {
		if len(o.chosen([]row{r.row})) > 0 {
			rows = append(rows, r)
		}
	}
	var results []result
	failures := 0
	add := func(r openRow, label string, round int, t timing, rate float64) sample {
		s, err := measure(ctx, r.row, r.at, t, rate)
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
	for round := range o.rounds {
		for _, i := range rand.Perm(len(rows)) {
			r := rows[i]
			capacity := o.openRate
			if capacity == 0 {
				capacity = add(r, capacityLabel, round, o.timing, 0).Rate
			}
			for _, l := range rand.Perm(len(levels)) {
				if capacity > 0 && ctx.Err() == nil {
					add(r, percent(levels[l]), round, timing{o.warmup, o.openWindow}, capacity*float64(levels[l])/100)
				}
			}
			if ctx.Err() != nil {
				return document{}, results, failures
			}
		}
	}
	return openDocument(rows, results, o.queue), results, failures
}

func percent(level int) string { return fmt.Sprintf("%d %%", level) }

func openDocument(rows []openRow, results []result, queue int) document {
	d := document{
		title: "tasks of 9 bytes that arrive by the clock (Poisson), 3 workers where nothing else is said, at a part of the capacity measured just before",
		head: []string{"", "of capacity", "asked/s", "offered/s", "goodput/s", "of the goodput at 100 %", "refused/s", "failed", "lost",
			"p50", "p99", "p99.9", "broker's memory"},
		notes: fmt.Sprintf("Latencies count from when a task was due, not from when it was sent, and are of those accepted. *asked*: what the clock said; "+
			"*offered*: what the client managed to hand over; *goodput*: results within the window, and round by round its part of that at 100 %%, lowest to highest in brackets; "+
			"*refused*: at once, RESOURCE_EXHAUSTED. *lost*: no result %v after the window. In Reparto %d tasks may wait; the others have no such limit; "+
			"gearmand has a million hash buckets here.", patience, queue),
	}
	var names, labels []string
	for _, l := range levels {
		labels = append(labels, percent(l))
	}
	for _, r := range rows {
		names = append(names, r.name)
		full := pick(results, r.name, percent(whole))
		for _, at := range append([]string{capacityLabel}, labels...) {
			if of := pick(results, r.name, at); len(of) > 0 {
				d.body = append(d.body, append([]string{r.name, at}, openCells(of, full)...))
			}
		}
	}
	d.plots = []plotted{
		{"goodput", "Results a second, by offered part of capacity", "results a second", names, labels, results, func(r result) float64 { return r.Rate }},
		{"p99", "99 % of accepted tasks take no longer, by offered part of capacity", "milliseconds", names, labels, results, func(r result) float64 { return r.P99 / 1000 }},
	}
	return d
}

func openCells(of, full []result) []string {
	rate := func(v func(result) float64) string { return count(medianOf(of, v)) }
	us := func(v func(result) float64) string { return duration(medianOf(of, v)) }
	var lost, failed uint64
	for _, r := range of {
		lost, failed = lost+r.Lost, failed+r.Failed
	}
	return []string{
		rate(func(r result) float64 { return r.Asked }), rate(func(r result) float64 { return r.Offered }),
		rate(func(r result) float64 { return r.Rate }), ratio(of, full, func(r result) float64 { return r.Rate }),
		rate(func(r result) float64 { return r.Refused }), fmt.Sprint(failed), fmt.Sprint(lost),
		us(func(r result) float64 { return r.P50 }), us(func(r result) float64 { return r.P99 }), us(func(r result) float64 { return r.P999 }),
		fmt.Sprintf("%.0f MiB", medianOf(of, func(r result) float64 { return float64(r.BrokerPeak) / (1 << 20) })),
	}
}
