package doctor

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"reparto/internal/dispatch"
	"reparto/internal/rpc"
)

// inMemory serves a balancer in a bubble, where a minute passes at once.
func inMemory(t *testing.T) *balancer {
	t.Helper()
	return serve(t, bufconn.Listen(1<<20), rpc.Options{}, dispatch.Options{})
}

func TestNothingCutsIdleStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inMemory(t)
		began := time.Now()
		r := b.examine(t, Options{Idle: 90 * time.Second, Largest: -1})
		if took := time.Since(began); took > 91*time.Second {
			t.Errorf("it took %v, so the worker did not leave in order", took)
		}
		r.want(t, "idle-client", OK, "kept for 1m30s, and worked at once")
		r.want(t, "idle-worker", OK, "heartbeats alone was kept for 1m30s")
	})
}

func TestAProxyThatCutsIdleStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inMemory(t)
		b.relay(t, bufconn.Listen(1<<20), idleStreams(30*time.Second))
		r := b.examine(t, Options{Idle: 90 * time.Second, Largest: -1})
		f := r.want(t, "idle-client", Fail, "cut after 30s", "INTERNAL_ERROR", "pings do not keep it", "longest task")
		if f.Values["cut_after_ms"] != 30e3 || f.Values["cut_after_with_pings_ms"] != 30e3 {
			t.Errorf("figures: %v", f.Values)
		}
		r.want(t, "idle-worker", OK, "kept for 1m30s") // its heartbeats come every 10 s
	})
}

func TestAProxyThatCutsWorkersBetweenHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inMemory(t)
		b.relay(t, bufconn.Listen(1<<20), idleStreams(5*time.Second))
		r := b.examine(t, Options{Idle: 90 * time.Second, Largest: -1})
		if f := r.want(t, "idle-client", Fail, "cut after 5s", "too soon for a ping"); len(f.Values) != 3 {
			t.Errorf("figures: %v", f.Values)
		}
		r.want(t, "idle-worker", Fail, "cut after 5s", "heartbeat interval of 10s")
	})
}

func TestAFirewallThatPingsKeepOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inMemory(t)
		b.relay(t, bufconn.Listen(1<<20), idleBytes(25*time.Second, false))
		r := b.examine(t, Options{Idle: 90 * time.Second, Largest: -1})
		r.want(t, "idle-client", Warn, "cut after 25s", "a ping every 20s keeps it")
		r.lines(t, haproxy, "timeout client  1h", "timeout server  1h", "timeout tunnel  1h")
		r.lines(t, nginx, "proxy_timeout 1h;")
	})
}

// The balancer's own pings, every 30 s, have no answer either.
func TestAFirewallThatForgetsInSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inMemory(t)
		b.relay(t, bufconn.Listen(1<<20), idleBytes(15*time.Second, true))
		r := b.examine(t, Options{Idle: 25 * time.Second, Largest: -1, Timeout: 10 * time.Second})
		r.want(t, "idle-client", Fail, "looked as if it were there after 25s, and carried nothing", "above the longest task")
	})
}

func TestAWorkerIsHeldOnlyByWhoMayBeOne(t *testing.T) {
	b, token := guarded(t, `submit: [sum]`)
	r := b.examine(t, withToken(b, token, Options{Idle: 50 * time.Millisecond, Largest: -1}))
	r.want(t, "idle-client", OK, "worked at once")
	r.want(t, "idle-worker", Skip, "may not work")

	b, token = guarded(t, `work: [sum]`)
	r = b.examine(t, withToken(b, token, Options{Idle: 50 * time.Millisecond, Largest: -1}))
	r.want(t, "idle-client", OK, "kept for 50ms")
	r.want(t, "idle-worker", Skip, "a name that nobody uses")
}
