package doctor

import (
	"testing"

	"reparto/internal/dispatch"
	"reparto/internal/rpc"
)

func TestALimitOnMessages(t *testing.T) {
	b := serve(t, listenTCP(t), rpc.Options{}, dispatch.Options{})
	before := b.holds(t)
	b.relay(t, listenTCP(t), mostBytes(1<<20))
	r := b.examine(t, Options{})
	f := r.want(t, "message", Fail, "1 MiB do not", "while the balancer takes 16 MiB", "submit smaller payloads")
	passes, fails := f.Values["passes_bytes"].(int), f.Values["fails_bytes"].(int)
	if passes > 1<<20 || passes < 1<<20-32<<10 || fails < 1<<20-8 || fails > 1<<20+32<<10 {
		t.Errorf("%d bytes pass and %d do not", passes, fails)
	}
	r.want(t, "volume", Skip, "too large already")
	if len(r.Advice) != 0 { // the balancer's own HTTP/2 is heard: none of the two does that
		t.Errorf("advice: %+v", r.Advice)
	}
	if after := b.holds(t); after != before {
		t.Errorf("the balancer holds %s, and held %s before", after, before)
	}
}

func TestALimitOnAllThatPassesOnAStream(t *testing.T) {
	b := serve(t, listenTCP(t), rpc.Options{}, dispatch.Options{})
	b.relay(t, listenTCP(t), mostBytes(20<<20))
	r := b.examine(t, Options{})
	r.want(t, "message", OK, "16 MiB pass")
	f := r.want(t, "volume", Fail, "of 32 MiB", "a client's stream has no end")
	if passed := f.Values["passed_bytes"].(int); passed > 20<<20 || passed < 15<<20 {
		t.Errorf("%d bytes passed", passed)
	}
}

func TestTheBalancersOwnLimitIsNoFault(t *testing.T) {
	b := serve(t, listenTCP(t), rpc.Options{MaxMessage: 100000}, dispatch.Options{MaxPayload: 50000})
	r := b.examine(t, Options{Largest: 1 << 20})
	r.want(t, "message", OK, "97.66 KiB pass")
	r.want(t, "volume", OK, "195.3 KiB pass")
	if r.Failed() {
		t.Errorf("something failed: %+v", r.Findings)
	}
}
