package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "reparto/gen/reparto/v1"
)

// handled runs h for one task and returns the answer, after act was called with
// the conversation.
func handled(t *testing.T, h Handler, o Options, a *pb.AssignTask, act func(k *talk)) *pb.TaskResult {
	b := newBalancer(t)
	w := start(t, b, Handlers{"f": h}, o)
	k := b.accept(t)
	k.say(&pb.WorkResponse{AssignTasks: []*pb.AssignTask{a}})
	if act != nil {
		act(k)
	}
	r := k.answer()
	w.stop()
	k.goodbye()
	w.wantNil()
	return r
}

func TestDeadlineEndsTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := assignment("f", 1)
		a.TimeRemainingMs = 250
		began := time.Now()
		r := handled(t, func(ctx context.Context, _ Task) ([]byte, error) {
			if ctx.Err() != nil {
				t.Error("over before it began")
			}
			deadline, ok := ctx.Deadline()
			if left := time.Until(deadline); !ok || left < 250*time.Millisecond || left > 252*time.Millisecond {
				t.Errorf("%v left", left)
			}
			<-ctx.Done()
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) || !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				t.Errorf("ended with %v, cause %v", ctx.Err(), context.Cause(ctx))
			}
			return nil, ctx.Err()
		}, Options{}, a, nil)
		wantFailure(t, r, "CANCELLED")
		if took := time.Since(began); took > 255*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

func TestDeadlineIsKnownWithoutWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := assignment("f", 1)
		a.TimeRemainingMs = 250
		r := handled(t, func(ctx context.Context, _ Task) ([]byte, error) {
			time.Sleep(time.Second)
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) || !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				t.Errorf("ended with %v, cause %v", ctx.Err(), context.Cause(ctx))
			}
			<-ctx.Done()
			return []byte("late"), nil
		}, Options{}, a, nil)
		wantResult(t, r, 1, "late") // whether it is still wanted is the balancer's business
	})
}

func TestRemainingTimeAtItsEdges(t *testing.T) {
	for _, ms := range []int64{-1 << 63, -1, 0, 1<<63 - 1} {
		synctest.Test(t, func(t *testing.T) {
			a := assignment("f", 1)
			a.TimeRemainingMs = ms
			p := newPool(t.Context(), Handlers{}, &Options{}, nil)
			left := time.Until(newJob(p, a, time.Now()).deadline)
			if ms <= 0 && left != time.Millisecond || ms > 0 && left < maxRemaining {
				t.Errorf("%d ms became %v", ms, left)
			}
		})
	}
}

func TestCancelEndsTheContext(t *testing.T) {
	for name, wait := range map[string]func(context.Context){
		"done":    func(ctx context.Context) { <-ctx.Done() },
		"derived": func(ctx context.Context) { d, stop := context.WithTimeout(ctx, time.Hour); defer stop(); <-d.Done() },
		"polling": func(ctx context.Context) {
			for ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := handled(t, func(ctx context.Context, _ Task) ([]byte, error) {
					wait(ctx)
					if !errors.Is(ctx.Err(), context.Canceled) || !strings.Contains(context.Cause(ctx).Error(), "CLIENT_GONE") {
						t.Errorf("ended with %v, cause %v", ctx.Err(), context.Cause(ctx))
					}
					return nil, Fail("OWN", ctx.Err())
				}, Options{}, assignment("f", 1), func(k *talk) {
					synctest.Wait()
					k.cancel(1, "CLIENT_GONE")
					k.cancel(1, "CLIENT_GONE") // twice is as once
					k.cancel(99, "CLIENT_GONE")
				})
				wantFailure(t, r, "CANCELLED")
			})
		})
	}
}

func TestAResultThatIsFasterThanItsCancelCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := handled(t, func(ctx context.Context, _ Task) ([]byte, error) {
			<-ctx.Done()
			return []byte("done"), nil
		}, Options{}, assignment("f", 1), func(k *talk) { synctest.Wait(); k.cancel(1, "CLIENT_GONE") })
		wantResult(t, r, 1, "done")
	})
}

func TestAHandlersOwnCancelIsItsError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := handled(t, func(ctx context.Context, _ Task) ([]byte, error) {
			ctx, stop := context.WithCancel(ctx)
			stop()
			return nil, ctx.Err()
		}, Options{}, assignment("f", 1), nil)
		wantFailure(t, r, "HANDLER_ERROR")
	})
}

func TestContextEndsWithItsHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := make(chan context.Context, 2)
		handled(t, func(ctx context.Context, _ Task) ([]byte, error) {
			derived, stop := context.WithCancel(ctx)
			context.AfterFunc(derived, stop)
			kept <- ctx
			kept <- derived
			return nil, nil
		}, Options{}, assignment("f", 1), nil)
		for range 2 {
			ctx := <-kept
			<-ctx.Done()
			if !errors.Is(ctx.Err(), context.Canceled) {
				t.Errorf("ended with %v", ctx.Err())
			}
		}
	})
}

func TestContextThatNobodyAskedCanBeAskedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var kept context.Context
		handled(t, func(ctx context.Context, _ Task) ([]byte, error) { kept = ctx; return nil, nil }, Options{}, assignment("f", 1), nil)
		if !errors.Is(kept.Err(), context.Canceled) {
			t.Errorf("Err is %v", kept.Err())
		}
		<-kept.Done()
		if s := fmt.Sprint(kept); s != "worker.Task(task-b)" {
			t.Errorf("prints as %s", s)
		}
	})
}

func TestDerivedContextsNeedNoGoroutine(t *testing.T) {
	p := newPool(t.Context(), Handlers{}, &Options{}, nil)
	j := newJob(p, assignment("f", 1), time.Now())
	before := runtime.NumGoroutine()
	for range 100 {
		_, stop := context.WithCancel(j)
		defer stop()
	}
	if n := runtime.NumGoroutine() - before; n > 0 {
		t.Errorf("100 derived contexts started %d goroutines", n)
	}
	j.end()
}

func TestPanicsFailTheirTask(t *testing.T) {
	for name, c := range map[string]struct {
		h    Handler
		want string
	}{
		"value":   {func(context.Context, Task) ([]byte, error) { panic("boom") }, "panicked: boom"},
		"runtime": {func(_ context.Context, t Task) ([]byte, error) { return nil, []error{}[len(t.Payload)] }, "index out of range"},
		"nil":     {func(context.Context, Task) ([]byte, error) { panic(nil) }, "panic called with nil"},
		"goexit":  {func(context.Context, Task) ([]byte, error) { runtime.Goexit(); return nil, nil }, "Goexit"},
		"error":   {func(context.Context, Task) ([]byte, error) { return nil, rotten{} }, "panicked: rotten"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				b := newBalancer(t)
				w := start(t, b, Handlers{"bad": c.h, "echo": echo}, Options{Slots: 1, Prefetch: 2, Log: slog.New(slog.NewTextHandler(&log, nil))})
				k := b.accept(t)
				k.assign("bad", 1, 2)
				k.assign("echo", 3)
				for range 2 {
					r := k.answer()
					wantFailure(t, r, "PANIC")
					if m := r.GetFailure().GetMessage(); !strings.Contains(m, c.want) || strings.Contains(m, ".go:") {
						t.Errorf("the client reads %q", m)
					}
				}
				wantResult(t, k.answer(), 3, "in") // the only slot still works
				w.stop()
				k.goodbye()
				w.wantNil()
				if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "job_test.go") {
					t.Errorf("no stack in the log:\n%s", log.String())
				}
			})
		})
	}
}

// rotten is an error that panics when it is read.
type rotten struct{}

func (rotten) Error() string { panic("rotten") }
