package proxies

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"reparto/client"
	"reparto/internal/dispatch"
)

// TestReloadInMidTask: what runs goes on, and is answered, and is run once.
func TestReloadInMidTask(t *testing.T) {
	each(t, func(t *testing.T, program string) {
		b := startBalancer(t, dispatch.Options{})
		p := startProxy(t, program, b, b)
		w, c := startCrew(t, p.direct[0]), dialSDK(t, p.address)
		held := submit(t, c, client.Task{Function: "hold", Payload: []byte("held")})
		await(t, "the task runs", w.began)
		p.reload()
		mustEcho(t, c, "after")
		mustEcho(t, dialSDK(t, p.address), "of one who comes later")
		close(w.letGo)
		if r := await(t, "the outcome", held); r.err != nil || string(r.out.Result) != "held" {
			t.Errorf("%q, %v", r.out.Result, r.err)
		}
		if n, task := w.most(); n != 1 {
			t.Errorf("%s was run %d times", task, n)
		}
	})
}

// TestReloadUnderLoad: the process from before the reload ends a second after it,
// and nobody who uses the SDKs is told an error, though no task may run twice.
func TestReloadUnderLoad(t *testing.T) {
	each(t, func(t *testing.T, program string) {
		b := startBalancer(t, dispatch.Options{})
		p := startProxy(t, program, b, b, hurried("1s")[program]...)
		w, c := startCrew(t, p.direct[0]), dialSDK(t, p.address)
		l := startLoad(t, c, 8, false)
		l.goOn()
		old := p.reload()
		l.goOn()
		if program == "haproxy" {
			old.ended()
		} else {
			old.waitLine(`worker process \d+ exited`)
		}
		l.goOn()
		l.end()
		if n, task := w.most(); n != 1 {
			t.Errorf("%s was run %d times", task, n)
		}
		t.Logf("%d tasks", l.done.Load())
	})
}

// load is callers who have one task done after another.
type load struct {
	t          *testing.T
	idempotent bool
	stopped    atomic.Bool
	callers    sync.WaitGroup
	done       atomic.Int64
}

func startLoad(t *testing.T, c *client.Client, callers int, idempotent bool) *load {
	l := &load{t: t, idempotent: idempotent}
	for i := range callers {
		l.callers.Go(func() {
			for k := 0; !l.stopped.Load(); k++ {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				task := fmt.Sprintf("%d-%d", i, k)
				_, err := c.Submit(ctx, client.Task{Function: "echo", Payload: []byte(task), Idempotent: l.idempotent})
				cancel()
				if err != nil {
					t.Errorf("task %s: %v", task, err)
					return
				}
				l.done.Add(1)
			}
		})
	}
	t.Cleanup(l.end)
	return l
}

// goOn waits until so many more are done.
func (l *load) goOn() {
	l.t.Helper()
	want := l.done.Load() + 100
	eventually(l.t, "clients go on", func() bool { return l.done.Load() >= want })
}

func (l *load) end() {
	l.stopped.Store(true)
	l.callers.Wait()
}

// TestKilledInMidTask: the outcome arrives when the proxy is there again.
func TestKilledInMidTask(t *testing.T) {
	each(t, func(t *testing.T, program string) {
		b := startBalancer(t, dispatch.Options{})
		p := startProxy(t, program, b, b)
		w, c := startCrew(t, p.direct[0]), dialSDK(t, p.address)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()

		repeatable := submit(t, c, client.Task{Function: "hold", Payload: []byte("repeatable"), Idempotent: true})
		once := submit(t, c, client.Task{Function: "hold", Payload: []byte("once")})
		id, err := c.Enqueue(ctx, client.DurableTask{Function: "hold", Payload: []byte("durable")})
		if err != nil {
			t.Fatal(err)
		}
		durable := make(chan result, 1)
		go func() {
			out, err := c.Wait(ctx, id)
			durable <- result{out, err}
		}()
		for range 3 {
			await(t, "the tasks run", w.began)
		}
		p.kill()
		if r := await(t, "who may not repeat the task is told", once); !errors.Is(r.err, client.ErrFateUnknown) {
			t.Errorf("a task that may not be repeated: %q, %v", r.out.Result, r.err)
		}
		later := submit(t, c, client.Task{Function: "echo", Payload: []byte("later")})
		enqueued := make(chan error, 1)
		go func() {
			_, err := c.Enqueue(ctx, client.DurableTask{Function: "echo", Payload: []byte("enqueued")})
			enqueued <- err
		}()
		p.start()
		eventually(t, "the worker is back", func() bool { return w.registered.Load() == 2 })
		close(w.letGo)
		for name, done := range map[string]<-chan result{"repeatable": repeatable, "durable": durable, "later": later} {
			if r := await(t, "the outcome of "+name, done); r.err != nil || string(r.out.Result) != name {
				t.Errorf("%s: %q, %v", name, r.out.Result, r.err)
			}
		}
		if err := await(t, "Enqueue returns", enqueued); err != nil {
			t.Errorf("Enqueue while the proxy was away: %v", err)
		}
		mustEcho(t, dialSDK(t, p.address), "of one who comes later")
	})
}

// TestNobodyBehindTheProxy: who has work to be done is told so in time.
func TestNobodyBehindTheProxy(t *testing.T) {
	each(t, func(t *testing.T, program string) {
		p := startProxy(t, program, nobody, nobody)
		c := dialSDK(t, p.address, client.WithConnectTimeout(time.Second))
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, submitted := c.Submit(ctx, client.Task{Function: "echo"})
		_, enqueued := c.Enqueue(ctx, client.DurableTask{Function: "echo"})
		for _, err := range []error{submitted, enqueued} {
			if e, ok := errors.AsType[*client.Error](err); !ok || e.Reason != "NO_CONNECTION" {
				t.Errorf("got %v", err)
			}
		}
	})
}
