package secure

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// words says what a failed handshake means for whoever started the program, and
// which flag helps; "" when the next attempt may do better.
func (o ClientOptions) words(err error, where string, now *contents) string {
	if _, plain := errors.AsType[tls.RecordHeaderError](err); plain {
		return fmt.Sprintf("the balancer does not speak TLS at %s: leave out --tls and the flags that begin with it, or dial its TLS port", where)
	}
	if wrong, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return o.distrust(wrong, where)
	}
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" {
		if noHTTP2(err) {
			return fmt.Sprintf("what answers at %s speaks TLS and no HTTP/2: is it the balancer's gRPC port?", where)
		}
		return ""
	}
	own := "a client certificate"
	if now.cert != nil {
		own = "the client certificate " + o.Cert + " (" + describe(now.cert.Leaf) + ")"
	}
	switch alert := op.Err.Error(); alert {
	case alertText(alertCertificateRequired):
		return fmt.Sprintf("the balancer at %s wants a client certificate: give --tls-cert and --tls-key", where)
	case alertText(alertUnknownCA):
		return fmt.Sprintf("the balancer at %s does not trust the CA of %s: it wants one that is signed by its --tls-client-ca", where, own)
	case alertText(alertExpired):
		return fmt.Sprintf("the balancer at %s finds that %s has expired, or is not valid yet", where, own)
	case alertText(alertBadCertificate), alertText(alertUnsupportedCertificate), alertText(alertRevoked), alertText(alertCertificateUnknown), alertText(alertAccessDenied):
		if now.cert == nil { // TLS 1.2 has no alert of its own for none
			return fmt.Sprintf("the balancer at %s refuses to go on without a client certificate (%s): give --tls-cert and --tls-key", where, alert)
		}
		return fmt.Sprintf("the balancer at %s refuses %s (%s): it must be one for client authentication, signed by its --tls-client-ca", where, own, alert)
	case alertText(alertProtocolVersion):
		return fmt.Sprintf("the balancer at %s and this program have no version of TLS in common", where)
	case alertText(alertInternal), alertText(alertUserCanceled):
		return ""
	default:
		return fmt.Sprintf("the balancer at %s refuses the TLS handshake: %s", where, alert)
	}
}

// Alerts of RFC 8446, appendix B.2. crypto/tls gives them as text.
const (
	alertBadCertificate         = 42
	alertUnsupportedCertificate = 43
	alertRevoked                = 44
	alertExpired                = 45
	alertCertificateUnknown     = 46
	alertUnknownCA              = 48
	alertAccessDenied           = 49
	alertProtocolVersion        = 70
	alertInternal               = 80
	alertUserCanceled           = 90
	alertCertificateRequired    = 116
)

func alertText(number uint8) string { return tls.AlertError(number).Error() }

// distrust says why the server's certificate is not believed.
func (o ClientOptions) distrust(wrong *tls.CertificateVerificationError, where string) string {
	if len(wrong.UnverifiedCertificates) == 0 {
		return fmt.Sprintf("the certificate of the balancer at %s: %v", where, wrong.Err)
	}
	leaf := wrong.UnverifiedCertificates[0]
	what := fmt.Sprintf("the certificate of the balancer at %s (%s)", where, describe(leaf))
	if _, name := errors.AsType[x509.HostnameError](wrong.Err); name {
		host, _, err := net.SplitHostPort(where)
		if err != nil {
			host = where
		}
		return fmt.Sprintf("%s is for %s and not for %s: dial it by a name that is in it, or give the name to expect with --tls-server-name",
			what, cmp.Or(namesOf(leaf), "no name at all"), cmp.Or(o.ServerName, host))
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](wrong.Err); ok && invalid.Reason == x509.Expired {
		if now := time.Now(); now.Before(leaf.NotBefore) {
			return fmt.Sprintf("%s is not valid before %s", what, leaf.NotBefore.UTC().Format(time.RFC3339))
		}
		return what + " has expired, or its CA has: whoever runs the balancer must replace it"
	}
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](wrong.Err); unknown {
		if o.CA != "" {
			return fmt.Sprintf("%s is not signed by a CA in %s: give its CA with --tls-ca", what, o.CA)
		}
		return what + " is not signed by a CA that the system trusts: give its CA with --tls-ca"
	}
	return fmt.Sprintf("%s can't be trusted: %v", what, wrong.Err)
}

// noHTTP2 recognises an error for which grpc has no type.
func noHTTP2(err error) bool { return strings.Contains(err.Error(), "missing selected ALPN property") }

func describe(c *x509.Certificate) string {
	return fmt.Sprintf("%s, issued by %s, until %s", cmp.Or(c.Subject.String(), "no subject"), cmp.Or(c.Issuer.String(), "nobody"),
		c.NotAfter.UTC().Format(time.RFC3339))
}

// namesOf are the names and addresses that a certificate is for.
func namesOf(c *x509.Certificate) string {
	names := append([]string{}, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return strings.Join(names, ", ")
}
