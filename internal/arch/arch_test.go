package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "reparto"

// rule says what the non-test files of a package may import of ours, and what
// they never import at all.
type rule struct {
	dir   string   // below the module's root; a subtree with /...
	ours  []string // packages of ours, below the module's root
	never []string // packages, or subtrees with /...
	why   string
}

// effects are what a value has none of: clocks, chance, locks, logs, I/O, and
// packages from elsewhere, which may have any.
var effects = []string{
	"context", "sync/...", "log/...", "net/...", "os/...", "io/...", "math/rand/...", "crypto/rand", "runtime/...", "unsafe",
	"github.com/...", "golang.org/...", "google.golang.org/...",
}

// grpcAndGen is what only borders and SDKs know.
var grpcAndGen = []string{"google.golang.org/grpc/...", "google.golang.org/protobuf/...", "reparto/gen/..."}

var rules = []rule{
	{"internal/task", nil, append(effects, grpcAndGen...),
		"the words of the project know nobody"},
	{"internal/balance", []string{"internal/task"}, append(effects, grpcAndGen...),
		"the core is a value: no clock, lock, log or I/O, so that every schedule can be replayed"},
	{"internal/table", nil, append(effects, grpcAndGen...),
		"a container knows nothing of what it holds"},
	{"internal/ids", nil, append([]string{"context", "net/...", "os/...", "io/...", "github.com/..."}, grpcAndGen...),
		"an id is made of time and chance"},
	{"internal/dispatch", []string{"internal/task", "internal/balance", "internal/ids"}, append([]string{"net/...", "os"}, grpcAndGen...),
		"the owner of the state knows no border and no backend"},
	{"internal/store/memory", []string{"internal/task"}, append([]string{"net/...", "os/..."}, grpcAndGen...),
		"a store knows what it remembers, and nobody who asks"},
	{"internal/store/file", []string{"internal/task"}, append([]string{"net/..."}, grpcAndGen...),
		"a store knows what it remembers and its driver, and nobody who asks"},
	{"internal/store/storetest", []string{"internal/task"}, append([]string{"github.com/...", "net/...", "os/..."}, grpcAndGen...),
		"the suite knows the promise and no product; only tests import it"},
	{"internal/wire", []string{"gen/reparto/v1"}, []string{"context", "net/...", "os/...", "io/...", "github.com/..."},
		"how messages look on the wire, and nothing of what they mean"},
	{"internal/rpc", []string{"gen/reparto/v1", "internal/auth", "internal/dispatch", "internal/socket", "internal/table", "internal/task", "internal/wire"}, []string{"os"},
		"the gRPC border decides nothing, so it does not know the core"},
	{"internal/socket", nil, []string{"reparto/..."},
		"how bytes leave, and nothing of what they are"},
	{"internal/legacy", []string{"client", "internal/socket", "worker"}, []string{"reparto/gen/..."},
		"the text adapter is a gRPC client like any other"},
	{"internal/local", []string{"client", "worker", "gen/reparto/v1", "internal/dispatch", "internal/legacy", "internal/rpc", "internal/task"}, []string{"os", "net/..."},
		"it brings the text border to the gRPC border without a connection, and decides nothing"},
	{"internal/server", []string{"internal/auth", "internal/dispatch", "internal/rpc", "internal/legacy", "internal/local", "internal/metrics", "internal/secure", "internal/store/file", "internal/store/memory", "internal/wire"}, []string{"reparto/gen/...", "os"},
		"it only puts a balancer together"},
	{"internal/auth", nil, grpcAndGen,
		"who is allowed what, known by file alone"},
	{"internal/metrics", []string{"internal/dispatch", "internal/rpc", "internal/task"}, []string{"reparto/gen/...", "os"},
		"it shows what others have counted, and decides nothing"},
	{"internal/functions", []string{"worker"}, grpcAndGen,
		"built-in functions are handlers such as anybody writes"},
	{"internal/trace", []string{"internal/dispatch", "internal/task"}, grpcAndGen,
		"it tells of tasks to the outside, and knows no border of ours"},
	{"internal/classic", nil, grpcAndGen,
		"the old lines are made of log records alone"},
	{"internal/secure", nil, []string{"reparto/gen/...", "google.golang.org/protobuf/..."},
		"it makes connections secure, and does not know what passes over them"},
	{"internal/secure/securetest", nil, grpcAndGen,
		"certificates for tests; only tests import it"},
	{"internal/cli", []string{"internal/classic", "internal/secure", "internal/trace", "worker"}, []string{"reparto/gen/..."},
		"what commands have in common is no part of what they do"},
	{"internal/doctor", []string{"gen/reparto/v1"}, []string{"os", "github.com/spf13/..."},
		"it knows a balancer as any client does, and no command line"},
	{"internal/cli/clitest", []string{"internal/cli"}, grpcAndGen,
		"what tests of commands have in common; only they import it"},
	{"internal/freeport", nil, grpcAndGen,
		"ports for tests; only they and benchmarks import it"},
	{"internal/release", nil, grpcAndGen,
		"it builds the others, and knows none of them"},
	{"internal/arch", nil, nil, "it reads the others as text"},
	{"internal/bench", nil, nil, "it is tests only"},
	{"internal/e2e", nil, nil, "it is tests only"},
	{"internal/hostile", nil, nil, "it is tests only"},
	{"internal/proxies", nil, nil, "it is tests only"},
	{"client", []string{"gen/reparto/v1", "internal/ids", "internal/socket", "internal/wire"}, []string{"os", "go.opentelemetry.io/otel/sdk/..."},
		"programs outside import it: it must not need the inside, nor show any of it"},
	{"worker", []string{"gen/reparto/v1", "internal/socket", "internal/table", "internal/wire"}, []string{"go.opentelemetry.io/otel/sdk/..."},
		"programs outside import it: it must not need the inside, nor show any of it"},
	{"gen/...", nil, []string{"reparto/internal/..."}, "only buf generate writes it"},
	{"cmd/...", []string{"..."}, []string{"reparto/internal/store/storetest", "reparto/internal/secure/securetest"}, "commands wire everything, and decide nothing"},
}

func TestImports(t *testing.T) {
	used := map[string]bool{}
	for file, imports := range sources(t) {
		dir := path.Dir(file)
		r := ruleFor(dir)
		if r == nil {
			t.Errorf("%s: the package has no rule; say in internal/arch who it may know, and why", dir)
			continue
		}
		used[r.dir] = true
		for _, p := range imports {
			if sub, ours := strings.CutPrefix(p, module+"/"); ours && !matches(sub, r.ours) {
				t.Errorf("%s imports %s, which %s may not: %s", file, p, r.dir, r.why)
			}
			if matches(p, r.never) {
				t.Errorf("%s imports %s, which %s never does: %s", file, p, r.dir, r.why)
			}
			if p == "testing" {
				t.Errorf("%s imports testing outside a test", file)
			}
		}
	}
	for _, r := range rules {
		if !used[r.dir] && r.why != "it is tests only" {
			t.Errorf("the rule for %s is about nothing", r.dir)
		}
	}
}

// TestTheCoreHasNoClock: time comes with the facts. The core may compute with
// the package time, but never ask it what time it is or have it wait.
func TestTheCoreHasNoClock(t *testing.T) {
	clocks := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}
	for file := range sources(t) {
		if dir := path.Dir(file); dir != "internal/task" && dir != "internal/balance" {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "..", filepath.FromSlash(file)), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if _, started := n.(*ast.GoStmt); started {
				t.Errorf("%s starts a goroutine", file)
			}
			if call, ok := n.(*ast.SelectorExpr); ok {
				if from, ok := call.X.(*ast.Ident); ok && from.Name == "time" && slices.Contains(clocks, call.Sel.Name) {
					t.Errorf("%s uses time.%s; take the time as an argument, so that every schedule can be replayed", file, call.Sel.Name)
				}
			}
			return true
		})
	}
}

// TestTheRulesBite holds the rules against imports that must not pass.
func TestTheRulesBite(t *testing.T) {
	for _, c := range []struct{ dir, imports string }{
		{"internal/balance", "sync"},
		{"internal/balance", "log"},
		{"internal/balance", "sync/atomic"},
		{"internal/task", "github.com/google/uuid"},
		{"internal/balance", "net/http"},
		{"internal/dispatch", "google.golang.org/grpc"},
		{"client", "go.opentelemetry.io/otel/sdk/trace"},
		{"worker", "go.opentelemetry.io/otel/sdk/trace"},
	} {
		if r := ruleFor(c.dir); r == nil || !matches(c.imports, r.never) {
			t.Errorf("%s may import %s", c.dir, c.imports)
		}
	}
	for _, c := range []struct{ dir, imports string }{
		{"internal/rpc", "internal/balance"},
		{"internal/legacy", "internal/dispatch"},
		{"internal/task", "internal/balance"},
		{"internal/store/file", "internal/dispatch"},
		{"internal/store/file", "internal/store/memory"},
		{"internal/store/memory", "internal/store/storetest"},
		{"internal/wire", "internal/task"},
		{"client", "internal/task"},
		{"worker", "internal/task"},
	} {
		if r := ruleFor(c.dir); r == nil || matches(c.imports, r.ours) {
			t.Errorf("%s may import %s", c.dir, c.imports)
		}
	}
}

func ruleFor(dir string) *rule {
	for i := range rules {
		if matches(dir, []string{rules[i].dir}) {
			return &rules[i]
		}
	}
	return nil
}

// matches reports whether p is one of the patterns: a path, or a subtree with
// "/..." that includes its root; "..." is everything.
func matches(p string, patterns []string) bool {
	for _, pattern := range patterns {
		root, subtree := strings.CutSuffix(pattern, "...")
		root = strings.TrimSuffix(root, "/")
		if p == root || subtree && (root == "" || strings.HasPrefix(p, root+"/")) {
			return true
		}
	}
	return false
}

// sources are the non-test Go files of the module and what each imports.
func sources(t *testing.T) map[string][]string {
	t.Helper()
	root := filepath.Join("..", "..")
	files := map[string][]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && p != root) {
			return filepath.SkipDir
		}
		if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil && d.IsDir() && p != root {
			return filepath.SkipDir // a module of its own
		}
		if !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		imports := []string{}
		for _, spec := range f.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			imports = append(imports, name)
		}
		files[filepath.ToSlash(rel)] = imports
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
