// Package functions holds what a worker can do without a program of its own:
// Sum, Echo and Sleep, and Exec, which makes any command a function.
//
// Each is a worker.Handler:
//
//	h := functions.BuiltIn()
//	h["rev"] = functions.Exec("rev", functions.ExecOptions{})
//	err := worker.Run(ctx, conn, h, worker.Options{})
package functions

import (
	"context"
	"fmt"
	"strings"
	"time"

	"reparto/worker"
)

// BuiltIn returns the functions that every worker program offers, by name:
// echo, sleep and sum. The map is the caller's.
func BuiltIn() worker.Handlers {
	return worker.Handlers{"echo": Echo, "sleep": Sleep, "sum": Sum}
}

// Echo gives the payload back as it is.
func Echo(_ context.Context, t worker.Task) ([]byte, error) { return t.Payload, nil }

// Sleep waits for as long as the payload says, a duration such as 250ms, 2s or
// 1m30s, and gives it back in Go's own form. It ends early, with the context's
// error, when ctx does.
func Sleep(ctx context.Context, t worker.Task) ([]byte, error) {
	d, err := time.ParseDuration(strings.TrimSpace(string(t.Payload)))
	if err != nil || d < 0 {
		return nil, fmt.Errorf("%s is not a time to sleep; give one such as 250ms, 2s or 1m30s", quote(string(t.Payload)))
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return []byte(d.String()), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
