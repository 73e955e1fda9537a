package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"
)

// place is where a target is, as far as that can be told without gRPC.
type place struct {
	network string // tcp or unix; empty: only gRPC knows
	address string // to be dialled
	host    string // to be looked up; empty for what is no name
	port    string
	// authority is what requests are addressed to.
	authority string
}

// parse reads the schemes that gRPC comes with.
func parse(target string) place {
	if path, ok := strings.CutPrefix(target, "unix:"); ok {
		if rest, ok := strings.CutPrefix(path, "//"); ok {
			path = rest
		}
		return place{network: "unix", address: path, authority: "localhost"}
	}
	for _, scheme := range []string{"dns:", "passthrough:"} {
		if rest, ok := strings.CutPrefix(target, scheme); ok {
			target = rest
			if rest, ok := strings.CutPrefix(target, "//"); ok { // an authority, then the address
				_, target, _ = strings.Cut(rest, "/")
			}
			break
		}
	}
	if strings.Contains(target, "://") {
		return place{}
	}
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		host, port = target, "443" // what gRPC takes when no port is named
	}
	p := place{network: "tcp", address: net.JoinHostPort(host, port), host: host, port: port, authority: target}
	if net.ParseIP(host) != nil {
		p.host = ""
	}
	return p
}

// reach looks up the name and connects. It reports whether there is hope for gRPC.
func (e *exam) reach(ctx context.Context) bool {
	e.at = parse(e.o.Target)
	if e.at.network == "" {
		e.skip("connect", "%s is for gRPC alone to resolve; what is below gRPC is not looked at", e.o.Target)
		return true
	}
	if via := proxyFor(e.at); via != "" {
		e.at.network = ""
		e.found(Finding{
			Check: "connect", Status: Warn, Said: "the environment sends the connection through the HTTP proxy " + via + "; what is below gRPC is not looked at",
			Do: "if that is not meant, name the balancer's host in NO_PROXY",
		})
		return true
	}
	addresses := []string{e.at.address}
	if e.at.host != "" {
		if addresses = e.lookUp(ctx); addresses == nil {
			return false
		}
	}
	return e.connect(ctx, addresses)
}

// proxyFor is the proxy that gRPC takes for the place, as the environment says.
func proxyFor(p place) string {
	if p.network != "tcp" {
		return ""
	}
	via, err := httpproxy.FromEnvironment().ProxyFunc()(&url.URL{Scheme: "https", Host: p.address})
	if err != nil || via == nil {
		return ""
	}
	return via.Redacted()
}

// lookUp returns the addresses of the host; nil when there are none.
func (e *exam) lookUp(ctx context.Context) []string {
	limited, cancel := e.within(ctx)
	defer cancel()
	began := time.Now()
	hosts, err := net.DefaultResolver.LookupHost(limited, e.at.host)
	took := time.Since(began)
	if err != nil {
		e.found(Finding{
			Check: "name", Status: Fail, Said: fmt.Sprintf("%s is not found after %s: %v", e.at.host, span(took), err),
			Do: "check the name in --balancer, and the name server that this machine asks",
		})
		return nil
	}
	f := Finding{
		Check: "name", Status: OK, Said: fmt.Sprintf("%s is %s (%s)", e.at.host, strings.Join(hosts, ", "), span(took)),
		Values: map[string]any{"addresses": hosts, "took_ms": millis(took)},
	}
	if took > time.Second {
		f.Status, f.Do = Warn, "each new connection waits for this: check the name server that this machine asks"
	}
	e.found(f)
	addresses := make([]string, len(hosts))
	for i, h := range hosts {
		addresses[i] = net.JoinHostPort(h, e.at.port)
	}
	return addresses
}

// connect tries every address, and keeps the first connection that it gets.
func (e *exam) connect(ctx context.Context, addresses []string) bool {
	var good, bad []string
	var fastest time.Duration
	var last error
	for _, address := range addresses {
		limited, cancel := e.within(ctx)
		began := time.Now()
		conn, err := e.o.Connect(limited, e.at.network, address)
		took := time.Since(began)
		cancel()
		if err != nil {
			bad, last = append(bad, fmt.Sprintf("%s: %s", address, reasonOf(err))), err
			continue
		}
		good = append(good, fmt.Sprintf("%s in %s", address, span(took)))
		if e.way == nil {
			e.way, fastest, e.at.address = conn, took, address
			continue
		}
		_ = conn.Close() // it was only looked at
	}
	f := Finding{Check: "connect", Status: OK, Said: strings.Join(append(good, bad...), "; "), Values: map[string]any{"took_ms": millis(fastest)}}
	switch {
	case len(good) == 0:
		f.Status, f.Do, f.Values = Fail, refusedDo(last), nil
	case len(bad) > 0:
		f.Status, f.Do = Warn, "clients try these addresses one after another: let the name stand only for those that answer"
	}
	e.found(f)
	return len(good) > 0
}

// refusedDo is what to do about a connection that was not made.
func refusedDo(err error) string {
	if isTimeout(err) {
		return "nothing answers at all: a firewall drops what is sent there, or the machine is off"
	}
	return "start the balancer or the proxy there, or check the port in --balancer"
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || ok && timeout.Timeout()
}

// reasonOf is what the operating system says, without what we know already.
func reasonOf(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Err != nil {
		return op.Err.Error()
	}
	return err.Error()
}
