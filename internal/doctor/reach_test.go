package doctor

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"reparto/internal/dispatch"
	"reparto/internal/rpc"
)

func TestNobodyIsThere(t *testing.T) {
	l := listenTCP(t)
	l.Close()
	b := &balancer{address: l.Addr().String(), way: new(net.Dialer).DialContext}
	r := b.examine(t, Options{})
	r.want(t, "connect", Fail, "connection refused", "start the balancer")
	if r.Reached || len(r.Findings) != 1 {
		t.Errorf("reached %v: %+v", r.Reached, r.Findings)
	}
}

func TestANameThatNobodyHas(t *testing.T) {
	b := &balancer{address: "nobody.invalid:9090", way: new(net.Dialer).DialContext}
	r := b.examine(t, Options{})
	r.want(t, "name", Fail, "nobody.invalid is not found", "check the name")
	if r.Reached || len(r.Findings) != 1 {
		t.Errorf("reached %v: %+v", r.Reached, r.Findings)
	}
}

func TestANameOfWhichOneAddressIsDead(t *testing.T) {
	b := serve(t, listenTCP(t), rpc.Options{}, dispatch.Options{})
	o := b.options(Options{})
	way := o.Connect
	o.Connect = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == "10.0.0.1:9090" {
			return nil, &net.OpError{Op: "dial", Err: errors.New("no route to host")}
		}
		return way(ctx, network, address)
	}
	e := &exam{o: o.withDefaults(), tell: func(Finding) {}, at: place{network: "tcp"}}
	if !e.connect(t.Context(), []string{"10.0.0.1:9090", "10.0.0.2:9090", "10.0.0.3:9090"}) || e.at.address != "10.0.0.2:9090" {
		t.Errorf("it goes on with %q", e.at.address)
	}
	e.way.Close()
	found{&e.report}.want(t, "connect", Warn, "10.0.0.2:9090 in ", "10.0.0.1:9090: no route to host", "only for those that answer")
}

func TestAFirewallThatDropsEverything(t *testing.T) {
	b := &balancer{address: "127.0.0.1:9", way: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: context.DeadlineExceeded}
	}}
	b.examine(t, Options{}).want(t, "connect", Fail, "a firewall drops")
}

func TestParse(t *testing.T) {
	for target, want := range map[string]place{
		"localhost:9090":                 {"tcp", "localhost:9090", "localhost", "9090", "localhost:9090"},
		"10.0.0.1:1":                     {"tcp", "10.0.0.1:1", "", "1", "10.0.0.1:1"},
		"[::1]:9090":                     {"tcp", "[::1]:9090", "", "9090", "[::1]:9090"},
		"dns:///balancer.example:9090":   {"tcp", "balancer.example:9090", "balancer.example", "9090", "balancer.example:9090"},
		"dns://8.8.8.8/balancer.example": {"tcp", "balancer.example:443", "balancer.example", "443", "balancer.example"},
		"passthrough:///a:1":             {"tcp", "a:1", "a", "1", "a:1"},
		"unix:///run/reparto.sock":       {"unix", "/run/reparto.sock", "", "", "localhost"},
		"unix:reparto.sock":              {"unix", "reparto.sock", "", "", "localhost"},
		"xds:///balancers":               {},
	} {
		if got := parse(target); got != want {
			t.Errorf("%s: got %+v, want %+v", target, got, want)
		}
	}
}

func TestAProxyOfTheEnvironment(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://alice:secret@proxy.example:3128")
	t.Setenv("NO_PROXY", "near.example")
	for _, p := range []place{{network: "unix"}, parse("127.0.0.1:9090"), parse("localhost:9090"), parse("near.example:9090")} {
		if via := proxyFor(p); via != "" {
			t.Errorf("%+v is reached through %s", p, via)
		}
	}
	e := &exam{o: Options{Target: "balancer.example:9090"}, tell: func(Finding) {}}
	if !e.reach(t.Context()) || e.way != nil {
		t.Error("it does not leave the way to gRPC")
	}
	f := found{&e.report}.want(t, "connect", Warn, "the HTTP proxy http://alice:", "proxy.example:3128", "NO_PROXY")
	if strings.Contains(f.Said, "secret") {
		t.Errorf("it shows a password: %s", f.Said)
	}
}
