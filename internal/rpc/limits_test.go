package rpc

import (
	"net"
	"testing"
	"time"

	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/store/memory"
)

// Limits that are changed hold for calls from then on, and for what a principal has
// without an outcome at once.
func TestLimitsThatChange(t *testing.T) {
	d, as := principals(t, map[string]string{"p": `submit: ["*"]`})
	h := serve(t, dispatch.Options{Store: memory.New()}, Options{Auth: d})
	ctx := as(h.ctx, "p")
	enqueue := func() string {
		t.Helper()
		resp, err := h.tasks.Enqueue(ctx, &pb.EnqueueRequest{Tasks: []*pb.EnqueueTask{{Function: "f"}}})
		if err != nil {
			return status.Convert(err).Message()
		}
		return resp.Results[0].Error.GetReason()
	}
	if got := enqueue(); got != "" {
		t.Fatal(got)
	}
	h.s.SetLimits(Limits{TasksInFlight: 1}, Limits{})
	if got := enqueue(); got != "QUEUE_FULL" {
		t.Errorf("%q with one task of one allowed", got)
	}
	h.s.SetLimits(Limits{TasksPerSecond: 0.001, Burst: 1}, Limits{})
	if got := []string{enqueue(), enqueue()}; got[0] != "" || got[1] != "RATE_LIMIT" {
		t.Errorf("%q with a burst of one", got)
	}
	h.s.SetLimits(Limits{}, Limits{})
	if got := enqueue(); got != "" {
		t.Errorf("%q with all limits taken back", got)
	}
}

// A rate that has not recovered is remembered, however many others come: else who is
// over it had only to call from elsewhere meanwhile.
func TestARateIsNotForgottenBeforeItHasRecovered(t *testing.T) {
	q := newQuotas(false, Limits{}, Limits{TasksPerSecond: 0.001, Burst: 1})
	call := func(n int) *callQuotas {
		t.Helper()
		ctx := peer.NewContext(t.Context(), &peer.Peer{Addr: &net.TCPAddr{IP: net.IPv4(10, byte(n>>16), byte(n>>8), byte(n)), Port: 1}})
		held, err := q.enter(ctx, false)
		if err != nil {
			t.Fatal(err)
		}
		q.leave(held)
		return held
	}
	if n, err := call(1).take(time.Now(), 1); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	for n := range 3 * manyQuotas {
		call(2 + n)
	}
	if n, _ := call(1).take(time.Now(), 1); n != 0 {
		t.Error("its rate was forgotten")
	}
	if len(q.by) > 2*manyQuotas {
		t.Errorf("%d quotas are kept of peers that have nothing open and brought nothing", len(q.by))
	}
}
