package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A plot is drawn from whatever there is: nothing at a point, or a value that no
// logarithm has.
func TestPlotsAreSaved(t *testing.T) {
	at := func(row, point string, rate float64) result {
		return result{Row: row, Point: point, sample: sample{report: report{Rate: rate}}}
	}
	p := plotted{
		name: "rate", title: "Tasks a second", unit: "tasks a second", rows: []string{"*one*", "two"}, points: []string{"1", "64"},
		results: []result{at("*one*", "1", 1000), at("*one*", "1", 3000), at("two", "1", 0), at("two", "64", 20_000)},
		value:   func(r result) float64 { return r.Rate },
	}
	file := filepath.Join(t.TempDir(), "plots", "live-rate.svg")
	if err := p.save(file); err != nil {
		t.Fatal(err)
	}
	svg, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(svg), "<svg") || !strings.Contains(string(svg), ">one<") {
		t.Errorf("%.200s, %v", svg, err)
	}
}
