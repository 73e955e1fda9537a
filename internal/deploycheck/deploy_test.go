// Package deploycheck reads what is in deploy/ for containers as Docker does.
package deploycheck

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

const deploy = "../../deploy/"

func dockerfile(t *testing.T) []instructions.Stage {
	t.Helper()
	raw, err := os.ReadFile(deploy + "Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	tree, err := parser.Parse(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	lint := linter.New(&linter.Config{Warn: func(rule, description, _, message string, _ []parser.Range) {
		t.Errorf("%s: %s (%s)", rule, message, description)
	}})
	stages, _, err := instructions.Parse(tree.AST, lint)
	if err != nil {
		t.Fatal(err)
	}
	return stages
}

// TestTheImageHoldsNothingElse: it is built on nothing, runs as nobody, and looks
// after itself without a shell.
func TestTheImageHoldsNothingElse(t *testing.T) {
	stages := dockerfile(t)
	last := stages[len(stages)-1]
	if last.BaseName != "scratch" {
		t.Errorf("it is built on %s", last.BaseName)
	}
	var user string
	var health, command []string
	for _, c := range last.Commands {
		switch c := c.(type) {
		case *instructions.UserCommand:
			user = c.User
		case *instructions.HealthCheckCommand:
			health = c.Health.Test
		case *instructions.CmdCommand:
			command = c.CmdLine
		case *instructions.RunCommand:
			t.Error("there is no shell to RUN anything")
		}
	}
	if user != "65532:65532" {
		t.Errorf("it runs as %q", user)
	}
	if len(health) < 3 || health[0] != "CMD" || health[1] != "client" || health[2] != "health" {
		t.Errorf("its health is asked by %q", health)
	}
	if len(command) == 0 || command[0] != "balancer" {
		t.Errorf("it runs %q", command)
	}
}

// TestCompose: Docker would take it, and everything in it is there.
func TestCompose(t *testing.T) {
	o, err := cli.NewProjectOptions([]string{deploy + "compose.yaml"}, cli.WithWorkingDirectory(deploy))
	if err != nil {
		t.Fatal(err)
	}
	p, err := o.LoadProject(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if names := p.ServiceNames(); !slices.Equal(names, []string{"balancer", "grafana", "prometheus", "worker"}) {
		t.Errorf("services %v", names)
	}
	for name, s := range p.Services {
		for _, v := range s.Volumes {
			if v.Type == "bind" {
				if _, err := os.Stat(v.Source); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s is open to other machines on %s", name, port.Published)
			}
		}
	}
	w := p.Services["worker"]
	if *w.Deploy.Replicas != 2 || !strings.HasPrefix(strings.Join(w.Command, " "), "worker --balancer balancer:9090") {
		t.Errorf("%v times %q", *w.Deploy.Replicas, w.Command)
	}
}
