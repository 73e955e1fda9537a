package functions

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
)

var errOutput = errors.New("the command wrote too much")

// resultWriter keeps what a command writes, up to a limit. Past it, the command
// is ended by overflow.
type resultWriter struct {
	b        []byte
	limit    int
	full     bool
	overflow func(error)
}

func (w *resultWriter) Write(p []byte) (int, error) {
	if w.full || len(w.b)+len(p) > w.limit {
		if !w.full {
			w.full, w.b = true, nil
			w.overflow(errOutput)
		}
		return 0, errOutput
	}
	w.b = append(w.b, p...)
	return len(p), nil
}

// maxLine is how many bytes of one line of standard error are kept.
const maxLine = 4 << 10

// lineLogger logs what is written to it, a line at a time, until room is used
// up, and keeps the last line that is not blank. It takes all that it is given:
// a command must never be stopped by its own complaints.
type lineLogger struct {
	ctx     context.Context // of the one task that it belongs to
	log     *slog.Logger
	room    int
	line    []byte // the beginning of a line whose end has not come
	last    string
	dropped int // bytes
}

func (l *lineLogger) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		part, after, ended := bytes.Cut(rest, []byte{'\n'})
		if keep := min(len(part), maxLine-len(l.line)); keep > 0 {
			l.line = append(l.line, part[:keep]...)
			l.dropped += len(part) - keep
		} else {
			l.dropped += len(part)
		}
		if rest = after; ended {
			l.endLine()
		}
	}
	return len(p), nil
}

func (l *lineLogger) endLine() {
	line := strings.TrimSpace(strings.ToValidUTF8(string(l.line), "\uFFFD"))
	l.line = l.line[:0]
	if line == "" {
		return
	}
	l.last = line
	if len(line) > l.room {
		// Lines after this one are dropped too, so that no line is missing in the
		// middle of what is shown.
		l.room, l.dropped = 0, l.dropped+len(line)
		return
	}
	l.room -= len(line)
	l.log.InfoContext(l.ctx, "standard error", "line", line)
}

// close logs what has no line end, and how much was not logged. Nothing may be
// written after it.
func (l *lineLogger) close() {
	l.endLine()
	if l.dropped > 0 {
		l.log.WarnContext(l.ctx, "standard error was cut", "dropped_bytes", l.dropped)
	}
}
