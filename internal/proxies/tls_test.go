package proxies

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"reparto/client"
	"reparto/internal/secure"
	"reparto/internal/secure/securetest"
	"reparto/internal/server"
)

// TestTLSOnBothSides: with the lines for it, the proxy shows its own certificate and
// checks the balancer's.
func TestTLSOnBothSides(t *testing.T) {
	each(t, func(t *testing.T, program string) {
		dir, ca := t.TempDir(), securetest.NewCA("ours")
		front, inside := ca.Issue(securetest.Leaf{Name: "proxy", DNS: []string{"localhost"}}), ca.Issue(securetest.Leaf{Name: "balancer", DNS: []string{"balancer.example"}})
		cert, key := front.Write(dir, "proxy")
		both := securetest.Write(dir, "both.pem", slices.Concat(front.Cert, front.Key))
		trusted := securetest.Write(dir, "ca.pem", ca.PEM)

		b := startTLSBalancer(t, inside)
		files := map[string][]string{
			"haproxy": {"/etc/haproxy/reparto.pem", both, "/etc/haproxy/ca.pem", trusted},
			"nginx":   {"/etc/nginx/reparto.pem", cert, "/etc/nginx/reparto.key", key, "/etc/nginx/ca.pem", trusted},
		}
		p := startRewritten(t, program, b, b, speakTLS, files[program]...)
		trust := credentials.NewClientTLSFromCert(ca.Pool(), "localhost")
		startCrew(t, p.direct[0], grpc.WithTransportCredentials(trust))
		mustEcho(t, dialSDK(t, p.address, client.WithTransportCredentials(trust)), "secret")
		if program == "haproxy" {
			eventually(t, "the health is asked over TLS too", func() bool { return strings.Contains(p.asks("show stat"), ",L7OK,") })
		}

		// Another CA's balancer is none of ours.
		wrong := securetest.Write(dir, "wrong.pem", securetest.NewCA("theirs").PEM)
		i := slices.Index(files[program], trusted)
		files[program][i] = wrong
		p = startRewritten(t, program, b, b, speakTLS, files[program]...)
		if program == "haproxy" { // it is to have looked
			eventually(t, "both balancers are found wanting", func() bool { return strings.Count(p.asks("show stat"), ",L6RSP,") >= 2 })
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c := dialSDK(t, p.address, client.WithTransportCredentials(trust), client.WithConnectTimeout(time.Millisecond))
		info, err := c.Explain(ctx, "nothing")
		if err == nil || !strings.Contains(err.Error(), "502") && !strings.Contains(err.Error(), "503") {
			t.Errorf("a balancer with a certificate of nobody's: %v, %v", info, err)
		}
	})
}

func startTLSBalancer(t *testing.T, shown *securetest.Pair) string {
	t.Helper()
	cert, key := shown.Write(t.TempDir(), "balancer")
	tls, err := secure.Open(secure.Options{Cert: cert, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return startBalancerWith(t, server.Options{TLS: tls})
}
