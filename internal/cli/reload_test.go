package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestReload: what may change is put in force and told; what may not, is named; what
// is wrong changes nothing.
func TestReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("max-tasks: 1\ngrpc: a\n")
	c, o := newConfigured()
	if code := Run(context.Background(), c, []string{"--config", path, "--drain-timeout", "3s"}, strings.NewReader(""), io.Discard, io.Discard); code != OK {
		t.Fatal(code)
	}
	o.address = "changed by the command itself"
	var log bytes.Buffer
	inForce, refuse := 0, error(nil)
	r := Reloader{Running: c, Reloadable: []string{"max-tasks", "log-level"}, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Fresh: func() (*cobra.Command, func() error) {
			c, fresh := newConfigured()
			return c, func() error {
				if refuse == nil {
					inForce = fresh.limit
				}
				return refuse
			}
		}}
	for _, step := range []struct {
		file    string
		refuse  error
		inForce int
		said    []string
	}{
		{"max-tasks: 2\ngrpc: a\n", nil, 2, []string{`key=max-tasks from=1 to=2`, "changed=1"}},
		{"max-tasks: 2\ngrpc: b\ndrain-timeout: 9s\n", nil, 2, []string{`needs a restart" key=grpc running=a configured=b`, "changed=1"}},
		{"max-tasks: 4\ngrpc: a\nzebra: 1\n", nil, 2, []string{"nothing has changed", "zebra"}},
		{"max-tasks: 5\ngrpc: a\n", errors.New("too few"), 2, []string{"nothing has changed", "too few"}},
		{"grpc: a\n", nil, 7, []string{`key=max-tasks from=2 to=7`, "changed=1"}},
		{"grpc: a\n", nil, 7, []string{"changed=0"}},
	} {
		write(step.file)
		log.Reset()
		refuse = step.refuse
		r.Reload()
		if inForce != step.inForce {
			t.Errorf("after %q %d is in force; want %d", step.file, inForce, step.inForce)
		}
		for _, want := range step.said {
			if !strings.Contains(log.String(), want) {
				t.Errorf("after %q it said\n%swithout %q", step.file, log.String(), want)
			}
		}
	}
}
