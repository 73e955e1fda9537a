package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"reparto/internal/classic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sample is a command with a flag of each kind.
type sample struct {
	slots   int
	wait    time.Duration
	id      string
	labels  Pairs
	execs   []string
	log     *Log
	result  error
	ran     bool
	stdout  bytes.Buffer
	stderr  bytes.Buffer
	logLine string
}

func (s *sample) run(t *testing.T, args ...string) int {
	t.Helper()
	sub := &cobra.Command{Use: "sub", Short: "Do it", Args: cobra.NoArgs}
	f := sub.Flags()
	f.IntVar(&s.slots, "slots", 4, "how many")
	f.DurationVar(&s.wait, "drain-timeout", time.Second, "how long")
	f.StringVar(&s.id, "id", "none", "who")
	f.Var(&s.labels, "label", "what")
	f.StringArrayVar(&s.execs, "exec", nil, "commands")
	s.log = AddLogFlags(f, slog.LevelInfo)
	sub.RunE = func(c *cobra.Command, _ []string) error {
		s.ran = true
		log := s.log.Logger(c.OutOrStdout(), c.ErrOrStderr(), classic.Options{Role: classic.Client})
		if s.logLine != "" {
			log.Info(s.logLine)
		}
		return s.result
	}
	root := &cobra.Command{Use: "prog"}
	root.AddCommand(sub)
	return Run(t.Context(), root, args, strings.NewReader(""), &s.stdout, &s.stderr)
}

func TestFlagsBeatTheEnvironmentAndThatTheDefaults(t *testing.T) {
	t.Setenv("REPARTO_SLOTS", "7")
	t.Setenv("REPARTO_DRAIN_TIMEOUT", "3m")
	t.Setenv("REPARTO_ID", "")
	t.Setenv("REPARTO_LABEL", "a=1\nb=x=y\r\n")
	t.Setenv("REPARTO_EXEC", "one=a,b\ntwo=c")
	t.Setenv("REPARTO_HELP", "true")
	t.Setenv("REPARTO_VERSION", "true")
	s := &sample{}
	if code := s.run(t, "sub", "--slots", "9"); code != OK {
		t.Fatalf("exit code %d: %s", code, &s.stderr)
	}
	if s.slots != 9 || s.wait != 3*time.Minute || s.id != "" || len(s.labels) != 2 || s.labels["b"] != "x=y" || len(s.execs) != 2 || s.execs[0] != "one=a,b" {
		t.Errorf("got %+v", s)
	}
}

func TestWhatTheEnvironmentGetsWrongIsNamed(t *testing.T) {
	for _, c := range []struct{ name, value string }{
		{"REPARTO_SLOTS", "many"}, {"REPARTO_SLOTS", ""}, {"REPARTO_DRAIN_TIMEOUT", "5"}, {"REPARTO_LABEL", "novalue"},
		{"REPARTO_LABEL", "a=1\na=2"}, {"REPARTO_LOG", "xml"}, {"REPARTO_LOG_LEVEL", "loud"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(c.name, c.value)
			s := &sample{}
			code := s.run(t, "sub")
			out := s.stderr.String()
			if code != Usage || s.ran || !strings.HasPrefix(out, "prog sub: the environment variable "+c.name+" is ") || strings.Count(out, "\n") != 1 {
				t.Errorf("exit code %d, stderr %q", code, out)
			}
		})
	}
}

func TestUsageErrorsAreOneLine(t *testing.T) {
	for _, args := range []string{"sub --nope", "sub --slots x", "sub --slots", "sub extra", "nope", "su", "sub --label x", "sub --label a=1 --label a=2", "sub --log xml", "sub --log-level loud"} {
		s := &sample{}
		code := s.run(t, strings.Fields(args)...)
		out := s.stderr.String()
		if code != Usage || s.ran || strings.Count(out, "\n") != 1 || !strings.Contains(out, " --help')") || !strings.HasPrefix(out, "prog") || s.stdout.Len() > 0 {
			t.Errorf("%s: exit code %d, stderr %q", args, code, out)
		}
	}
}

func TestExitCodes(t *testing.T) {
	inUse := &net.OpError{Op: "listen", Net: "tcp", Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
	for _, c := range []struct {
		err  error
		code int
		out  string
	}{
		{nil, OK, ""},
		{errors.New("it broke\nin two"), Failed, "prog sub: it broke in two\n"},
		{Exit(Failed, nil), Failed, ""},
		{fmt.Errorf("open: %w", Exit(NoConnection, errors.New("nobody there"))), NoConnection, "prog sub: open: nobody there\n"},
		{Usagef("no %s", "flag"), Usage, "prog sub: no flag (see 'prog sub --help')\n"},
		{fmt.Errorf("clients: %w", inUse), NoConnection, "prog sub: clients: listen tcp: bind: address already in use\n"},
		{status.Error(codes.Unavailable, "gone"), NoConnection, "prog sub: rpc error: code = Unavailable desc = gone\n"},
	} {
		s := &sample{result: c.err}
		if code := s.run(t, "sub"); code != c.code || s.stderr.String() != c.out {
			t.Errorf("%v: exit code %d, stderr %q; want %d, %q", c.err, code, &s.stderr, c.code, c.out)
		}
	}
}

func TestHelpNamesTheVariablesAndVersionTheVersion(t *testing.T) {
	s := &sample{}
	if code := s.run(t, "sub", "--help"); code != OK || s.stderr.Len() > 0 {
		t.Fatalf("exit code %d, stderr %q", code, &s.stderr)
	}
	for _, want := range []string{"[$REPARTO_DRAIN_TIMEOUT]", "[$REPARTO_LABEL]", "text|json|classic", "LEVEL"} {
		if !strings.Contains(s.stdout.String(), want) {
			t.Errorf("no %s in %s", want, &s.stdout)
		}
	}
	if strings.Contains(s.stdout.String(), "REPARTO_HELP") {
		t.Errorf("--help is said to come from the environment: %s", &s.stdout)
	}
	s = &sample{}
	if code := s.run(t, "--version"); code != OK || !strings.HasPrefix(s.stdout.String(), "prog "+ShortVersion()+" (go") {
		t.Errorf("exit code %d, stdout %q", code, &s.stdout)
	}
}

func TestVersionIsTheReleases(t *testing.T) {
	defer func(v string) { version = v }(version)
	version = "v1.2.3"
	if got := Version(); !strings.HasPrefix(got, "v1.2.3 (go1") {
		t.Errorf("got %q", got)
	}
}

func TestLogsGoWhereTheyBelong(t *testing.T) {
	for _, c := range []struct{ form, line, stdout, stderr string }{
		{"text", "hello", "", "level=INFO msg=hello\n"},
		{"json", "hello", "", `"level":"INFO","msg":"hello"}` + "\n"},
		{"classic", "disconnected", "[CLIENT] Desconectado\n", ""},
	} {
		s := &sample{logLine: c.line}
		code := s.run(t, "sub", "--log", c.form)
		if code != OK || s.stdout.String() != c.stdout || !strings.HasSuffix(s.stderr.String(), c.stderr) || c.stderr == "" && s.stderr.Len() > 0 {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", c.form, code, &s.stdout, &s.stderr)
		}
		if s.log.Classic() != (c.form == "classic") {
			t.Errorf("%s: Classic is %v", c.form, s.log.Classic())
		}
	}
	s := &sample{logLine: "hello"}
	if s.run(t, "sub", "--log-level", "warn"); s.stderr.Len() > 0 {
		t.Errorf("INFO is logged at WARN: %q", &s.stderr)
	}
}

func TestClosedOutputIsRecognised(t *testing.T) {
	for _, err := range []error{&os.PathError{Op: "write", Path: "|1", Err: syscall.EPIPE}, io.ErrClosedPipe, os.ErrClosed} {
		if !IsClosedOutput(err) {
			t.Errorf("%v is not", err)
		}
	}
	if IsClosedOutput(syscall.ENOSPC) || IsClosedOutput(nil) {
		t.Error("a full disk, or no error, is")
	}
}
