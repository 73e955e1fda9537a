package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/secure"
	"reparto/internal/secure/securetest"
)

const tlsYAML = `principals:
  - {name: shop, certificates: [shop.example.com], subjects: [shop-service], submit: [sum]}
issuers:
  - {issuer: "https://id.example.com", audience: reparto, jwks_file: keys.json}
`

// TestCertificatesAndJWTs calls over TLS with what is no token of ours.
func TestCertificatesAndJWTs(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dir, ca := t.TempDir(), securetest.NewCA("test")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys, _ := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"}}})
	securetest.Write(dir, "keys.json", keys)
	file := securetest.Write(dir, "auth.yaml", []byte(tlsYAML))
	cert, keyFile := ca.Issue(securetest.Leaf{}).Write(dir, "server")
	material, err := secure.Open(secure.Options{
		Cert: cert, Key: keyFile, ClientCA: securetest.Write(dir, "ca.pem", ca.PEM), ClientAuth: "optional",
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Listen(Options{Address: "127.0.0.1:0", Auth: file, TLS: material, DrainTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	serve, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(serve) })
	defer running.Wait()
	defer stop()
	token := func(subject string, age time.Duration) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "k1"))
		if err != nil {
			t.Fatal(err)
		}
		text, err := jwt.Signed(signer).Claims(jwt.Claims{
			Issuer: "https://id.example.com", Audience: jwt.Audience{"reparto"}, Subject: subject,
			Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour - age)),
		}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, c := range []struct {
		what, name, token, want string
	}{
		{"a certificate of a principal", "shop.example.com", "", "Unavailable · NO_WORKER"},
		{"a certificate of nobody's", "other.example.com", "", "Unauthenticated · UNKNOWN_PRINCIPAL"},
		{"nothing", "", "", "Unauthenticated · NO_CREDENTIALS"},
		{"a JWT", "", token("shop-service", 0), "Unavailable · NO_WORKER"},
		{"a JWT of nobody's", "", token("other", 0), "Unauthenticated · UNKNOWN_PRINCIPAL"},
		{"a JWT that is over", "", token("shop-service", 2*time.Hour), "Unauthenticated · TOKEN_EXPIRED"},
		{"a bad token beside a good certificate", "shop.example.com", "rpt_x", "Unauthenticated · BAD_TOKEN"},
	} {
		config := &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"}
		if c.name != "" {
			config.Certificates = []tls.Certificate{ca.Issue(securetest.Leaf{Client: true, DNS: []string{c.name}}).TLS()}
		}
		conn, err := grpc.NewClient(s.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(config)))
		if err != nil {
			t.Fatal(err)
		}
		call := ctx
		if c.token != "" {
			call = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.token)
		}
		_, err = pb.NewTaskServiceClient(conn).Submit(call, &pb.SubmitRequest{Function: "sum", FailFast: true})
		if got := cell(err); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
		conn.Close()
	}
}
