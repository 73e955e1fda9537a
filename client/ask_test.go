package client

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "reparto/gen/reparto/v1"
)

func TestACallKeepsToTheConnectTimeout(t *testing.T) {
	c := New(nowhere(t), WithConnectTimeout(50*time.Millisecond))
	defer c.Close()
	_, err := c.Get(t.Context(), "t")
	if e := wantError(t, err, "NO_CONNECTION"); e.Code != codes.Unavailable || e.TaskID != "t" {
		t.Errorf("%+v", e)
	}
}

func TestACallEndsWithItsContext(t *testing.T) {
	c := New(nowhere(t))
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := c.Get(ctx, "t"); done <- err }()
	cancel()
	wantError(t, waitFor(t, done), "CONTEXT_ENDED")
}

func TestACallEndsWithTheClient(t *testing.T) {
	k := newKeeper(t)
	called, over := make(chan struct{}), newGate(t)
	k.wait = func(int) (*pb.WaitTaskResponse, error) {
		close(called)
		<-over.opened
		return nil, errBroken
	}
	c := k.client()
	done := make(chan error, 1)
	go func() { _, err := c.Wait(t.Context(), "t"); done <- err }()
	waitFor(t, called)
	c.Close()
	wantError(t, waitFor(t, done), "CLIENT_CLOSED")
	over.open()
	_, err := c.Get(t.Context(), "t")
	wantError(t, err, "CLIENT_CLOSED")
}

// slow is a connection to a proxy: each call takes its time, and then ends as the
// function says.
type slow struct {
	grpc.ClientConnInterface
	calls  int
	answer func(call int) (after time.Duration, err error)
}

func (s *slow) Invoke(ctx context.Context, _ string, _, _ any, opts ...grpc.CallOption) error {
	for _, o := range opts {
		if p, ok := o.(grpc.PeerCallOption); ok {
			p.PeerAddr.Addr = &net.TCPAddr{}
		}
	}
	s.calls++
	after, err := s.answer(s.calls)
	if !sleepFor(ctx, after) {
		return status.FromContextError(ctx.Err()).Err()
	}
	return err
}

func sleepFor(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// TestAProxyThatTakesItsTimeToRefuse: it looks like a balancer that breaks, but not
// for ever.
func TestAProxyThatTakesItsTimeToRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(&slow{answer: func(int) (time.Duration, error) {
			return 2 * time.Second, status.Error(codes.Unavailable, "503 (Service Unavailable)")
		}})
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := c.Get(ctx, "t")
		wantError(t, err, "NO_CONNECTION")
	})
}

// TestBalancersThatBreakOneAfterTheOther: a call that waited long has all its
// patience again when its balancer breaks.
func TestBalancersThatBreakOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(&slow{answer: func(call int) (time.Duration, error) {
			switch {
			case call == 1 || call == 20:
				return 15 * time.Second, errBroken
			case call < 30:
				return 0, errBroken
			}
			return 0, nil
		}})
		defer c.Close()
		if _, err := c.Get(t.Context(), "t"); err != nil {
			t.Error(err)
		}
	})
}
