package doctor

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"

	"reparto/internal/dispatch"
	"reparto/internal/rpc"
	"reparto/internal/secure"
	"reparto/internal/secure/securetest"
)

// trusting is credentials of a client that trusts the CA.
func trusting(t *testing.T, ca *securetest.CA, o secure.ClientOptions) credentials.TransportCredentials {
	t.Helper()
	o.CA = securetest.Write(t.TempDir(), "ca.pem", ca.PEM)
	c, err := secure.OpenClient(o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.Credentials()
}

// serveTLS serves a balancer with a certificate.
func serveTLS(t *testing.T, ca *securetest.CA, l securetest.Leaf) *balancer {
	t.Helper()
	pair := ca.Issue(l).TLS()
	return serve(t, listenTCP(t), rpc.Options{Credentials: credentials.NewServerTLSFromCert(&pair)}, dispatch.Options{})
}

func TestACertificateThatIsGood(t *testing.T) {
	ca := securetest.NewCA("CA")
	b := serveTLS(t, ca, securetest.Leaf{Name: "balancer", NotAfter: time.Now().Add(100 * 24 * time.Hour)})
	r := b.examine(t, Options{Credentials: trusting(t, ca, secure.ClientOptions{}), Largest: -1})
	r.want(t, "tls", OK, "TLS 1.3")
	r.want(t, "certificate", OK, "CN=balancer, issued by CN=CA, for localhost, 127.0.0.1, ::1, good for 99 days")
	r.want(t, "http2", OK, "from end to end")
	r.want(t, "proxy", OK, "none that speaks HTTP")
	if r.Failed() {
		t.Errorf("something failed: %+v", r.Findings)
	}
}

func TestACertificateThatExpiresSoon(t *testing.T) {
	ca := securetest.NewCA("CA")
	b := serveTLS(t, ca, securetest.Leaf{NotAfter: time.Now().Add(29 * 24 * time.Hour)})
	o := Options{Credentials: trusting(t, ca, secure.ClientOptions{}), Largest: -1}
	r := b.examine(t, o)
	if f := r.want(t, "certificate", Warn, "expires in 28 days", "renew it where TLS ends"); f.Values["days_left"] != 28 {
		t.Errorf("figures: %v", f.Values)
	}
	if r.Failed() {
		t.Error("a warning is no failure")
	}
	o.ExpiryWarning = 28 * 24 * time.Hour
	b.examine(t, o).want(t, "certificate", OK, "good for 28 days")
}

func TestACertificateThatHasExpired(t *testing.T) {
	ca := securetest.NewCA("CA")
	b := serveTLS(t, ca, securetest.Leaf{NotAfter: time.Now().Add(-90 * time.Minute)})
	r := b.examine(t, Options{Credentials: trusting(t, ca, secure.ClientOptions{})})
	r.want(t, "tls", Fail, "has expired")
	r.want(t, "certificate", Fail, "expired 1h30m", "renew it")
	if r.Reached {
		t.Error("it was not reached")
	}
}

func TestACertificateOfAnotherName(t *testing.T) {
	ca := securetest.NewCA("CA")
	b := serveTLS(t, ca, securetest.Leaf{DNS: []string{"balancer.example"}, NotAfter: time.Now().Add(100 * 24 * time.Hour)})
	r := b.examine(t, Options{Credentials: trusting(t, ca, secure.ClientOptions{})})
	r.want(t, "tls", Fail, "is for balancer.example and not for 127.0.0.1", "--tls-server-name")
	r.want(t, "certificate", OK, "for balancer.example")

	o := Options{Credentials: trusting(t, ca, secure.ClientOptions{ServerName: "balancer.example"}), ServerName: "balancer.example", Largest: -1}
	if r = b.examine(t, o); r.Failed() {
		t.Errorf("something failed: %+v", r.Findings)
	}
}

func TestACertificateOfAnotherCA(t *testing.T) {
	b := serveTLS(t, securetest.NewCA("theirs"), securetest.Leaf{})
	r := b.examine(t, Options{Credentials: trusting(t, securetest.NewCA("ours"), secure.ClientOptions{})})
	r.want(t, "tls", Fail, "not signed by a CA in", "--tls-ca")
	r.want(t, "certificate", Warn, "issued by CN=theirs")
}

func TestAClientCertificateThatExpiresSoon(t *testing.T) {
	b := serve(t, listenTCP(t), rpc.Options{}, dispatch.Options{})
	own := securetest.NewCA("alice").Cert // good for a day
	r := b.examine(t, Options{Certificate: own, Largest: -1})
	r.want(t, "client-certificate", Warn, "the client certificate, CN=alice", "--tls-cert")
}

func TestTLSAtAPortWithoutIt(t *testing.T) {
	b := serve(t, listenTCP(t), rpc.Options{}, dispatch.Options{})
	r := b.examine(t, Options{Credentials: trusting(t, securetest.NewCA("CA"), secure.ClientOptions{})})
	r.want(t, "tls", Fail, "does not speak TLS", "leave out --tls")
}

func TestNoTLSAtAPortThatSpeaksIt(t *testing.T) {
	b := serveTLS(t, securetest.NewCA("CA"), securetest.Leaf{})
	r := b.examine(t, Options{})
	r.want(t, "tls", Skip, "--tls")
	r.want(t, "http2", Fail, "speaks TLS", "--tls-ca")
	r.want(t, "grpc", Fail, "no answer")
}

func TestTLSWithoutHTTP2(t *testing.T) {
	ca := securetest.NewCA("CA")
	pair := ca.Issue(securetest.Leaf{NotAfter: time.Now().Add(100 * 24 * time.Hour)}).TLS()
	b := &balancer{}
	b.before(t, listenTCP(t), func(client net.Conn) {
		_ = tls.Server(client, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}}).HandshakeContext(t.Context())
	})
	r := b.examine(t, Options{Credentials: trusting(t, ca, secure.ClientOptions{})})
	r.want(t, "tls", Fail)
	r.want(t, "certificate", OK)
	r.want(t, "http2", Fail, "agrees to http/1.1 and not to h2", "ALPN h2")
	r.lines(t, haproxy, "bind :9090 ssl crt FILE alpn h2")
	r.lines(t, nginx, "listen 9090 ssl http2;")
}

func TestABalancerThatWantsAClientCertificate(t *testing.T) {
	ca := securetest.NewCA("CA")
	pair := ca.Issue(securetest.Leaf{}).TLS()
	creds := credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()})
	b := serve(t, listenTCP(t), rpc.Options{Credentials: creds}, dispatch.Options{})
	r := b.examine(t, Options{Credentials: trusting(t, ca, secure.ClientOptions{})})
	r.want(t, "http2", Fail, "wants a client certificate: give --tls-cert")
}
