package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
)

// document is what a part comes to.
type document struct {
	title string
	head  []string
	body  [][]string
	notes string
	plots []plotted
}

// render returns the document's table for a terminal, and for Markdown.
func (d document) render() (terminal, markdown string) {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	row := func(cells []string) (r table.Row) {
		for _, c := range cells {
			r = append(r, c)
		}
		return r
	}
	t.AppendHeader(row(d.head))
	for _, cells := range d.body {
		t.AppendRow(row(cells))
	}
	return t.Render(), t.RenderMarkdown()
}

const closing = "<!-- /bench-peers -->"

// publish prints a part's table and, if asked to, puts it into the docs.
func (o options) publish(name string, m machine, d document) error {
	terminal, markdown := d.render()
	fmt.Printf("\n%s: %s\n%s\n%s\n", name, d.title, m, terminal)
	if !o.write {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s.\n\n%s\n", strings.ToUpper(d.title[:1]), d.title[1:], markdown)
	for _, p := range d.plots {
		file := name + "-" + p.name + ".svg"
		if err := p.save(filepath.Join(top(), "docs", "plots", file)); err != nil {
			return err
		}
		fmt.Fprintf(&b, "\n![%s](plots/%s)\n", p.title, file)
	}
	if d.notes != "" {
		fmt.Fprintf(&b, "\n%s\n", d.notes)
	}
	fmt.Fprintf(&b, "\n%s\n", m)
	page := filepath.Join(top(), "docs", "benchmarks.md")
	old, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	text, err := replaced(string(old), name, b.String())
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	return os.WriteFile(page, []byte(text), 0o644)
}

// replaced puts a text between the markers of a part.
func replaced(page, name, text string) (string, error) {
	opening := "<!-- bench-peers:" + name + " -->"
	before, rest, ok := strings.Cut(page, opening)
	if !ok {
		return "", fmt.Errorf("no %s", opening)
	}
	_, after, ok := strings.Cut(rest, closing)
	if !ok {
		return "", fmt.Errorf("no %s after %s", closing, opening)
	}
	return before + opening + "\n" + text + closing + after, nil
}

// document is the table of a part: a line for each row at each point.
func (p part) document(results []result) document {
	d := document{
		title: p.title,
		head: []string{
			p.axis, "", "tasks/s (lowest to highest)", "of " + strings.Trim(strings.ReplaceAll(p.base, "Reparto, ", ""), "*"), "the same, per CPU",
			"p50", "p99", "p99.9", "broker", "client", "workers", "broker's memory", "lost",
		},
		notes: fmt.Sprintf("*broker, client, workers*: CPU seconds for 100,000 tasks. *per CPU*: the ratio of tasks for each CPU second of all processes together. "+
			"*broker's memory*: the most that was resident. *lost*: no result %v after the window, in all rounds"+p.lossy(), patience),
	}
	var names []string
	for _, r := range p.rows {
		if slices.ContainsFunc(results, func(s result) bool { return s.Row == r.name }) {
			names = append(names, r.name)
		}
	}
	var labels []string
	for _, at := range p.points {
		labels = append(labels, at.Label)
		for _, name := range names {
			if of := pick(results, name, at.Label); len(of) > 0 {
				d.body = append(d.body, append([]string{at.Label, name}, cells(of, pick(results, p.base, at.Label))...))
			}
		}
	}
	d.plots = []plotted{
		{"rate", "Tasks a second, by " + p.axis, "tasks a second", names, labels, results, func(r result) float64 { return r.Rate }},
		{"p99", "99 % of tasks take no longer, by " + p.axis, "milliseconds", names, labels, results, func(r result) float64 { return r.P99 / 1000 }},
	}
	return d
}

// lossy says what else counts as lost, where clients go on without a result.
func (p part) lossy() string {
	if slices.ContainsFunc(p.rows, func(r row) bool { return r.way == lossy }) {
		return fmt.Sprintf("; of Python: or none within %v, when its client dials again.", textPatience)
	}
	return "."
}

func cells(of, base []result) []string {
	rate := func(r result) float64 { return r.Rate }
	perCPU := func(r result) float64 { return 1 / max(r.allCPU(), 1e-9) }
	lost := uint64(0)
	for _, r := range of {
		lost += r.Lost
	}
	s := func(v func(result) float64) string { return fmt.Sprintf("%.2f s", medianOf(of, v)) }
	us := func(v func(result) float64) string { return duration(medianOf(of, v)) }
	return []string{
		spreadOf(values(of, rate), count), ratio(of, base, rate), ratio(of, base, perCPU),
		us(func(r result) float64 { return r.P50 }), us(func(r result) float64 { return r.P99 }), us(func(r result) float64 { return r.P999 }),
		s(func(r result) float64 { return r.BrokerCPU }), s(func(r result) float64 { return r.ClientCPU }), s(func(r result) float64 { return r.WorkerCPU }),
		fmt.Sprintf("%.0f MiB", medianOf(of, func(r result) float64 { return float64(r.BrokerPeak) / (1 << 20) })),
		fmt.Sprint(lost),
	}
}
