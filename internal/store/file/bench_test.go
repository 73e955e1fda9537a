package file

import (
	"fmt"
	"testing"

	"reparto/internal/store/storetest"
	"reparto/internal/task"
)

// tasksOf makes the changes that accept n tasks with a payload of size bytes,
// under ids as the balancer makes them: ascending.
func tasksOf(first, n, size int) []task.Change {
	changes := make([]task.Change, n)
	for i := range changes {
		r := storetest.Small(fmt.Sprintf("0197a2c4-5e10-7000-8000-%012d", first+i), task.Queued)
		r.Payload = make([]byte, size)
		r.Durable = &task.Durable{TTL: 1, Retention: 1}
		changes[i] = storetest.New(r)
	}
	return changes
}

// BenchmarkWrite accepts tasks, on the disk of the temporary directory. An
// operation is one task.
func BenchmarkWrite(b *testing.B) {
	for _, batch := range []int{1, 64, 500} {
		for _, size := range []int{9, 1024} {
			b.Run(fmt.Sprintf("batch=%d/payload=%d", batch, size), func(b *testing.B) {
				s := open(b, b.TempDir(), nil)
				changes := tasksOf(0, batch, size)
				b.ReportAllocs()
				b.ResetTimer()
				for n := 0; n < b.N; n += batch {
					for i := range changes {
						changes[i].Record.ID = fmt.Sprintf("0197a2c4-5e10-7000-8000-%012d", n+i)
					}
					storetest.Write(b, s, changes...)
				}
				b.StopTimer()
			})
		}
	}
}

// BenchmarkLife accepts tasks, runs, finishes and forgets them, 500 a write. An
// operation is one task.
func BenchmarkLife(b *testing.B) {
	const batch = 500
	s := open(b, b.TempDir(), nil)
	b.ReportAllocs()
	for n := 0; n < b.N; n += batch {
		changes := tasksOf(n, batch, 9)
		storetest.Write(b, s, changes...)
		for _, step := range [][2]task.State{{task.Queued, task.Running}, {task.Running, task.Succeeded}} {
			for i := range changes {
				r := storetest.Small(changes[i].Record.ID, step[1])
				r.Payload = nil
				changes[i] = task.Change{Record: r, Was: step[0]}
			}
			storetest.Write(b, s, changes...)
		}
		for i := range changes {
			changes[i] = task.Change{Forget: changes[i].Record.ID}
		}
		storetest.Write(b, s, changes...)
	}
	b.StopTimer()
}

// BenchmarkLoad reads unfinished tasks with 1 KiB each after a start. An
// operation is one task; run it with -benchtime 1000000x for a million.
func BenchmarkLoad(b *testing.B) {
	dir := b.TempDir()
	s := open(b, dir, nil)
	for n := 0; n < b.N; n += 500 {
		storetest.Write(b, s, tasksOf(n, 500, 1024)...)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	s = open(b, dir, nil)
	kept := make([]*task.Record, 0, b.N)
	b.ReportAllocs()
	b.ResetTimer()
	_, err := s.Load(b.Context(), func(r *task.Record) error { kept = append(kept, r); return nil })
	b.StopTimer()
	if err != nil || len(kept) < b.N {
		b.Fatalf("loaded %d of %d: %v", len(kept), b.N, err)
	}
}

// BenchmarkGet reads a queued task, and one that is not there.
func BenchmarkGet(b *testing.B) {
	s := open(b, b.TempDir(), nil)
	for n := 0; n < 100_000; n += 500 {
		storetest.Write(b, s, tasksOf(n, 500, 100)...)
	}
	for _, id := range []string{"0197a2c4-5e10-7000-8000-000000050000", "0197a2c4-5e10-7000-8000-not-there"} {
		b.Run(id[24:], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Get(b.Context(), id); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
