package main

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// curve is what a task costs as one thing grows.
type curve struct {
	part   string // the package, e.g. "balance"
	grows  string // e.g. "sessions"
	points []point
}

// point is the cost at one size: the least time of all runs, since what else runs
// on the machine only adds to it, and the median of allocations.
type point struct {
	size             int
	ns, allocs       float64
	allNS, allAllocs []float64
}

// parse reads what go test -bench printed. Curves come in the order in which they
// were first met, their points by size.
func parse(r io.Reader) ([]*curve, error) {
	var curves []*curve
	in := benchfmt.NewReader(r, "results")
	for in.Scan() {
		res, ok := in.Result().(*benchfmt.Result)
		if !ok {
			continue
		}
		base, parts := res.Name.Parts()
		if string(base) != "Growth" || len(parts) == 0 {
			continue
		}
		grows, number, _ := strings.Cut(strings.TrimPrefix(string(parts[0]), "/"), "=")
		size, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("benchmark %s: its name has no size", res.Name.Full())
		}
		p := pointOf(&curves, path.Base(res.GetConfig("pkg")), grows, size)
		p.allNS = append(p.allNS, metric(res, "ns/task"))
		p.allAllocs = append(p.allAllocs, metric(res, "allocs/task"))
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("read results: %w", err)
	}
	if len(curves) == 0 {
		return nil, errors.New("no result of BenchmarkGrowth")
	}
	for _, c := range curves {
		slices.SortFunc(c.points, func(a, b point) int { return a.size - b.size })
		for i := range c.points {
			p := &c.points[i]
			p.ns, p.allocs = slices.Min(p.allNS), median(p.allAllocs)
		}
	}
	return curves, nil
}

// pointOf finds a point, or makes it.
func pointOf(curves *[]*curve, part, grows string, size int) *point {
	i := slices.IndexFunc(*curves, func(c *curve) bool { return c.part == part && c.grows == grows })
	if i < 0 {
		i = len(*curves)
		*curves = append(*curves, &curve{part: part, grows: grows})
	}
	c := (*curves)[i]
	k := slices.IndexFunc(c.points, func(p point) bool { return p.size == size })
	if k < 0 {
		k = len(c.points)
		c.points = append(c.points, point{size: size})
	}
	return &c.points[k]
}

// metric is a value as the benchmark reported it: the reader turns ns into
// seconds.
func metric(res *benchfmt.Result, unit string) float64 {
	for _, v := range res.Values {
		switch unit {
		case v.OrigUnit:
			return v.OrigValue
		case v.Unit:
			return v.Value
		}
	}
	return 0
}

func median(all []float64) float64 {
	s := slices.Sorted(slices.Values(all))
	return (s[len(s)/2] + s[(len(s)-1)/2]) / 2
}
