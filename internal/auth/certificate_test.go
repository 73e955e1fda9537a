package auth

import (
	"crypto/x509"
	"net"
	"net/url"
	"testing"
	"time"
)

func dnsCertificate(names ...string) *x509.Certificate {
	return &x509.Certificate{DNSNames: names, NotAfter: noon.Add(time.Hour)}
}

// certificate has the names of a line: dns:a uri:b email:c ip:d.
func certificate(t testing.TB, names ...[2]string) *x509.Certificate {
	t.Helper()
	c := dnsCertificate()
	for _, n := range names {
		switch n[0] {
		case "dns":
			c.DNSNames = append(c.DNSNames, n[1])
		case "uri":
			u, err := url.Parse(n[1])
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = append(c.URIs, u)
		case "email":
			c.EmailAddresses = append(c.EmailAddresses, n[1])
		case "ip":
			c.IPAddresses = append(c.IPAddresses, net.ParseIP(n[1]))
		case "cn":
			c.Subject.CommonName = n[1]
		}
	}
	return c
}

func TestCertificates(t *testing.T) {
	d := open(t, `principals:
- {name: dns, certificates: [Shop.example.com, "*.dept.example.com"]}
- {name: uri, certificates: ["spiffe://example.com/shop", "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"]}
- {name: email, certificates: [ops@example.com]}
- {name: ip, certificates: [10.0.0.1, "2001:DB8::1", "::ffff:10.0.0.9"]}
`)
	type names = [][2]string
	for _, c := range []struct {
		names names
		want  string
	}{
		{names{{"dns", "shop.example.com"}}, "dns"},
		{names{{"dns", "SHOP.example.COM"}}, "dns"},
		{names{{"dns", "other"}, {"dns", "shop.example.com"}}, "dns"},
		{names{{"dns", "a.shop.example.com"}}, `UNKNOWN_PRINCIPAL: "a.shop.example.com"`},
		{names{{"dns", "shop.example.com."}}, "UNKNOWN_PRINCIPAL: no principal"},
		{names{{"dns", "*.dept.example.com"}}, "dns"},
		{names{{"dns", "a.dept.example.com"}}, "UNKNOWN_PRINCIPAL: no principal"},
		{names{{"uri", "spiffe://example.com/shop"}}, "uri"},
		{names{{"uri", "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"}}, "uri"},
		{names{{"uri", "spiffe://example.com/Shop"}}, "UNKNOWN_PRINCIPAL: no principal"},
		{names{{"uri", "spiffe://example.com/shop/x"}}, "UNKNOWN_PRINCIPAL: no principal"},
		{names{{"dns", "spiffe://example.com/shop"}}, "UNKNOWN_PRINCIPAL: no principal"},
		{names{{"email", "ops@example.com"}}, "email"},
		{names{{"email", "Ops@example.com"}}, "UNKNOWN_PRINCIPAL: no principal"},
		{names{{"dns", "ops@example.com"}}, "UNKNOWN_PRINCIPAL: no principal"},
		{names{{"ip", "10.0.0.1"}}, "ip"},
		{names{{"ip", "2001:db8:0::1"}}, "ip"},
		{names{{"ip", "10.0.0.9"}}, "ip"},
		{names{{"dns", "10.0.0.1"}}, "UNKNOWN_PRINCIPAL: no principal"},
		{names{{"ip", "10.0.0.2"}}, "UNKNOWN_PRINCIPAL: no principal"},
		{names{{"cn", "shop.example.com"}}, "BAD_CERTIFICATE: no subject alternative name"},
		{names{{"dns", "shop.example.com"}, {"email", "ops@example.com"}}, "BAD_CERTIFICATE: two principals, dns and email"},
		{names{{"dns", "1"}, {"dns", "2"}, {"dns", "3"}, {"dns", "4"}, {"dns", "5"}, {"dns", "6"}, {"dns", "7"}}, `UNKNOWN_PRINCIPAL: "5", and 2 more`},
	} {
		expect(t, c.names[0][1], who(t, d, noon, Credentials{Certificate: certificate(t, c.names...)}), c.want)
	}
	shop := Credentials{Certificate: dnsCertificate("shop.example.com")}
	expect(t, "an expired one", who(t, d, noon.Add(time.Hour), shop), "BAD_CERTIFICATE: expired at 2026-11-23T13:00:00Z")
	if id, err := d.identify(t.Context(), noon, shop); err != nil || !id.Expires.Equal(noon.Add(time.Hour)) {
		t.Errorf("it is said to expire at %v (%v)", id.Expires, err)
	}
}
