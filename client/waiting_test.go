package client

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestNoConnectionInTime(t *testing.T) {
	b := newBalancer(t)
	b.down()
	c := newTestClient(t, b, WithConnectTimeout(100*time.Millisecond))
	_, err := c.Submit(t.Context(), Task{Function: "f"})
	if e := wantError(t, err, "NO_CONNECTION"); e.Code != codes.Unavailable || !strings.Contains(e.Message, "nobody listens") {
		t.Errorf("got %+v", e)
	}
}

func TestATimeLimitThatPassesWithoutAConnection(t *testing.T) {
	b := newBalancer(t)
	b.limits = nil // it accepts, and says nothing
	c := newTestClient(t, b, WithConnectTimeout(time.Hour))
	submitting(t.Context(), c, Task{Function: "older"})
	eventually(t, "it waits", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return len(c.pending) == 1 })
	_, err := c.Submit(t.Context(), Task{Function: "f", ID: "i", Timeout: 50 * time.Millisecond})
	if e := wantError(t, err, "TASK_EXPIRED"); !errors.Is(err, context.DeadlineExceeded) || status.Code(err) != codes.DeadlineExceeded || e.TaskID != "i" {
		t.Errorf("got %+v", e)
	}
}
