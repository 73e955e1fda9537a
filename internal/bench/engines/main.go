// Engines measures embedded databases on what durable tasks ask of one: accept in
// batches, each synced; note that a task runs; note its outcome, with an index
// of when to forget it; read one by its id; list by state; forget. The numbers
// are in docs/adr/0004-durable-tasks-live-in-pebble.md.
//
//	go run . -rounds 3
//
// It is a module of its own, so that nobody else inherits what it needs.
package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// engine is a database that keeps tasks.
type engine interface {
	// accept, run and finish write a batch and return when it is on disk.
	accept(tasks []row) error
	run(tasks []row) error
	finish(tasks []row) error
	// forget deletes tasks that are finished.
	forget(tasks []row) error
	// get reads a finished task with its payload.
	get(id string) error
	// list reads a page of 100 ids of finished tasks, the newest first.
	list(before string) (next string, err error)
	close() error
}

// row is a task: some 120 bytes of state beside its payload, as the balancer's
// own encoding has it.
type row struct {
	id       string
	payload  []byte
	state    []byte
	forgetAt uint64
}

func rows(from, n, size int) []row {
	list := make([]row, n)
	for i := range list {
		state := make([]byte, 120)
		binary.BigEndian.PutUint64(state, uint64(from+i))
		payload := make([]byte, size)
		for k := range payload {
			payload[k] = byte(rand.Uint32())
		}
		list[i] = row{fmt.Sprintf("01a208b2-4a90-7ed6-%016x", from+i), payload, state, uint64(from + i)}
	}
	return list
}

var engines = []struct {
	name string
	open func(dir string) (engine, error)
}{
	{"Pebble", openPebble}, {"SQLite", openSQLite}, {"bbolt", openBolt},
}

// result is what one step cost for a task: time, and CPU time of the process.
type result struct{ wall, cpu []float64 }

func main() {
	rounds := flag.Int("rounds", 3, "how many rounds")
	n := flag.Int("n", 50_000, "tasks in each step with large batches")
	dir := flag.String("dir", "", "where the files go; on the disk that is to be measured")
	flag.Parse()
	sums := map[string]*result{}
	var steps []string
	for range *rounds {
		for _, i := range rand.Perm(len(engines)) {
			e := engines[i]
			for _, size := range []int{9, 1024} {
				note := func(step string, tasks int, do func() error) {
					step = fmt.Sprintf("%s, %d B", step, size)
					if !slices.Contains(steps, step) {
						steps = append(steps, step)
					}
					wall, cpu := measure(do)
					r := sums[step+e.name]
					if r == nil {
						r = &result{}
						sums[step+e.name] = r
					}
					r.wall = append(r.wall, wall/float64(tasks))
					r.cpu = append(r.cpu, cpu/float64(tasks))
				}
				life(e.open, *dir, size, *n, note)
			}
		}
	}
	fmt.Print("| step, µs a task: wall (CPU) |")
	for _, e := range engines {
		fmt.Printf(" %s |", e.name)
	}
	fmt.Println("\n|---|---|---|---|")
	for _, step := range steps {
		fmt.Printf("| %s |", step)
		for _, e := range engines {
			r := sums[step+e.name]
			fmt.Printf(" %.1f (%.1f) |", median(r.wall), median(r.cpu))
		}
		fmt.Println()
	}
}

// life takes tasks through all of theirs.
func life(open func(string) (engine, error), parent string, size, n int, note func(string, int, func() error)) {
	dir, err := os.MkdirTemp(parent, "engines-")
	check(err)
	defer os.RemoveAll(dir)
	e, err := open(dir)
	check(err)
	batches := func(tasks []row, batch int, do func([]row) error) func() error {
		return func() error {
			for part := range slices.Chunk(tasks, batch) {
				if err := do(part); err != nil {
					return err
				}
			}
			return nil
		}
	}
	const lone = 500
	first := rows(0, lone, size)
	note("accept, 1 a batch", lone, batches(first, 1, e.accept))
	some := rows(lone, n/10, size)
	note("accept, 64 a batch", len(some), batches(some, 64, e.accept))
	all := rows(n, n, size)
	note("accept, 500 a batch", n, batches(all, 500, e.accept))
	note("runs, 500 a batch", n, batches(all, 500, e.run))
	note("is done, 500 a batch", n, batches(all, 500, e.finish))
	note("get", 2000, func() error {
		for range 2000 {
			if err := e.get(all[rand.IntN(n)].id); err != nil {
				return err
			}
		}
		return nil
	})
	note("list a page of 100", 200, func() error {
		next := ""
		for range 200 {
			var err error
			if next, err = e.list(next); err != nil {
				return err
			}
		}
		return nil
	})
	note("forget, 200 a batch", n/2, batches(all[:n/2], 200, e.forget))
	fmt.Fprintf(os.Stderr, "%T, %d B: %d MiB on disk\n", e, size, used(dir)>>20)
	check(e.close())
}

func used(dir string) (size int64) {
	check(filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				size += info.Size()
			}
		}
		return nil
	}))
	return size
}

// measure returns microseconds of wall and of CPU.
func measure(do func() error) (wall, cpu float64) {
	before, began := usage(), time.Now()
	check(do())
	return float64(time.Since(began).Microseconds()), usage() - before
}

func usage() float64 {
	var u syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1000
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
