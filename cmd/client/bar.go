package main

import (
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// bar shows how far it is, on a terminal. A nil bar does nothing. What it can't
// draw is no reason to stop.
type bar struct {
	b       *progressbar.ProgressBar
	shared  bool      // results go to a terminal too
	pending int       // tasks since it was drawn
	drawn   time.Time // when
	visible bool
}

// redraw is how often the bar moves.
const redraw = 100 * time.Millisecond

// newBar returns a bar if somebody can see it and there is something to wait
// for. total counts unless tasks come from standard input.
func newBar(stdout, stderr io.Writer, function string, total int, fromStdin bool) *bar {
	if !isTerminal(stderr) || total < 2 && !fromStdin {
		return nil
	}
	if fromStdin {
		total = -1 // nobody knows
	}
	return drawBar(stderr, isTerminal(stdout), function, total)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func drawBar(w io.Writer, shared bool, function string, total int) *bar {
	return &bar{shared: shared, b: progressbar.NewOptions(total,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(function),
		progressbar.OptionShowCount(),
		progressbar.OptionShowIts(),
		progressbar.OptionSetItsString("tasks"),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetSpinnerChangeInterval(0), // or it starts a goroutine
	)}
}

// add counts a task.
func (b *bar) add() {
	if b == nil {
		return
	}
	if b.pending++; time.Since(b.drawn) >= redraw {
		b.draw()
	}
}

func (b *bar) draw() {
	_ = b.b.Add(b.pending)
	b.pending, b.drawn, b.visible = 0, time.Now(), true
}

// hide takes the bar away, so that what is printed next stands on a line of its
// own.
func (b *bar) hide() {
	if b != nil && b.visible {
		_ = b.b.Clear()
		b.visible = false
	}
}

// show puts the bar back after hide.
func (b *bar) show() {
	if b != nil && !b.visible && !b.drawn.IsZero() {
		b.draw()
	}
}

// hideForResults is hide if results would meet the bar.
func (b *bar) hideForResults() {
	if b != nil && b.shared {
		b.hide()
	}
}

// close takes the bar away for good.
func (b *bar) close() {
	if b != nil {
		b.hide()
		_ = b.b.Exit()
	}
}
