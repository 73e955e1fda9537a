package secure

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"

	"reparto/internal/secure/securetest"
)

// shown is the serial of the certificate that a server shows.
func (h *house) shown(target string) (*big.Int, error) {
	conn, err := tls.Dial("tcp", target, &tls.Config{RootCAs: h.ca.Pool(), NextProtos: []string{"h2"}})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber, nil
}

func TestNewConnectionsSeeTheNewCertificateAndOldStreamsGoOn(t *testing.T) {
	h := newHouse(t)
	target := serve(t, h.server(Options{}).Credentials())
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(h.client(ClientOptions{CA: h.file("ca.pem")}).Credentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		next := h.ca.Issue(securetest.Leaf{})
		next.Write(h.dir, "server")
		if got, err := h.shown(target); err != nil || got.Cmp(next.Serial) != 0 {
			t.Errorf("a new connection sees %v, %v; want %v", got, err, next.Serial)
		}
		if _, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}); err != nil {
			t.Errorf("the old connection: %v", err)
		}
	}
	if stream.Context().Err() != nil || strings.Contains(h.log.String(), "WARN") {
		t.Errorf("the stream: %v; log:\n%s", stream.Context().Err(), &h.log)
	}
}

func TestOldVersionsAreRefusedUnlessAskedFor(t *testing.T) {
	h := newHouse(t)
	for version, ok := range map[string]bool{"": false, "1.3": false, "1.2": true} {
		target := serve(t, h.server(Options{MinVersion: version}).Credentials())
		conn, err := tls.Dial("tcp", target, &tls.Config{RootCAs: h.ca.Pool(), NextProtos: []string{"h2"}, MaxVersion: tls.VersionTLS12})
		if err == nil {
			conn.Close()
		}
		if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "protocol version not supported") {
			t.Errorf("least version %q: %v", version, err)
		}
	}
}

func TestAResumedSessionIsNoWayAroundANewCA(t *testing.T) {
	h := newHouse(t)
	target := serve(t, h.server(Options{ClientCA: h.file("ca.pem"), MinVersion: "1.2"}).Credentials())
	pair := h.ca.Issue(securetest.Leaf{Client: true})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		securetest.Write(h.dir, "ca.pem", h.ca.PEM)
		config := &tls.Config{
			RootCAs: h.ca.Pool(), NextProtos: []string{"h2"}, MaxVersion: version, Certificates: []tls.Certificate{pair.TLS()}, ClientSessionCache: tls.NewLRUClientSessionCache(1),
		}
		for range 2 {
			if resumed, err := handshake(target, config); resumed || err != nil {
				t.Errorf("%s: %v; resumed: %v", tls.VersionName(version), err, resumed)
			}
		}
		securetest.Write(h.dir, "ca.pem", securetest.NewCA("next").PEM)
		if _, err := handshake(target, config); err == nil {
			t.Errorf("%s: a certificate of a CA that is gone came in", tls.VersionName(version))
		}
	}
}

// handshake ends with the server's first bytes, or its refusal.
func handshake(target string, config *tls.Config) (resumed bool, err error) {
	conn, err := tls.Dial("tcp", target, config)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, err = conn.Read(make([]byte, 1))
	return conn.ConnectionState().DidResume, err
}

func TestAPeerThatNeverFinishesHoldsUpNobodyAndIsDropped(t *testing.T) {
	h := newHouse(t)
	const limit = 300 * time.Millisecond
	target := serve(t, h.server(Options{}).Credentials(), grpc.ConnectionTimeout(limit))
	began := time.Now()
	var idle []net.Conn
	for range 20 {
		conn, err := net.Dial("tcp", target)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		idle = append(idle, conn)
	}
	if err := ask(t, h.client(ClientOptions{CA: h.file("ca.pem")}), target); err != nil {
		t.Errorf("another peer: %v", err)
	}
	for _, conn := range idle {
		_ = conn.SetReadDeadline(began.Add(patience))
		if n, err := io.Copy(io.Discard, conn); n > 0 || err != nil {
			t.Fatalf("it got %d bytes, %v", n, err)
		}
	}
	if took := time.Since(began); took < limit {
		t.Errorf("dropped after %v, before the limit", took)
	}
}

func TestConnectionsInsideTheProcessNeedNoCertificate(t *testing.T) {
	h := newHouse(t)
	inside := bufconn.Listen(1 << 16)
	s := grpc.NewServer(grpc.Creds(h.server(Options{ClientCA: h.file("ca.pem")}).Credentials()))
	defer s.Stop()
	served := make(chan error, 1)
	go func() { served <- s.Serve(inside) }()
	conn, err := grpc.NewClient("passthrough:///inside", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return inside.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	_, err = healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err == nil || !strings.Contains(err.Error(), "unknown service") {
		t.Errorf("got %v", err)
	}
	conn.Close()
	s.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestFailedHandshakesDoNotFloodTheLog(t *testing.T) {
	var log record
	var f few
	here := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 7}
	for range 1000 {
		f.log(log.logger(), here, errors.New("wrong"))
	}
	f.log(log.logger(), here, io.EOF)
	if n := strings.Count(log.String(), "\n"); n < 1 || n > 5 {
		t.Errorf("%d lines", n)
	}
}

func TestOptionsThatAreWrong(t *testing.T) {
	h := newHouse(t)
	cert, key := h.file("server.pem"), h.file("server.key")
	for want, o := range map[string]Options{
		"--tls-cert needs --tls-key":                        {Cert: cert},
		"--tls-key needs --tls-cert":                        {Key: key},
		"--tls-client-ca needs":                             {ClientCA: h.file("ca.pem")},
		`--tls-client-auth is "maybe"`:                      {Cert: cert, Key: key, ClientCA: h.file("ca.pem"), ClientAuth: "maybe"},
		"--tls-client-auth optional needs":                  {Cert: cert, Key: key, ClientAuth: "optional"},
		`--tls-min-version is "1.1"`:                        {Cert: cert, Key: key, MinVersion: "1.1"},
		"--tls-handshake-timeout is -1s":                    {HandshakeLimit: -time.Second},
		h.file("none.pem"):                                  {Cert: h.file("none.pem"), Key: key},
		"the certificate " + cert + " with the key " + cert: {Cert: cert, Key: cert},
		"the CA " + key:                                     {Cert: cert, Key: key, ClientCA: key},
	} {
		if s, err := Open(o, nil); err == nil || s != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	none, err := Open(Options{}, nil)
	if none != nil || err != nil || none.Config() != nil || none.Credentials() != nil {
		t.Errorf("without a certificate there is %v, %v", none, err)
	}
}
