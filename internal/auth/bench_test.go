package auth

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"
)

// BenchmarkIdentify is what each call costs that shows who it is, with a thousand
// principals in the file.
func BenchmarkIdentify(b *testing.B) {
	k := newKeys(b)
	token, hash := NewToken()
	var text strings.Builder
	text.WriteString(oneIssuer[:strings.Index(oneIssuer, "issuers:")])
	fmt.Fprintf(&text, "- {name: token, tokens: [%q]}\n- {name: certificate, certificates: [\"spiffe://example.com/shop\"]}\n", hash)
	for i := range 1000 {
		_, hash := NewToken()
		fmt.Fprintf(&text, "- {name: p%d, tokens: [%q], certificates: [\"%d.example.com\"], submit: [sum]}\n", i, hash, i)
	}
	text.WriteString(oneIssuer[strings.Index(oneIssuer, "issuers:"):])
	dir := b.TempDir()
	write(b, dir, "keys.json", k.set(b, "es", "rs"))
	d, err := Open(write(b, dir, "auth.yaml", text.String()), Options{})
	if err != nil {
		b.Fatal(err)
	}
	later := map[string]any{"exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix()}
	es, rs := k.sign(b, "es", later), k.sign(b, "rs", later)
	for _, c := range []struct {
		name  string
		c     Credentials
		fresh bool
	}{
		{"token", Credentials{Token: token}, false},
		{"certificate", Credentials{Certificate: realCertificate(b, k)}, false},
		{"jwt=cached", Credentials{Token: es}, false},
		{"jwt=ES256", Credentials{Token: es}, true},
		{"jwt=RS256", Credentials{Token: rs}, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if c.fresh {
					d.state.Load().cache.Purge()
				}
				if _, err := d.Identify(b.Context(), c.c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// realCertificate was parsed, as TLS does.
func realCertificate(b *testing.B, k keys) *x509.Certificate {
	b.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"shop"},
		URIs: []*url.URL{{Scheme: "spiffe", Host: "example.com", Path: "/shop"}},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k["es"].Public(), k["es"])
	if err != nil {
		b.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		b.Fatal(err)
	}
	return c
}
