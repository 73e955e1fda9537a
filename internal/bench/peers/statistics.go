package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// pick returns the results of a row at a point, in order of rounds.
func pick(results []result, row, point string) (picked []result) {
	for _, r := range results {
		if r.Row == row && r.Point == point {
			picked = append(picked, r)
		}
	}
	return picked
}

func values(of []result, value func(result) float64) (v []float64) {
	for _, r := range of {
		v = append(v, value(r))
	}
	return v
}

func medianOf(of []result, value func(result) float64) float64 { return median(values(of, value)) }

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[len(v)/2] + v[(len(v)-1)/2]) / 2
}

// ratio is the median of each round's ratio to the base, and its lowest and
// highest; empty when they have no round in common.
func ratio(of, base []result, value func(result) float64) string {
	var ratios []float64
	for _, r := range of {
		for _, b := range base {
			if b.Round == r.Round && value(b) > 0 {
				ratios = append(ratios, value(r)/value(b))
			}
		}
	}
	if len(ratios) == 0 {
		return ""
	}
	return spreadOf(ratios, func(v float64) string { return fmt.Sprintf("%.2f", v) })
}

// spreadOf writes the median, and what it lies between unless that is the same.
func spreadOf(v []float64, write func(float64) string) string {
	low, high := write(slices.Min(v)), write(slices.Max(v))
	if low == high {
		return low
	}
	return fmt.Sprintf("%s (%s to %s)", write(median(v)), low, high)
}

// count writes a number to three digits, with commas.
func count(v float64) string {
	if v >= 1000 {
		unit := math.Pow10(int(math.Log10(v)) - 2)
		v = math.Round(v/unit) * unit
	}
	text := strconv.FormatFloat(math.Round(v), 'f', 0, 64)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// duration writes microseconds to two digits or more.
func duration(us float64) string {
	switch {
	case us == 0: // of no task at all
		return "–"
	case us < 1000:
		return fmt.Sprintf("%.0f µs", us)
	case us < 10_000:
		return fmt.Sprintf("%.1f ms", us/1000)
	case us < 10_000_000:
		return fmt.Sprintf("%.0f ms", us/1000)
	}
	return fmt.Sprintf("%.0f s", us/1e6)
}
