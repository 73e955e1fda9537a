package cli

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"reparto/internal/secure"
	"reparto/internal/secure/securetest"
)

// bouncer is a server that keeps what callers show.
type bouncer struct {
	address string
	mu      sync.Mutex
	shown   []string
}

func newBouncer(t *testing.T, options ...grpc.ServerOption) *bouncer {
	t.Helper()
	b := &bouncer{}
	s := grpc.NewServer(append(options, grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		b.mu.Lock()
		b.shown = md.Get("authorization")
		b.mu.Unlock()
		return h(ctx, req)
	}))...)
	healthpb.RegisterHealthServer(s, health.NewServer())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.address = l.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() { s.Stop(); serving.Wait() })
	return b
}

// shows makes a call and returns what it has shown.
func (b *bouncer) shows(t *testing.T, conn *grpc.ClientConn) string {
	t.Helper()
	if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.shown, ",")
}

// peer is what a command line asks for.
func peer(t *testing.T, args ...string) *Peer {
	t.Helper()
	var p Peer
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	p.AddFlags(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return &p
}

func TestEachCallShowsTheTokenThatTheFileHasThen(t *testing.T) {
	dir := t.TempDir()
	file := securetest.Write(dir, "token", []byte("  first\n"))
	t.Setenv(TokenVariable, "another")
	b := newBouncer(t)
	var logged bytes.Buffer
	conn, err := peer(t, "--balancer", b.address, "--token-file", file).Dial(slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := b.shows(t, conn); got != "Bearer first" {
		t.Errorf("the first call shows %q", got)
	}
	securetest.Write(dir, "token", []byte("the-second\n"))
	if got := b.shows(t, conn); got != "Bearer the-second" {
		t.Errorf("the next call shows %q", got)
	}
	for _, broken := range []func(){
		func() { securetest.Write(dir, "token", []byte("\n")) },
		func() { securetest.Write(dir, "token", []byte("two words")) },
		func() { _ = os.Remove(file) },
	} {
		broken()
		if got := b.shows(t, conn); got != "Bearer the-second" {
			t.Errorf("when the file is broken, a call shows %q", got)
		}
	}
	b.shows(t, conn)
	if out := logged.String(); !strings.Contains(out, file) || strings.Contains(out, "second") || strings.Contains(out, "words") {
		t.Errorf("the log has\n%s", out)
	}
	securetest.Write(dir, "token", []byte("third"))
	if got := b.shows(t, conn); got != "Bearer third" {
		t.Errorf("the last call shows %q", got)
	}
}

func TestTheTokenMayBeInTheEnvironment(t *testing.T) {
	t.Setenv(TokenVariable, "secret\n")
	b := newBouncer(t)
	conn, err := peer(t, "--balancer", b.address).Dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := b.shows(t, conn); got != "Bearer secret" {
		t.Errorf("it shows %q", got)
	}
}

func TestATokenDoesNotLeaveTheMachineInTheClear(t *testing.T) {
	dir := t.TempDir()
	ca := securetest.Write(dir, "ca.pem", securetest.NewCA("CA").PEM)
	for _, c := range []struct {
		target string
		args   []string
		ok     bool
	}{
		{"localhost:1", nil, true}, {"127.0.0.1:1", nil, true}, {"unix:/run/x", nil, true},
		{"10.0.0.1:1", nil, false}, {"balancer.example:1", nil, false}, {"dns:///balancer.example:1", nil, false},
		{"10.0.0.1:1", []string{"--insecure"}, true}, {"10.0.0.1:1", []string{"--tls"}, true}, {"10.0.0.1:1", []string{"--tls-ca", ca}, true},
	} {
		t.Setenv(TokenVariable, "secret")
		conn, err := peer(t, append(c.args, "--balancer", c.target)...).Dial(nil)
		if conn != nil {
			conn.Close()
		}
		if (err == nil) != c.ok {
			t.Errorf("%s %v: %v", c.target, c.args, err)
		}
		if err != nil && (codeOf(err) != Usage || !strings.Contains(err.Error(), c.target) || !strings.Contains(err.Error(), "--insecure") || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: exit code %d, %v", c.target, codeOf(err), err)
		}
	}
}

func TestWithTLSATokenNeverPassesWithout(t *testing.T) {
	dir, ca := t.TempDir(), securetest.NewCA("CA")
	cert, key := ca.Issue(securetest.Leaf{}).Write(dir, "server")
	s, err := secure.Open(secure.Options{Cert: cert, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(TokenVariable, "secret")
	tls, plain := newBouncer(t, grpc.Creds(s.Credentials())), newBouncer(t)
	file := securetest.Write(dir, "ca.pem", ca.PEM)
	conn, err := peer(t, "--balancer", tls.address, "--tls-ca", file).Dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := tls.shows(t, conn); got != "Bearer secret" {
		t.Errorf("with TLS it shows %q", got)
	}
	p := peer(t, "--balancer", plain.address, "--tls-ca", file)
	conn, err = p.Dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err == nil || len(plain.shown) > 0 {
		t.Errorf("a server without TLS gave %v, and saw %q", err, plain.shown)
	}
	if err := p.Refused(); codeOf(err) != NoConnection {
		t.Errorf("refused: %v", err)
	}
}

func TestTokensThatAreNone(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing")
	for want, c := range map[string]struct{ file, value string }{
		"no such file":             {missing, ""},
		"there is no token":        {securetest.Write(dir, "empty", []byte(" \n")), ""},
		"character 7 is":           {securetest.Write(dir, "two", []byte("secret other\n")), ""},
		"variable REPARTO_TOKEN: ": {"", "sécret"},
	} {
		if tok, err := openToken(c.file, c.value, nil); tok != nil || err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "cret ") {
			t.Errorf("%+v: %v, %v", c, tok, err)
		}
	}
	if tok, err := openToken("", "", nil); tok != nil || err != nil {
		t.Errorf("without any: %v, %v", tok, err)
	}
}
