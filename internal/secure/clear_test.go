package secure

import (
	"net"
	"strings"
	"testing"
)

func port(address, ip string, tls bool) Port {
	return Port{TLS: tls, Remedy: "--tls-cert"}.At("gRPC", "--grpc", address, &net.TCPAddr{IP: net.ParseIP(ip), Port: 9})
}

func TestWhatMayListenInTheClear(t *testing.T) {
	for _, c := range []struct {
		address, ip string
		loopback    bool
	}{
		{"localhost:9", "127.0.0.1", true}, {"127.0.0.1:9", "127.0.0.1", true}, {"127.1.2.3:9", "127.1.2.3", true}, {"[::1]:9", "::1", true},
		{"[::ffff:127.0.0.1]:9", "::ffff:127.0.0.1", true},
		{"0.0.0.0:9", "0.0.0.0", false}, {"[::]:9", "::", false}, {":9", "::", false}, {"10.0.0.7:9", "10.0.0.7", false},
		{"192.168.1.2:9", "192.168.1.2", false}, {"[fe80::1]:9", "fe80::1", false}, {"host.example:9", "203.0.113.5", false},
	} {
		for _, tls := range []bool{false, true} {
			for _, insecure := range []bool{false, true} {
				var log record
				err := CheckPorts([]Port{port(c.address, c.ip, tls)}, insecure, log.logger())
				bad := !c.loopback && !tls
				if (err != nil) != (bad && !insecure) {
					t.Errorf("%s, TLS %v, --insecure %v: %v", c.address, tls, insecure, err)
				}
				if err != nil && (!strings.Contains(err.Error(), "--grpc "+c.address+" (gRPC") || !strings.Contains(err.Error(), "--tls-cert") || !strings.Contains(err.Error(), "--insecure")) {
					t.Errorf("%s: %v", c.address, err)
				}
				if warned := strings.Contains(log.String(), "level=WARN") && strings.Contains(log.String(), c.address); warned != (bad && insecure) {
					t.Errorf("%s, TLS %v, --insecure %v: log\n%s", c.address, tls, insecure, &log)
				}
			}
		}
	}
}

func TestEveryOpenPortIsNamed(t *testing.T) {
	off := port("", "127.0.0.1", false)
	off.Addr = nil
	err := CheckPorts([]Port{port("0.0.0.0:1", "::", false), off, port("here.example:2", "10.1.1.1", false), port("localhost:3", "127.0.0.1", false)}, false, nil)
	if err == nil || !strings.Contains(err.Error(), "0.0.0.0:1") || !strings.Contains(err.Error(), "here.example:2 (gRPC, which is 10.1.1.1:9)") || strings.Contains(err.Error(), "localhost:3") || strings.Count(err.Error(), "--tls-cert") != 1 {
		t.Errorf("got %v", err)
	}
}

func TestTargetsOnThisMachine(t *testing.T) {
	for target, want := range map[string]bool{
		"localhost:1": true, "LOCALHOST:1": true, "127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "unix:/run/x": true, "unix:///run/x": true,
		"unix-abstract:x": true, "dns:localhost:1": true, "dns:///localhost:1": true, "dns://8.8.8.8/127.0.0.1:1": true, "passthrough:///[::1]:1": true,
		"10.0.0.1:1": false, "0.0.0.0:1": false, "balancer:1": false, "localhost.example:1": false, "dns:///balancer:1": false,
		"dns://localhost/balancer:1": false, "xds:///localhost:1": false, "": false, "passthrough:///10.0.0.1:1": false,
	} {
		if got := LoopbackTarget(target); got != want {
			t.Errorf("%q: %v", target, got)
		}
	}
}
