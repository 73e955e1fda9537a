package rpc

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
)

// TestRefusalsAreToldOnceASecond: however many there are of one kind, with how many
// there were; what an operator can do nothing about is counted alone.
func TestRefusalsAreToldOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		r := refusals{log: slog.New(slog.NewTextHandler(&out, nil))}
		ctx := context.Background()
		full := &refusal{code: codes.ResourceExhausted, reason: "QUEUE_FULL", message: "the queue is full"}
		said := func(want ...string) {
			t.Helper()
			lines := strings.Count(out.String(), "\n")
			if lines != len(want) {
				t.Fatalf("%d lines, want %d:\n%s", lines, len(want), out.String())
			}
			for _, w := range want {
				if !strings.Contains(out.String(), w) {
					t.Errorf("%q is not in %s", w, out.String())
				}
			}
			out.Reset()
		}
		r.task(ctx, full, 3)
		said(`level=WARN msg=refused code=ResourceExhausted reason=QUEUE_FULL count=3`)
		for range 100 {
			r.task(ctx, full, 2)
		}
		said()
		time.Sleep(quietFor)
		r.task(ctx, full, 1)
		said(`reason=QUEUE_FULL count=201`)
		_ = r.call(ctx, &refusal{code: codes.Unauthenticated, reason: "UNAUTHENTICATED", message: "no"})
		said(`reason=UNAUTHENTICATED count=1`)
		_ = r.call(ctx, invalid("function", "is empty"))
		_ = r.call(ctx, invalid("task_id", "is odd"))
		_ = r.call(ctx, &refusal{code: codes.DeadlineExceeded, reason: "RUNNING"})
		_ = r.call(ctx, context.Canceled)
		said()
		calls, tasks := counted(&r.calls), counted(&r.tasks)
		if len(calls) != 2 || calls[Refused{codes.InvalidArgument, "INVALID_ARGUMENT"}] != 2 || calls[Refused{codes.Unauthenticated, "UNAUTHENTICATED"}] != 1 {
			t.Errorf("calls: %v", calls)
		}
		if len(tasks) != 1 || tasks[Refused{codes.ResourceExhausted, "QUEUE_FULL"}] != 204 {
			t.Errorf("tasks: %v", tasks)
		}
	})
}
