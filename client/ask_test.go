package client

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

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
