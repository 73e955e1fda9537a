package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "reparto/gen/reparto/v1"
)

func gathered(c *Client) int {
	c.batches.mu.Lock()
	defer c.batches.mu.Unlock()
	return len(c.batches.pending)
}

func reached(t testing.TB, k *keeper, n int) {
	t.Helper()
	eventually(t, fmt.Sprint(n, " requests"), func() bool { return len(k.seen()) == n })
}

// The first go at once; who comes while requests are under way travels together.
func TestOthersGatherWhileRequestsAreUnderWay(t *testing.T) {
	k := newKeeper(t)
	g := newGate(t)
	k.before = g.pass
	c := k.client()
	for n := range maxRequests {
		enqueuedLater(t.Context(), c, DurableTask{Function: "f"})
		reached(t, k, n+1)
	}
	results := make(chan []Enqueued, 1)
	go func() { results <- c.EnqueueAll(t.Context(), make([]DurableTask, 2*maxBatch+100)) }()
	eventually(t, "all gathered", func() bool { return gathered(c) == 2*maxBatch+100 })
	g.open()
	for i, r := range waitFor(t, results) {
		if r.Err != nil || r.ID == "" || r.Existed {
			t.Fatalf("task %d: %+v", i, r)
		}
	}
	if got := k.seen(); !slices.Equal(got[:maxRequests], []int{1, 1}) || !slices.Equal(sorted(got[maxRequests:]), []int{100, maxBatch, maxBatch}) {
		t.Errorf("requests of %v tasks", got)
	}
}

func sorted(s []int) []int { slices.Sort(s); return s }

// The balancer's limit on messages is 16 MiB by default.
func TestARequestIsBoundedInBytes(t *testing.T) {
	k := newKeeper(t)
	c := k.client()
	tasks := make([]DurableTask, 5)
	for i := range tasks {
		tasks[i] = DurableTask{Function: "f", Payload: make([]byte, 3<<20)}
	}
	tasks = append(tasks, DurableTask{Function: "f", Payload: make([]byte, 9<<20)})
	for i, r := range c.EnqueueAll(t.Context(), tasks) {
		if r.Err != nil {
			t.Errorf("task %d: %v", i, r.Err)
		}
	}
	if got := sorted(k.seen()); !slices.Equal(got, []int{1, 1, 2, 2}) {
		t.Errorf("requests of %v tasks", got)
	}
}

// A balancer may be set to take less: one task too large harms no other.
func TestARequestThatIsTooLargeGoesInHalves(t *testing.T) {
	k := newKeeper(t, grpc.MaxRecvMsgSize(2<<20))
	c := k.client()
	tasks := make([]DurableTask, 7)
	for i := range tasks {
		tasks[i] = DurableTask{Function: "f", Payload: make([]byte, 1<<20)}
	}
	tasks[3].Payload = make([]byte, 4<<20)
	for i, r := range c.EnqueueAll(t.Context(), tasks) {
		if i != 3 && r.Err != nil {
			t.Errorf("task %d: %v", i, r.Err)
		}
		if i == 3 {
			if e := wantError(t, r.Err, "PAYLOAD_TOO_LARGE"); e.Code != codes.InvalidArgument || errors.Is(e, ErrFateUnknown) || e.TaskID != r.ID {
				t.Errorf("%+v", e)
			}
		}
	}
}

// What was never sent is not there; what was may be.
func TestTheContextEndsBeforeAndAfterTheTaskWasSent(t *testing.T) {
	k := newKeeper(t)
	g := newGate(t)
	k.before = g.pass
	c := k.client()
	ctx, cancel := context.WithCancel(t.Context())
	var sent []<-chan Enqueued
	for n := range maxRequests {
		sent = append(sent, enqueuedLater(ctx, c, DurableTask{Function: "f"}))
		reached(t, k, n+1)
	}
	waiting := enqueuedLater(ctx, c, DurableTask{Function: "f"})
	eventually(t, "gathered", func() bool { return gathered(c) == 1 })
	cancel()
	if r := waitFor(t, waiting); r.ID == "" || !errors.Is(r.Err, context.Canceled) || errors.Is(r.Err, ErrFateUnknown) {
		t.Errorf("not sent: %+v", r)
	}
	for _, s := range sent {
		if r := waitFor(t, s); r.ID == "" || !errors.Is(r.Err, context.Canceled) || !errors.Is(r.Err, ErrFateUnknown) {
			t.Errorf("sent: %+v", r)
		}
	}
	g.open()
	if _, err := c.Enqueue(t.Context(), DurableTask{Function: "f"}); err != nil {
		t.Error(err)
	}
	if got := k.seen(); len(got) != maxRequests+1 {
		t.Errorf("requests of %v tasks", got)
	}
}

func TestCloseWhileTasksAreUnderWay(t *testing.T) {
	k := newKeeper(t)
	k.before = newGate(t).pass
	c := k.client()
	var sent []<-chan Enqueued
	for n := range maxRequests {
		sent = append(sent, enqueuedLater(t.Context(), c, DurableTask{Function: "f"}))
		reached(t, k, n+1)
	}
	waiting := enqueuedLater(t.Context(), c, DurableTask{Function: "f"})
	eventually(t, "gathered", func() bool { return gathered(c) == 1 })
	c.Close()
	if e := wantError(t, waitFor(t, waiting).Err, "CLIENT_CLOSED"); errors.Is(e, ErrFateUnknown) {
		t.Error("it was never sent")
	}
	for _, s := range sent {
		if e := wantError(t, waitFor(t, s).Err, "CLIENT_CLOSED"); !errors.Is(e, ErrFateUnknown) {
			t.Error("it had been sent")
		}
	}
	for _, r := range c.EnqueueAll(t.Context(), make([]DurableTask, 2)) {
		wantError(t, r.Err, "CLIENT_CLOSED")
	}
}

// The same tasks go again under the same ids, and are no longer said to be new.
func TestABrokenRequestGoesAgain(t *testing.T) {
	k := newKeeper(t)
	var n atomic.Int64
	k.after = func(*pb.EnqueueResponse) error {
		if n.Add(1) < 3 {
			return errBroken
		}
		return nil
	}
	results := k.client().EnqueueAll(t.Context(), make([]DurableTask, 3))
	for _, r := range results {
		if r.Err != nil || !r.Existed {
			t.Errorf("%+v", r)
		}
	}
	if len(k.kept) != 3 {
		t.Errorf("%d tasks are kept", len(k.kept))
	}
}

// A stopping balancer takes some and not others: only those go again.
func TestWhatADrainingBalancerDidNotTakeGoesAgain(t *testing.T) {
	k := newKeeper(t)
	var n atomic.Int64
	k.after = func(resp *pb.EnqueueResponse) error {
		if n.Add(1) == 1 {
			r := resp.Results[1]
			delete(k.kept, r.TaskId)
			r.Error = &pb.Error{Code: int32(codes.Unavailable), Reason: "DRAINING", RetryAfterMs: 1}
			resp.Results[2].Error = &pb.Error{Code: int32(codes.ResourceExhausted), Reason: "QUEUE_FULL"}
		}
		return nil
	}
	results := k.client().EnqueueAll(t.Context(), make([]DurableTask, 4))
	for i, r := range results {
		if i == 2 {
			if e := wantError(t, r.Err, "QUEUE_FULL"); e.TaskID != r.ID {
				t.Errorf("%+v", e)
			}
		} else if r.Err != nil {
			t.Errorf("task %d: %v", i, r.Err)
		}
	}
	if got := k.seen(); !slices.Equal(got, []int{4, 1}) {
		t.Errorf("requests of %v tasks", got)
	}
}

func TestWhatIsKnownWhenARequestFails(t *testing.T) {
	for _, tt := range []struct {
		name, reason string
		answer       error
		code         codes.Code
		unknown      bool
	}{
		{"refused", "", status.Error(codes.PermissionDenied, "no"), codes.PermissionDenied, false},
		{"a bug", "", status.Error(codes.Internal, "oh"), codes.Internal, true},
		{"broken", "NO_CONNECTION", errBroken, codes.Unavailable, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := newKeeper(t)
			k.before = func(context.Context, *pb.EnqueueRequest) error { return tt.answer }
			id, err := k.client(WithConnectTimeout(50*time.Millisecond)).Enqueue(t.Context(), DurableTask{Function: "f"})
			if e := wantError(t, err, tt.reason); e.Code != tt.code || e.TaskID != id || errors.Is(e, ErrFateUnknown) != tt.unknown {
				t.Errorf("%+v", e)
			}
		})
	}
}

func TestNoBalancer(t *testing.T) {
	c := New(nowhere(t), WithConnectTimeout(50*time.Millisecond))
	defer c.Close()
	_, err := c.Enqueue(t.Context(), DurableTask{Function: "f"})
	if e := wantError(t, err, "NO_CONNECTION"); errors.Is(e, ErrFateUnknown) {
		t.Errorf("nothing was sent: %v", e)
	}
}

func TestAnAnswerThatIsTooShort(t *testing.T) {
	k := newKeeper(t)
	k.after = func(resp *pb.EnqueueResponse) error { resp.Results = nil; return nil }
	_, err := k.client().Enqueue(t.Context(), DurableTask{Function: "f"})
	if e := wantError(t, err, "INTERNAL"); !errors.Is(e, ErrFateUnknown) {
		t.Errorf("%v", e)
	}
}
