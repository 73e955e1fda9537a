package secure

import (
	"context"
	"crypto/tls"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"reparto/internal/secure/securetest"
)

const patience = 30 * time.Second

// serve answers health checks with the credentials (nil: in the clear) on a port
// of loopback.
func serve(t *testing.T, creds credentials.TransportCredentials, options ...grpc.ServerOption) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if creds != nil {
		options = append(options, grpc.Creds(creds))
	}
	s := grpc.NewServer(options...)
	healthpb.RegisterHealthServer(s, health.NewServer())
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() { s.Stop(); serving.Wait() })
	return l.Addr().String()
}

// ask makes a call over a connection of its own.
func ask(t *testing.T, c *Client, target string) error {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(c.Credentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

// house is a CA with a server and clients, as files.
type house struct {
	t   *testing.T
	dir string
	ca  *securetest.CA
	log record
}

func newHouse(t *testing.T) *house {
	h := &house{t: t, dir: t.TempDir(), ca: securetest.NewCA("House CA")}
	securetest.Write(h.dir, "ca.pem", h.ca.PEM)
	h.ca.Issue(securetest.Leaf{Name: "server"}).Write(h.dir, "server")
	h.ca.Issue(securetest.Leaf{Name: "client", Client: true}).Write(h.dir, "client")
	return h
}

func (h *house) file(name string) string { return filepath.Join(h.dir, name) }

func (h *house) server(o Options) *Server {
	h.t.Helper()
	o.Cert, o.Key = h.file("server.pem"), h.file("server.key")
	s, err := Open(o, h.log.logger())
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

func (h *house) client(o ClientOptions) *Client {
	h.t.Helper()
	c, err := OpenClient(o, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

func TestWhatKeepsAClientOutIsSaidAndWhatHelps(t *testing.T) {
	stranger := securetest.NewCA("Stranger")
	for _, c := range []struct {
		name   string
		server securetest.Leaf
		by     *securetest.CA // nil: the house's own
		mtls   bool
		client *securetest.Pair
		o      ClientOptions // ca.pem is added when there is no CA
		want   []string
	}{
		{name: "signed by a stranger", by: stranger, want: []string{"CN=Stranger", "ca.pem", "--tls-ca"}},
		{name: "not the system's CA", o: ClientOptions{TLS: true}, want: []string{"CN=House CA", "the system", "--tls-ca"}},
		{name: "another name", server: securetest.Leaf{DNS: []string{"a.example", "b.example"}}, want: []string{"is for a.example, b.example and not for 127.0.0.1", "--tls-server-name"}},
		{name: "not the name to expect", o: ClientOptions{ServerName: "c.example"}, want: []string{"is for localhost, 127.0.0.1, ::1 and not for c.example"}},
		{name: "expired", server: securetest.Leaf{NotAfter: time.Now().Add(-time.Minute)}, want: []string{"has expired", "until 20"}},
		{name: "not valid yet", server: securetest.Leaf{NotBefore: time.Now().Add(time.Minute)}, want: []string{"is not valid before"}},
		{name: "no certificate of its own", mtls: true, want: []string{"wants a client certificate", "--tls-cert"}},
		{name: "a stranger's certificate", mtls: true, client: stranger.Issue(securetest.Leaf{Name: "me", Client: true}), want: []string{"does not trust the CA", "own.pem", "CN=me", "CN=Stranger"}},
		{name: "a server's certificate", mtls: true, client: nil, o: ClientOptions{Cert: "server"}, want: []string{"for client authentication"}},
		{name: "an expired one", mtls: true, o: ClientOptions{Cert: "expired"}, want: []string{"has expired", "CN=late"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t)
			if c.by == nil {
				c.by = h.ca
			}
			c.by.Issue(c.server).Write(h.dir, "server")
			var so Options
			if c.mtls {
				so.ClientCA = h.file("ca.pem")
			}
			switch {
			case c.client != nil:
				c.o.Cert, c.o.Key = c.client.Write(h.dir, "own")
			case c.o.Cert == "server":
				c.o.Cert, c.o.Key = h.file("server.pem"), h.file("server.key")
			case c.o.Cert == "expired":
				c.o.Cert, c.o.Key = h.ca.Issue(securetest.Leaf{Name: "late", Client: true, NotAfter: time.Now().Add(-time.Minute)}).Write(h.dir, "own")
			}
			if !c.o.TLS {
				c.o.CA = h.file("ca.pem")
			}
			target, client := serve(t, h.server(so).Credentials()), h.client(c.o)
			err := ask(t, client, target)
			refused := client.Refused()
			if err == nil || refused == nil {
				t.Fatalf("the call gave %v, and TLS failed because of %v", err, refused)
			}
			for _, want := range append(c.want, target) {
				if !strings.Contains(refused.Error(), want) || !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in\n%v\n%v", want, refused, err)
				}
			}
			h.log.waitFor(t, "TLS handshake failed")
		})
	}
}

func TestWithWhatIsAskedForAClientComesIn(t *testing.T) {
	h := newHouse(t)
	own := ClientOptions{CA: h.file("ca.pem"), Cert: h.file("client.pem"), Key: h.file("client.key")}
	plain := ClientOptions{CA: h.file("ca.pem")}
	for name, c := range map[string]struct {
		server Options
		client ClientOptions
	}{
		"TLS":                                 {Options{}, plain},
		"mTLS":                                {Options{ClientCA: h.file("ca.pem")}, own},
		"optional, with":                      {Options{ClientCA: h.file("ca.pem"), ClientAuth: "optional"}, own},
		"optional, without":                   {Options{ClientCA: h.file("ca.pem"), ClientAuth: "optional"}, plain},
		"1.2 allowed":                         {Options{MinVersion: "1.2"}, plain},
		"a certificate that nobody asked for": {Options{}, own},
	} {
		client := h.client(c.client)
		if err := ask(t, client, serve(t, h.server(c.server).Credentials())); err != nil || client.Refused() != nil {
			t.Errorf("%s: %v, %v", name, err, client.Refused())
		}
	}
}

func TestAWrongCertificateIsRefusedAlsoWhereNoneIsNeeded(t *testing.T) {
	h := newHouse(t)
	cert, key := securetest.NewCA("Stranger").Issue(securetest.Leaf{Client: true}).Write(h.dir, "own")
	client := h.client(ClientOptions{CA: h.file("ca.pem"), Cert: cert, Key: key})
	if err := ask(t, client, serve(t, h.server(Options{ClientCA: h.file("ca.pem"), ClientAuth: "optional"}).Credentials())); err == nil || client.Refused() == nil {
		t.Errorf("it came in: %v, %v", err, client.Refused())
	}
}

func TestTLSAndNoneDoNotMeet(t *testing.T) {
	h := newHouse(t)
	client := h.client(ClientOptions{CA: h.file("ca.pem")})
	if err := ask(t, client, serve(t, nil)); client.Refused() == nil || !strings.Contains(client.Refused().Error(), "does not speak TLS at 127.0.0.1:") {
		t.Errorf("TLS at a port without: %v, %v", err, client.Refused())
	}
	client = h.client(ClientOptions{})
	if err := ask(t, client, serve(t, h.server(Options{}).Credentials())); client.Refused() != nil || err == nil || !strings.Contains(err.Error(), "if it wants TLS there, give --tls or --tls-ca FILE") {
		t.Errorf("no TLS at a port with: %v, %v", err, client.Refused())
	}
	h.log.waitFor(t, "the peer speaks without TLS")
	if err := ask(t, h.client(ClientOptions{}), serve(t, nil)); err != nil {
		t.Errorf("neither: %v", err)
	}
}

func TestAPortWithoutHTTP2IsRecognised(t *testing.T) {
	h := newHouse(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", h.server(Options{}).Config())
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake()
			conn.Close()
		}
	})
	client := h.client(ClientOptions{CA: h.file("ca.pem")})
	if err := ask(t, client, l.Addr().String()); client.Refused() == nil || !strings.Contains(client.Refused().Error(), "no HTTP/2") {
		t.Errorf("%v, %v", err, client.Refused())
	}
	l.Close()
	serving.Wait()
}

func TestAClientThatCameInOnceHasHope(t *testing.T) {
	h := newHouse(t)
	client := h.client(ClientOptions{CA: h.file("ca.pem")})
	target := serve(t, h.server(Options{}).Credentials())
	if err := ask(t, client, target); err != nil {
		t.Fatal(err)
	}
	securetest.NewCA("Stranger").Issue(securetest.Leaf{}).Write(h.dir, "server")
	if err := ask(t, client, target); err == nil || client.Refused() != nil {
		t.Errorf("the second call gave %v; refused: %v", err, client.Refused())
	}
}

func TestAClientsFilesAreReadAgain(t *testing.T) {
	h := newHouse(t)
	client := h.client(ClientOptions{CA: h.file("ca.pem"), Cert: h.file("client.pem"), Key: h.file("client.key")})
	target := serve(t, h.server(Options{ClientCA: h.file("client-ca.pem")}.with(h)).Credentials())
	if err := ask(t, client, target); err != nil {
		t.Fatal(err)
	}
	next := securetest.NewCA("next")
	securetest.Write(h.dir, "client-ca.pem", next.PEM)
	if err := ask(t, client, target); err == nil {
		t.Error("the old client certificate is taken after its CA was replaced")
	}
	next.Issue(securetest.Leaf{Client: true}).Write(h.dir, "client")
	next.Issue(securetest.Leaf{}).Write(h.dir, "server")
	securetest.Write(h.dir, "ca.pem", next.PEM)
	if err := ask(t, client, target); err != nil {
		t.Errorf("with all replaced: %v", err)
	}
}

// with makes the client CA's file, which starts as the house's own.
func (o Options) with(h *house) Options {
	securetest.Write(h.dir, "client-ca.pem", h.ca.PEM)
	return o
}

func TestClientOptionsThatAreWrong(t *testing.T) {
	h := newHouse(t)
	for want, o := range map[string]ClientOptions{
		"--tls-cert needs --tls-key": {Cert: h.file("client.pem")},
		"--tls-key needs --tls-cert": {Key: h.file("client.key")},
		h.file("no.pem"):             {CA: h.file("no.pem")},
	} {
		if _, err := OpenClient(o, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
