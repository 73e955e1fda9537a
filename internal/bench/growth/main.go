// Growth draws how a task's cost grows with what a balancer holds: it runs the
// benchmarks called BenchmarkGrowth, of the core and of the dispatcher, writes a
// plot, and puts a table into a document, between two markers.
//
//	go run . -count 5             here; about two minutes
//	go run . -from results.txt    of what go test -bench has printed before
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "growth:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("growth", flag.ContinueOnError)
	flags.SetOutput(stderr)
	root := flags.String("root", "../../..", "where the module reparto is")
	count := flags.Int("count", 5, "how often each benchmark runs; the least time is shown")
	benchtime := flags.String("benchtime", "100ms", "for how long")
	from := flags.String("from", "", "a file with results, to be drawn instead of new ones")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var results []byte
	var err error
	if *from != "" {
		results, err = os.ReadFile(*from)
	} else {
		results, err = benchmark(ctx, *root, *count, *benchtime, stderr)
	}
	if err != nil {
		return err
	}
	curves, err := parse(bytes.NewReader(results))
	if err != nil {
		return err
	}
	if err := writePlot(curves, filepath.Join(*root, "docs/plots/growth.svg")); err != nil {
		return err
	}
	return document(filepath.Join(*root, "docs/scaling.md"), table(curves))
}

// benchmark runs the benchmarks, and shows what they print meanwhile.
func benchmark(ctx context.Context, root string, count int, benchtime string, stderr io.Writer) ([]byte, error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", "test", "./internal/balance", "./internal/dispatch", "-run", "^$",
		"-bench", "^BenchmarkGrowth$", "-benchtime", benchtime, "-count", strconv.Itoa(count), "-p", "1")
	cmd.Dir, cmd.Stdout, cmd.Stderr = root, io.MultiWriter(&out, stderr), stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("go test -bench: %w", err)
	}
	return out.Bytes(), nil
}
