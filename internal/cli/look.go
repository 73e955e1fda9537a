package cli

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"

	"google.golang.org/grpc/credentials"
)

// What a command needs that looks at the way to the balancer without gRPC.

// TLS says that connections to the balancer speak TLS.
func (p *Peer) TLS() bool { return p.tls.Enabled() }

// ServerName is the name that the balancer's certificate must be for; empty: the
// one that is dialled.
func (p *Peer) ServerName() string { return p.tls.ServerName }

// Credentials make the connections that Dial makes. Only after Dial.
func (p *Peer) Credentials() credentials.TransportCredentials { return p.client.Credentials() }

// Certificate is the client's own, nil without one. Only after Dial, which has
// read it: an error is a file that was replaced since.
func (p *Peer) Certificate() (*x509.Certificate, error) {
	if p.tls.Cert == "" {
		return nil, nil
	}
	text, err := os.ReadFile(p.tls.Cert)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert: %w", err)
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert: %s: %w", p.tls.Cert, err)
		}
		return c, nil
	}
	return nil, fmt.Errorf("--tls-cert: %s holds no certificate", p.tls.Cert)
}
