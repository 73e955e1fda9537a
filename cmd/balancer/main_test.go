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

// TestNothingNegativeIsTaken: no key of numbers may be below 0, and the error names
// the key and the value.
func TestNothingNegativeIsTaken(t *testing.T) {
	for key, value := range map[string]string{
		"principal-tasks": "-1", "address-rate": "-3", "max-queued-tasks": "-5", "max-in-flight": "-1", "backoff": "-1s", "legacy-max-peers": "-2",
	} {
		var errs bytes.Buffer
		code := run(context.Background(), []string{"--" + key, value}, strings.NewReader(""), &errs, &errs)
		if want := "--" + key + " is " + value + "; give 0 or more"; code != cli.Usage || !strings.Contains(errs.String(), want) {
			t.Errorf("exit %d, %q; want %q", code, errs.String(), want)
		}
	}
}
