package main

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"reparto/internal/cli"
	"reparto/internal/cli/clitest"
)

func TestTheDocumentedKeysAreTheFlags(t *testing.T) {
	clitest.Keys(t, newCommand(), reloadable)
}

// TestTheExampleIsWhatTheBalancerReads: no key in it is unknown, and all of it is in
// force.
func TestTheExampleIsWhatTheBalancerReads(t *testing.T) {
	var out, errs bytes.Buffer
	code := run(context.Background(), []string{"--config", "../../deploy/balancer.yaml", "--print-config"}, strings.NewReader(""), &out, &errs)
	if code != cli.OK {
		t.Fatal(errs.String())
	}
	lines := strings.Split(out.String(), "\n")
	for _, want := range []string{"grpc: 0.0.0.0:9090 # file", "log: json # file", "max-queued-tasks: 1000000 # file", "heartbeat: 10s # default"} {
		if !slices.Contains(lines, want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}

func TestWhatIsReloadableIsAFlag(t *testing.T) {
	flags := newCommand().Flags()
	for _, name := range reloadable {
		if flags.Lookup(name) == nil {
			t.Errorf("there is no flag %s", name)
		}
	}
}
