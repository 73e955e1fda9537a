package main

import (
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// bar shows how far it is, on a terminal. A nil bar does nothing.
type bar struct{ b *progressbar.ProgressBar }

// newBar returns a bar if somebody can see it and there is something to wait
// for. total counts unless tasks come from standard input.
func newBar(stderr io.Writer, function string, total int, fromStdin bool) *bar {
	f, ok := stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || total < 2 && !fromStdin {
		return nil
	}
	if fromStdin {
		total = -1 // nobody knows
	}
	return drawBar(f, function, total)
}

func drawBar(w io.Writer, function string, total int) *bar {
	return &bar{progressbar.NewOptions(total,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(function),
		progressbar.OptionShowCount(),
		progressbar.OptionShowIts(),
		progressbar.OptionSetItsString("tasks"),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetSpinnerChangeInterval(0), // or it starts a goroutine
	)}
}

// What the bar can't draw is no reason to stop.

func (b *bar) add() {
	if b != nil {
		_ = b.b.Add(1)
	}
}

// hide takes the bar away until it moves on, so that what is printed meanwhile
// stands on a line of its own.
func (b *bar) hide() {
	if b != nil {
		_ = b.b.Clear()
	}
}

// close takes the bar away for good.
func (b *bar) close() {
	if b != nil {
		_ = b.b.Exit()
		_ = b.b.Clear()
	}
}
