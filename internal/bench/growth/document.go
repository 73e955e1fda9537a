package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// The markers between which the table stands.
const (
	tableBegin = "<!-- growth: written by internal/bench/growth -->\n"
	tableEnd   = "<!-- growth end -->\n"
)

// table has a row for each curve.
func table(curves []*curve) string {
	var t strings.Builder
	t.WriteString("| part | what grows | sizes | ns a task | allocations a task |\n|---|---|---|---|---|\n")
	for _, c := range curves {
		var sizes, ns, allocs []string
		for _, p := range c.points {
			sizes = append(sizes, thousands(p.size))
			ns = append(ns, thousands(round(p.ns)))
			allocs = append(allocs, strings.TrimSuffix(fmt.Sprintf("%.2f", max(p.allocs, 0)), ".00"))
		}
		fmt.Fprintf(&t, "| %s | %s | %s | %s | %s |\n", c.part, c.grows,
			strings.Join(sizes, " · "), strings.Join(ns, " · "), strings.Join(allocs, " · "))
	}
	return t.String()
}

// round keeps two digits, or ten nanoseconds: more would be noise.
func round(ns float64) int {
	step := 10
	for float64(step)*100 < ns {
		step *= 10
	}
	return int(ns/float64(step)+0.5) * step
}

// thousands writes 100000 as 100,000.
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}

// document puts the table between the markers of a file.
func document(file, table string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, rest, found := bytes.Cut(text, []byte(tableBegin))
	_, tail, ended := bytes.Cut(rest, []byte(tableEnd))
	if !found || !ended {
		return fmt.Errorf("%s: the lines %q and %q are not there", file, strings.TrimSpace(tableBegin), strings.TrimSpace(tableEnd))
	}
	return os.WriteFile(file, bytes.Join([][]byte{head, []byte(tableBegin), []byte(table), []byte(tableEnd), tail}, nil), 0o644)
}
