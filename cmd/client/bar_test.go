package main

import (
	"bytes"
	"strings"
	"testing"
)

// line is what a terminal shows of what was written to it without line feeds.
func line(written string) string {
	var cells []rune
	at := 0
	for _, r := range written {
		if r == '\r' {
			at = 0
			continue
		}
		if at == len(cells) {
			cells = append(cells, ' ')
		}
		cells[at] = r
		at++
	}
	return strings.TrimSpace(string(cells))
}

func TestBarIsDrawnAndTakenAway(t *testing.T) {
	for _, total := range []int{-1, 3} {
		var out bytes.Buffer
		b := drawBar(&out, true, "sum", total)
		b.add()
		b.add() // too soon to be drawn
		if got := line(out.String()); !strings.HasPrefix(got, "sum") && !strings.Contains(got, " sum ") || !strings.Contains(got, "(1/") {
			t.Errorf("it shows %q", got)
		}
		b.hideForResults()
		if got := line(out.String()); got != "" {
			t.Errorf("hidden, it shows %q", got)
		}
		b.show()
		if got := line(out.String()); !strings.Contains(got, "(2/") {
			t.Errorf("back again, it shows %q", got)
		}
		b.close()
		if got := line(out.String()); got != "" {
			t.Errorf("closed, it shows %q", got)
		}
	}
}

func TestBarStaysWhereResultsGoElsewhere(t *testing.T) {
	var out bytes.Buffer
	b := drawBar(&out, false, "sum", -1)
	b.add()
	b.hideForResults()
	if got := line(out.String()); !strings.Contains(got, "(1/") {
		t.Errorf("it shows %q", got)
	}
	b.hide() // for an error, which goes where the bar is
	if got := line(out.String()); got != "" {
		t.Errorf("hidden, it shows %q", got)
	}
}

func TestNoBarWhereNobodySeesIt(t *testing.T) {
	var out bytes.Buffer
	b := newBar(&out, &out, "sum", 100, true)
	if b != nil {
		t.Error("there is one")
	}
	b.add()
	b.show()
	b.hide()
	b.close()
}
