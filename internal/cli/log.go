package cli

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/pflag"

	"reparto/internal/classic"
)

// Log is the flags --log and --log-level.
type Log struct {
	form  Choice
	level slog.LevelVar
}

// AddLogFlags adds --log and --log-level, whose default is level. What they say
// counts once the flags are parsed.
func AddLogFlags(flags *pflag.FlagSet, level slog.Level) *Log {
	l := &Log{form: Choice{"text", []string{"text", "json", "classic"}}}
	l.level.Set(level)
	flags.Var(&l.form, "log", "how to log: text or json, on standard error; or classic, the lines of the old programs, on standard output")
	flags.Var((*logLevel)(&l.level), "log-level", "what to log at least: debug (each task), info, warn or error; classic has its own idea")
	return l
}

// Classic reports whether the old programs' lines are wanted.
func (l *Log) Classic() bool { return l.form.Value == "classic" }

// Logger returns the logger that the flags ask for. text and json go to stderr,
// classic goes to stdout, where it always went; o says whose lines those are.
func (l *Log) Logger(stdout, stderr io.Writer, o classic.Options) *slog.Logger {
	options := &slog.HandlerOptions{Level: &l.level}
	switch l.form.Value {
	case "classic":
		return slog.New(classic.New(stdout, o))
	case "json":
		return slog.New(slog.NewJSONHandler(stderr, options))
	}
	return slog.New(slog.NewTextHandler(stderr, options))
}

// SetLevel makes the logger log at least what another's flags ask for. It may be
// called at any time.
func (l *Log) SetLevel(from *Log) { l.level.Set(from.level.Level()) }

// logLevel is a slog.LevelVar as a flag, in lower case.
type logLevel slog.LevelVar

func (l *logLevel) now() slog.Level { return (*slog.LevelVar)(l).Level() }

var levels = []struct {
	name  string
	level slog.Level
}{{"debug", slog.LevelDebug}, {"info", slog.LevelInfo}, {"warn", slog.LevelWarn}, {"error", slog.LevelError}}

func (l *logLevel) String() string {
	for _, known := range levels {
		if known.level == l.now() {
			return known.name
		}
	}
	return l.now().String()
}

func (l *logLevel) Set(s string) error {
	for _, known := range levels {
		if known.name == s {
			(*slog.LevelVar)(l).Set(known.level)
			return nil
		}
	}
	return fmt.Errorf("%q is none of debug, info, warn, error", s)
}

func (*logLevel) Type() string { return "LEVEL" }
