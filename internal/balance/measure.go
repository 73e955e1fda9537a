package balance

import (
	"slices"
	"strings"
	"time"
)

// Measure is what has been counted of a function since the balancer started, or of
// all those together that have no Measure of their own.
type Measure struct {
	Function string // empty: of the others
	// How many there are now.
	Queued, Scheduled, Running int
	OldestAge                  time.Duration // of the queued; not known of the others
	Totals                     Totals
	// Dispatch is from when a task could run to when a worker was given it, Run from
	// then to the worker's answer. Nil before there is any.
	Dispatch, Run *Histogram
}

// measures are what is counted, also of functions that are gone: the core forgets a
// function as soon as nobody needs it, and a counter must not go back.
type measures struct {
	own    []*Measure // of at most MaxMeasured functions; totals without what its function has
	others Measure    // without totals: those are what is left of all
	all    Totals
}

// measure finds where a function that becomes known is counted: by itself, or with
// the others when there are as many as there may be. One whose function is gone
// makes room, and counts among the others from then on.
func (s *State) measure(f *function) {
	m := &s.measures
	if i := slices.IndexFunc(m.own, func(own *Measure) bool { return own.Function == f.name }); i >= 0 {
		f.measure = m.own[i]
		return
	}
	f.measure = &Measure{Function: f.name}
	if len(m.own) < s.opt.MaxMeasured {
		m.own = append(m.own, f.measure)
		return
	}
	i := slices.IndexFunc(m.own, func(own *Measure) bool { return s.functions[own.Function] == nil })
	if i < 0 {
		f.measure = &m.others
		return
	}
	m.others.Dispatch = m.others.Dispatch.merged(m.own[i].Dispatch)
	m.others.Run = m.others.Run.merged(m.own[i].Run)
	m.own = append(slices.Delete(m.own, i, i+1), f.measure)
}

// Measures returns what is counted of each function that is counted by itself, in
// the order of their names, and of the others last. It is all a copy.
func (s *State) Measures(now time.Time) []Measure {
	others := s.measures.others.copied()
	others.Queued, others.Scheduled, others.Running, others.Totals = s.queued, s.scheduled, s.running, s.measures.all
	var list []Measure
	for _, own := range s.measures.own {
		m := own.copied()
		if f := s.functions[m.Function]; f != nil && f.measure == own {
			m.Queued, m.Scheduled, m.Running = f.waitsFor.len, f.waiting, f.running
			m.Totals = m.Totals.plus(f.totals, 1)
			if head := f.waitsFor.oldest(); head != nil {
				m.OldestAge = now.Sub(head.mayRunSince())
			}
		}
		others.Queued, others.Scheduled, others.Running = others.Queued-m.Queued, others.Scheduled-m.Scheduled, others.Running-m.Running
		others.Totals = others.Totals.plus(m.Totals, -1)
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b Measure) int { return strings.Compare(a.Function, b.Function) })
	return append(list, others)
}

func (m *Measure) copied() Measure {
	c := *m
	c.Dispatch, c.Run = m.Dispatch.copied(), m.Run.copied()
	return c
}

// plus adds another's counts, so many times.
func (t Totals) plus(o Totals, times int64) Totals {
	return Totals{
		t.Submitted + times*o.Submitted, t.Succeeded + times*o.Succeeded, t.Failed + times*o.Failed,
		t.Cancelled + times*o.Cancelled, t.Expired + times*o.Expired, t.Retried + times*o.Retried,
	}
}

// dispatched and answered note how long a task waited and how long an attempt took.
func (f *function) dispatched(now time.Time, waited time.Duration) {
	if f.measure.Dispatch == nil {
		f.measure.Dispatch = &Histogram{}
	}
	f.measure.Dispatch.add(now, waited)
}

func (f *function) answered(now time.Time, took time.Duration) {
	if f.measure.Run == nil {
		f.measure.Run = &Histogram{}
	}
	f.measure.Run.add(now, took)
}
