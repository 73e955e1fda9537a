package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// configured is a command with flags of each kind.
type configured struct {
	address string
	limit   int
	wait    time.Duration
	quiet   bool
	execs   []string
	names   []string
	labels  Pairs
	log     *Log
	ran     bool
}

func newConfigured() (*cobra.Command, *configured) {
	o := &configured{}
	c := &cobra.Command{Use: "prog", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		o.ran = true
		return nil
	}}
	f := c.Flags()
	AddConfigFlags(f)
	f.StringVar(&o.address, "grpc", "localhost:1", "where")
	f.IntVar(&o.limit, "max-tasks", 7, "how many")
	f.DurationVar(&o.wait, "drain-timeout", time.Second, "how long")
	f.BoolVar(&o.quiet, "quiet", false, "whether")
	f.StringArrayVar(&o.execs, "exec", nil, "what")
	f.StringSliceVar(&o.names, "functions", nil, "which")
	f.Var(&o.labels, "label", "shown")
	o.log = AddLogFlags(f, 0)
	return c, o
}

// with runs the command with a file, and returns what it has and what it said.
func with(t *testing.T, file string, args ...string) (o *configured, said string, code int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	c, o := newConfigured()
	var out bytes.Buffer
	code = Run(context.Background(), c, append([]string{"--config", path}, args...), strings.NewReader(""), &out, &out)
	return o, strings.ReplaceAll(out.String(), path, "c.yaml"), code
}

const whole = `# all of it
grpc: 0.0.0.0:9090
max-tasks: 12
drain-timeout: 1m30s
quiet: true
exec: ["a=b c", d=e]
functions:
  - sum
  - echo
label: {room: gpu, rack: 7}
log-level: warn
`

func TestAFileSetsFlagsOfEachKind(t *testing.T) {
	o, said, code := with(t, whole)
	if code != OK || said != "" || !o.ran {
		t.Fatalf("exit %d, %q", code, said)
	}
	if o.address != "0.0.0.0:9090" || o.limit != 12 || o.wait != 90*time.Second || !o.quiet ||
		strings.Join(o.execs, "|") != "a=b c|d=e" || strings.Join(o.names, "|") != "sum|echo" ||
		len(o.labels) != 2 || o.labels["room"] != "gpu" || o.labels["rack"] != "7" || o.log.level.Level().String() != "WARN" {
		t.Errorf("%+v", o)
	}
}

func TestAFlagGoesBeforeTheEnvironmentAndThatBeforeTheFile(t *testing.T) {
	t.Setenv("REPARTO_MAX_TASKS", "20")
	t.Setenv("REPARTO_DRAIN_TIMEOUT", "2s")
	t.Setenv("REPARTO_EXEC", "x=y")
	o, said, code := with(t, whole, "--max-tasks", "30", "--label", "a=b")
	if code != OK {
		t.Fatal(said)
	}
	if o.limit != 30 || o.wait != 2*time.Second || o.address != "0.0.0.0:9090" || strings.Join(o.execs, "|") != "x=y" || len(o.labels) != 1 {
		t.Errorf("%+v", o)
	}
}

func TestAFileMayComeFromTheEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte("max-tasks: 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("REPARTO_CONFIG", path)
	c, o := newConfigured()
	var out bytes.Buffer
	if code := Run(context.Background(), c, nil, strings.NewReader(""), &out, &out); code != OK || o.limit != 3 {
		t.Errorf("exit %d, limit %d: %s", code, o.limit, out.String())
	}
}

func TestWhatIsWrongInAFileIsNamed(t *testing.T) {
	for file, want := range map[string]string{
		"grpc: a\nmax-task: 3\n":         "c.yaml:2: there is no key \"max-task\"; is max-tasks meant?",
		"grpc: a\n\nzebra: 3\n":          "c.yaml:3: there is no key \"zebra\"; the keys are the names of the flags, without dashes in front",
		"config: other.yaml\n":           "c.yaml:1: there is no key \"config\"",
		"print-config: true\n":           "c.yaml:1: there is no key \"print-config\"",
		"--grpc: a\n":                    "c.yaml:1: there is no key \"--grpc\"; is grpc meant?",
		"grpc: a\nmax-tasks: many\n":     "c.yaml:2: max-tasks: \"many\": strconv.ParseInt",
		"drain-timeout: 5\n":             "c.yaml:1: drain-timeout: \"5\": time: missing unit",
		"grpc: a\ngrpc: b\n":             "c.yaml:2: grpc is given a second time; the first is in line 1",
		"grpc:\n":                        "c.yaml:1: grpc has no value; write '' for an empty one",
		"grpc: [a, b]\n":                 "c.yaml:1: grpc wants one value",
		"label: room\n":                  "c.yaml:1: label wants lines of KEY: VALUE below it",
		"exec: [[a]]\n":                  "c.yaml:1: exec holds more than single values",
		"just words\n":                   "c.yaml:1: want lines of KEY: VALUE",
		"grpc: a\n---\ngrpc: b\n":        "c.yaml: has a second document after ---; want one",
		"grpc: [a\n":                     "c.yaml: yaml: line",
		"log-level: loud\n":              "c.yaml:1: log-level: \"loud\": \"loud\" is none of debug, info, warn, error",
		"grpc: a\nlabel: {a: b, a: c}\n": "given",
	} {
		o, said, code := with(t, file)
		if code != Usage || !strings.Contains(said, want) || o.ran {
			t.Errorf("%q: exit %d, %q; want %q", file, code, said, want)
		}
	}
	for _, file := range []string{"", "# nothing\n", "---\n"} {
		if _, said, code := with(t, file); code != OK {
			t.Errorf("%q: exit %d, %s", file, code, said)
		}
	}
	c, _ := newConfigured()
	var out bytes.Buffer
	if code := Run(context.Background(), c, []string{"--config", "/nowhere/c.yaml"}, strings.NewReader(""), &out, &out); code != Usage || !strings.Contains(out.String(), "/nowhere/c.yaml") {
		t.Errorf("exit %d, %s", code, out.String())
	}
}

// TestWhatIsPrintedCanBeReadAgain: --print-config does not run the command, says
// where each value is from, and its output is the same configuration.
func TestWhatIsPrintedCanBeReadAgain(t *testing.T) {
	t.Setenv("REPARTO_DRAIN_TIMEOUT", "2s")
	for _, file := range []string{whole, ""} {
		o, printed, code := with(t, file, "--max-tasks", "30", "--print-config")
		if code != OK || o.ran {
			t.Fatalf("exit %d, ran %v: %s", code, o.ran, printed)
		}
		for _, want := range []string{"max-tasks: 30 # flag\n", "drain-timeout: 2s # environment\n"} {
			if !strings.Contains(printed, want) {
				t.Errorf("%q is not in\n%s", want, printed)
			}
		}
		again, said, code := with(t, printed, "--print-config")
		for _, origin := range []string{"default", "file", "environment", "flag"} {
			said, printed = strings.ReplaceAll(said, "# "+origin+"\n", "\n"), strings.ReplaceAll(printed, "# "+origin+"\n", "\n")
		}
		if code != OK || said != printed {
			t.Errorf("exit %d; read again it is\n%s\nand was\n%s", code, said, printed)
		}
		o.log, again.log = nil, nil
	}
}
