package cli

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"reparto/internal/secure"
	"reparto/internal/secure/securetest"
)

func TestCheckTarget(t *testing.T) {
	for _, target := range []string{"localhost:9090", "[::1]:9090", "10.0.0.1:1", "unix:/run/x.sock", "dns:///a:1", "passthrough://x/y"} {
		if err := CheckTarget(target); err != nil {
			t.Errorf("%q is refused: %v", target, err)
		}
	}
	for _, target := range []string{"", "localhost", ":9090", "localhost:", "::1", "a b"} {
		if CheckTarget(target) == nil {
			t.Errorf("%q is taken", target)
		}
	}
}

func TestGuardEndsWhatTLSMakesHopeless(t *testing.T) {
	dir, ca := t.TempDir(), securetest.NewCA("CA")
	cert, key := ca.Issue(securetest.Leaf{}).Write(dir, "server")
	s, err := secure.Open(secure.Options{Cert: cert, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := newBouncer(t, grpc.Creds(s.Credentials()))
	p := peer(t, "--balancer", b.address, "--tls")
	conn, err := p.Dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Connect()
	err = p.Guard(t.Context(), conn, func(ctx context.Context) error {
		select {
		case <-ctx.Done():
		case <-time.After(30 * time.Second):
			t.Error("it goes on")
		}
		return nil
	})
	if codeOf(err) != NoConnection || !strings.Contains(err.Error(), "--tls-ca") {
		t.Errorf("got %v", err)
	}
}

func TestGuardLetsOtherTroublePass(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // nobody is there
	p := peer(t, "--balancer", l.Addr().String(), "--tls")
	conn, err := p.Dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = p.Guard(t.Context(), conn, func(ctx context.Context) error {
		_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
		if err == nil || ctx.Err() != nil {
			t.Errorf("the call gave %v, and the context %v", err, ctx.Err())
		}
		return net.ErrClosed
	})
	if err != net.ErrClosed {
		t.Errorf("got %v", err)
	}
}
