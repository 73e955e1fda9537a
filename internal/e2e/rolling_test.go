package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"reparto/client"
)

// TestRollingRestart asks workers, one after another, and the balancer to stop,
// and starts them again, while clients go on: no client of the SDK is told an
// error, and no task is run twice.
func TestRollingRestart(t *testing.T) {
	runs := filepath.Join(t.TempDir(), "runs")
	args := []string{"--store", "file:" + t.TempDir(), "--legacy-clients", "", "--legacy-workers", ""}
	b := startBalancer(t, args...)
	hire := func(i int) *process {
		// Each run leaves its payload in the file.
		return startWorker(t, b, fmt.Sprint("w", i), "--slots", "4", "--exec", "job=tee -a "+runs)
	}
	var workers [3]*process
	for i := range workers {
		workers[i] = hire(i)
	}
	c, err := client.Dial(b.grpc)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	l := load{t: t, c: c}
	l.start("submitted", 6, l.submit)
	l.start("enqueued", 2, l.enqueue)
	goOn := func() { // until clients had so many more tasks done
		t.Helper()
		want := l.done.Load() + 40
		b.eventually("clients go on", func() bool { return l.done.Load() >= want })
	}
	stop := func(p *process) {
		t.Helper()
		p.signal(syscall.SIGTERM)
		if code := p.exit(); code != 0 {
			t.Errorf("%s ended with %d; want 0", p.name, code)
		}
	}
	for range 2 {
		goOn()
		for i := range workers {
			stop(workers[i])
			workers[i] = hire(i)
			goOn()
		}
		stop(b.process)
		b = startBalancerAt(t, b.grpc, args...)
		b.eventually("all workers are back", func() bool { return b.info().GetWorkers() == int64(len(workers)) })
		goOn()
	}
	asked := l.end()

	raw, err := os.ReadFile(runs)
	if err != nil {
		t.Fatal(err)
	}
	ran := map[string]int{}
	for line := range strings.Lines(string(raw)) {
		ran[strings.TrimSpace(line)]++
	}
	for _, task := range asked {
		if ran[task] != 1 {
			t.Errorf("task %s ran %d times", task, ran[task])
		}
	}
	t.Logf("%d tasks", len(asked))
}

// load is clients that have one task done after another.
type load struct {
	t       *testing.T
	c       *client.Client
	stopped atomic.Bool
	running sync.WaitGroup
	done    atomic.Int64

	mu    sync.Mutex
	asked []string
}

func (l *load) start(kind string, n int, do func(ctx context.Context, task string) ([]byte, error)) {
	for i := range n {
		l.running.Go(func() {
			for k := 0; !l.stopped.Load(); k++ {
				task := fmt.Sprintf("%s-%d-%d", kind, i, k)
				l.mu.Lock()
				l.asked = append(l.asked, task)
				l.mu.Unlock()
				ctx, cancel := context.WithTimeout(l.t.Context(), patience)
				out, err := do(ctx, task)
				cancel()
				if err != nil || strings.TrimSpace(string(out)) != task {
					l.t.Errorf("task %s: %q, %v", task, out, err)
					return
				}
				l.done.Add(1)
			}
		})
	}
}

// end returns what was asked for, once all of it is done.
func (l *load) end() []string {
	l.stopped.Store(true)
	l.running.Wait()
	return l.asked
}

func (l *load) submit(ctx context.Context, task string) ([]byte, error) {
	out, err := l.c.Submit(ctx, client.Task{Function: "job", Payload: []byte(task + "\n"), Timeout: patience})
	return out.Result, err
}

func (l *load) enqueue(ctx context.Context, task string) ([]byte, error) {
	id, err := l.c.Enqueue(ctx, client.DurableTask{Function: "job", Payload: []byte(task + "\n")})
	if err != nil {
		return nil, err
	}
	out, err := l.c.Wait(ctx, id)
	return out.Result, err
}
