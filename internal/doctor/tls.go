package doctor

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/credentials"
)

// handshake looks at TLS, if there is to be any, and reports whether there is hope
// for gRPC.
func (e *exam) handshake(ctx context.Context) bool {
	if e.o.Certificate != nil {
		e.expiry("client-certificate", "the client certificate", []*x509.Certificate{e.o.Certificate}, "replace the file of --tls-cert")
	}
	if e.o.Credentials == nil {
		e.skip("tls", "not asked for: give --tls or --tls-ca FILE to speak it")
		return true
	}
	if e.way == nil { // only gRPC knows the way
		return true
	}
	limited, cancel := e.within(ctx)
	defer cancel()
	began := time.Now()
	conn, info, err := e.o.Credentials.ClientHandshake(limited, cmp.Or(e.o.ServerName, e.at.authority), e.way)
	took := time.Since(began)
	if err != nil {
		e.way = nil // the handshake has closed it
		e.distrusted(ctx, err)
		return false
	}
	e.way = conn
	state := info.(credentials.TLSInfo).State
	e.found(Finding{
		Check: "tls", Status: OK,
		Said:   fmt.Sprintf("%s, %s, in %s", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite), span(took)),
		Values: map[string]any{"version": tls.VersionName(state.Version), "took_ms": millis(took)},
	})
	e.certificate(state.PeerCertificates)
	return true
}

// distrusted tells of a handshake that failed, and of the certificate that was
// shown in it.
func (e *exam) distrusted(ctx context.Context, why error) {
	e.found(Finding{Check: "tls", Status: Fail, Said: oneLine(why.Error()), Do: "nothing goes over this connection before that is mended"})
	conn, err := e.redial(ctx)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }() // nothing was sent over it
	limited, cancel := e.within(ctx)
	defer cancel()
	// Nothing is sent over it: it only shows what the others were not content with.
	blind := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
	if blind.HandshakeContext(limited) != nil {
		return
	}
	state := blind.ConnectionState()
	e.certificate(state.PeerCertificates)
	if state.NegotiatedProtocol != "h2" {
		e.trouble(trouble{kind: noALPN})
		e.found(Finding{
			Check: "http2", Status: Fail, Said: fmt.Sprintf("what ends TLS there agrees to %s and not to h2", cmp.Or(state.NegotiatedProtocol, "no protocol")),
			Do: "switch on HTTP/2 (ALPN h2) on the port that clients dial",
		})
	}
}

// redial makes another connection like the first.
func (e *exam) redial(ctx context.Context) (net.Conn, error) {
	limited, cancel := e.within(ctx)
	defer cancel()
	return e.o.Connect(limited, e.at.network, e.at.address)
}

// certificate tells of the certificates that the other side has shown.
func (e *exam) certificate(chain []*x509.Certificate) {
	if len(chain) > 0 {
		e.expiry("certificate", "", chain, "renew it where TLS ends: at the balancer, or at the proxy before it")
	}
}

// expiry tells when the first of the certificates of a chain ends.
func (e *exam) expiry(check, what string, chain []*x509.Certificate, do string) {
	leaf := chain[0]
	first := slices.MinFunc(chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
	left := first.NotAfter.Sub(e.o.Now())
	f := Finding{Check: check, Status: OK, Values: map[string]any{
		"subject": leaf.Subject.String(), "issuer": leaf.Issuer.String(), "names": namesOf(leaf),
		"not_after": first.NotAfter.UTC(), "days_left": int(left.Hours() / 24),
	}}
	said := []string{
		fmt.Sprintf("%s, issued by %s", cmp.Or(leaf.Subject.String(), "no subject"), cmp.Or(leaf.Issuer.String(), "nobody")),
	}
	if what != "" {
		said = append([]string{what}, said...)
	}
	if names := namesOf(leaf); len(names) > 0 {
		said = append(said, "for "+strings.Join(names, ", "))
	}
	end := first.NotAfter.UTC().Format(time.RFC3339)
	whose := ""
	if first != leaf {
		whose = fmt.Sprintf("its CA %s ", first.Subject)
	}
	switch {
	case left <= 0:
		f.Status, f.Do = Fail, do
		said = append(said, fmt.Sprintf("%sexpired %s ago, at %s", whose, span(-left), end))
	case e.o.Now().Before(leaf.NotBefore):
		f.Status, f.Do = Fail, "wait, or set the clock of this machine right"
		said = append(said, "not valid before "+leaf.NotBefore.UTC().Format(time.RFC3339))
	case left < e.o.ExpiryWarning:
		f.Status, f.Do = Warn, do
		said = append(said, fmt.Sprintf("%sexpires in %s, at %s", whose, span(left), end))
	default:
		said = append(said, fmt.Sprintf("%sgood for %s, until %s", whose, span(left), end))
	}
	f.Said = strings.Join(said, ", ")
	e.found(f)
}

// namesOf are the names and addresses that a certificate is for.
func namesOf(c *x509.Certificate) []string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	return names
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
