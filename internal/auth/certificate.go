package auth

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// san is a subject alternative name. Names of different kinds are different: a
// DNS name that reads like an address of mail is none.
type san struct {
	kind byte // of sanDNS and so on
	name string
}

const (
	sanDNS   = 'd'
	sanURI   = 'u'
	sanEmail = 'e'
	sanIP    = 'i'
)

var dnsName = regexp.MustCompile(`^[A-Za-z0-9*._-]{1,253}$`)

// parseSAN reads a name as it is in the file, where its form tells its kind.
func parseSAN(s string) (san, error) {
	if ip, err := netip.ParseAddr(s); err == nil {
		return san{sanIP, ip.Unmap().String()}, nil
	}
	local, host, mail := strings.Cut(s, "@")
	switch {
	case strings.Contains(s, ":"):
		u, err := url.Parse(s)
		if err != nil || u.Host == "" && u.Scheme != "urn" {
			return san{}, errors.New("no URI; want one such as spiffe://example.com/shop")
		}
		return san{sanURI, u.String()}, nil
	case mail && (local == "" || !dnsName.MatchString(host)):
		return san{}, errors.New("no address of mail; want one such as ops@example.com")
	case mail:
		return san{sanEmail, s}, nil
	case !dnsName.MatchString(s):
		return san{}, errors.New("no DNS name, URI, address of mail or IP address")
	}
	return san{sanDNS, strings.ToLower(s)}, nil
}

// sansOf are the names of a certificate.
func sansOf(c *x509.Certificate) []san {
	names := make([]san, 0, len(c.DNSNames)+len(c.URIs)+len(c.EmailAddresses)+len(c.IPAddresses))
	for _, name := range c.DNSNames {
		names = append(names, san{sanDNS, strings.ToLower(name)})
	}
	for _, u := range c.URIs {
		names = append(names, san{sanURI, u.String()})
	}
	for _, address := range c.EmailAddresses {
		names = append(names, san{sanEmail, address})
	}
	for _, ip := range c.IPAddresses {
		if ip, ok := netip.AddrFromSlice(ip); ok {
			names = append(names, san{sanIP, ip.Unmap().String()})
		}
	}
	return names
}

func (r *rules) byCertificate(now time.Time, c *x509.Certificate) (Identity, error) {
	if !now.Before(c.NotAfter) {
		return refuse(BadCertificate, "the client certificate expired at %s", c.NotAfter.UTC().Format(time.RFC3339))
	}
	var found *Principal
	names := sansOf(c)
	for _, name := range names {
		p := r.names[name]
		if p != nil && found != nil && p != found {
			return refuse(BadCertificate, "the client certificate has names of two principals, %s and %s; it can be one alone", found.Name, p.Name)
		}
		if p != nil {
			found = p
		}
	}
	switch {
	case found != nil:
		return Identity{found, c.NotAfter}, nil
	case len(names) == 0:
		return refuse(BadCertificate, "the client certificate has no subject alternative name, by which to know it")
	}
	shown := make([]string, len(names))
	for i, name := range names {
		shown[i] = name.name
	}
	return refuse(UnknownPrincipal, "no principal has a subject alternative name of the client certificate: %s", listed(shown))
}

// listed are the first few names, for people: a caller may send thousands, and
// gets them back in a header.
func listed(names []string) string {
	if len(names) == 0 {
		return "nobody"
	}
	var shown []string
	for i, name := range names {
		if i == 5 {
			shown = append(shown, fmt.Sprintf("and %d more", len(names)-i))
			break
		}
		shown = append(shown, fmt.Sprintf("%.100q", name))
	}
	return strings.Join(shown, ", ")
}
