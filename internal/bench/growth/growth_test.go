package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const printed = `goos: linux
pkg: reparto/internal/balance
BenchmarkGrowth/tasks=100000-2   	 1000	 1900 ns/op	 0.0100 allocs/task	 1900 ns/task	 0 B/op	 0 allocs/op
BenchmarkGrowth/tasks=10-2       	 1000	 400.2 ns/op	 0 allocs/task	 400.2 ns/task	 0 B/op	 0 allocs/op
BenchmarkGrowth/tasks=10-2       	 1000	 420.2 ns/op	 0 allocs/task	 420.2 ns/task	 0 B/op	 0 allocs/op
BenchmarkGrowth/tasks=10-2       	 1000	 9000 ns/op	 0 allocs/task	 9000 ns/task	 0 B/op	 0 allocs/op
PASS
pkg: reparto/internal/dispatch
BenchmarkGrowth/tasks=10-2       	 1000	 1234 ns/op	 2 allocs/task	 1234 ns/task	 64 B/op	 2 allocs/op
`

// What go test printed becomes a plot, and a table between the markers; the rest
// of the document stays.
func TestDrawnAndWritten(t *testing.T) {
	root := t.TempDir()
	results, doc := filepath.Join(root, "results.txt"), filepath.Join(root, "docs/scaling.md")
	if err := os.Mkdir(filepath.Dir(doc), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, results, printed)
	write(t, doc, "before\n"+tableBegin+"old\n"+tableEnd+"after\n")
	for range 2 { // the second time it changes nothing
		if err := run(t.Context(), []string{"-root", root, "-from", results}, os.Stderr); err != nil {
			t.Fatal(err)
		}
	}
	want := "before\n" + tableBegin + `| part | what grows | sizes | ns a task | allocations a task |
|---|---|---|---|---|
| balance | tasks | 10 · 100,000 | 400 · 1,900 | 0 · 0.01 |
| dispatch | tasks | 10 | 1,200 | 2 |
` + tableEnd + "after\n"
	if got := read(t, doc); got != want {
		t.Errorf("the document is\n%s\nwant\n%s", got, want)
	}
	if svg := read(t, filepath.Join(root, "docs/plots/growth.svg")); !strings.Contains(svg, "<svg") {
		t.Errorf("the plot is no SVG: %.100s", svg)
	}
}

func TestRefusals(t *testing.T) {
	root := t.TempDir()
	results := filepath.Join(root, "results.txt")
	write(t, results, "PASS\n")
	if err := run(t.Context(), []string{"-root", root, "-from", results}, os.Stderr); err == nil {
		t.Error("no result at all is accepted")
	}
	doc := filepath.Join(root, "scaling.md")
	write(t, doc, "no markers\n")
	if err := document(doc, "table\n"); err == nil {
		t.Error("a document without markers is accepted")
	}
	if got := read(t, doc); got != "no markers\n" {
		t.Errorf("and was changed: %q", got)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
