package doctor

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"reparto/internal/dispatch"
	"reparto/internal/rpc"
)

func TestConnectionsAreSpread(t *testing.T) {
	one := serve(t, listenTCP(t), rpc.Options{}, dispatch.Options{})
	other := serve(t, listenTCP(t), rpc.Options{}, dispatch.Options{})
	var turn atomic.Int64
	dialOther := other.dial
	one.relay(t, listenTCP(t), func(client, server net.Conn) {
		if turn.Add(1)%2 == 0 {
			server.Close()
			var err error
			if server, err = dialOther(t.Context()); err != nil {
				return
			}
			defer server.Close()
		}
		both(client, server, func(int) bool { return true })
	})
	r := one.examine(t, Options{Largest: -1})
	f := r.want(t, "spread", OK, "6 connections reach 2 balancers, the calls of one connection a single one")
	if f.Values["balancers_of_connections"] != 2 || f.Values["balancers_of_calls"] != 1 {
		t.Errorf("figures: %v", f.Values)
	}
	if len(r.Advice) != 0 {
		t.Errorf("advice: %+v", r.Advice)
	}
}

func TestALimitOnConnections(t *testing.T) {
	b := serve(t, listenTCP(t), rpc.Options{AddressLimits: rpc.Limits{Connections: 4}}, dispatch.Options{})
	r := b.examine(t, Options{Largest: -1})
	r.want(t, "spread", Fail, "of 12 calls failed", "a limit on connections")
}

func TestClocksThatAreApart(t *testing.T) {
	b := serve(t, listenTCP(t), rpc.Options{}, dispatch.Options{})
	for off, said := range map[time.Duration]string{-5 * time.Second: "is 5s ahead of", time.Minute: "is 1m behind"} {
		r := b.examine(t, Options{Largest: -1, Now: func() time.Time { return time.Now().Add(off) }})
		r.want(t, "clock", Warn, said, "NTP")
		if r.Failed() {
			t.Error("a warning is no failure")
		}
	}
	r := b.examine(t, Options{Largest: -1, Now: func() time.Time { return time.Now().Add(1500 * time.Millisecond) }})
	r.want(t, "clock", OK, "is 1.5s behind")
}

// A slow way makes clocks no worse: half of the round trip is doubt.
func TestASlowWayIsNoSkew(t *testing.T) {
	e := &exam{heard: []hearing{{"b", 3 * time.Second, 4 * time.Second}, {"b", 2500 * time.Millisecond, 2 * time.Second}}, tell: func(Finding) {}}
	e.clock(t.Context())
	found{&e.report}.want(t, "clock", OK, "2.5s ahead of", "give or take 1s")
}
