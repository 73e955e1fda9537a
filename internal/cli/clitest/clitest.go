// Package clitest holds the documentation of commands against the commands. Only
// tests import it.
package clitest

import (
	"flag"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"reparto/internal/cli"
)

var rewrite = flag.Bool("rewrite", false, "write the tables of docs/configuration.md")

// T is what of a *testing.T is used.
type T interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// Keys compares the table of a command's keys in docs/configuration.md with the
// command, or writes it when the tests run with -rewrite.
func Keys(t T, c *cobra.Command, reloadable []string) {
	t.Helper()
	path := filepath.Join("..", "..", "docs", "configuration.md")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	opening, closing := "<!-- keys:"+c.Name()+" -->\n", "<!-- /keys -->"
	before, rest, found := strings.Cut(string(raw), opening)
	was, after, closed := strings.Cut(rest, closing)
	if !found || !closed {
		t.Fatalf("%s has no %s … %s", path, strings.TrimSpace(opening), closing)
	}
	now := cli.ConfigTable(c, reloadable)
	switch {
	case was == now:
	case *rewrite:
		if err := os.WriteFile(path, []byte(before+opening+now+closing+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Fatalf("%s does not say what %s --help says; write it anew with: go test ./cmd/... -rewrite", path, c.Name())
	}
}
