// Package securetest makes certificates for tests. What can't fail in a test
// panics.
package securetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

var serial atomic.Int64

// CA signs certificates.
type CA struct {
	// PEM is its own certificate.
	PEM  []byte
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA makes one that is good for a day.
func NewCA(name string) *CA {
	key := newKey()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))
	return &CA{PEM: encode("CERTIFICATE", der), Cert: must(x509.ParseCertificate(der)), key: key}
}

// Leaf says what a certificate is to be. The zero value is a server's, for
// localhost and its addresses, good for an hour.
type Leaf struct {
	Name                string
	DNS                 []string
	Client              bool // for client authentication, and no name
	NotBefore, NotAfter time.Time
}

// Pair is a certificate and its key.
type Pair struct {
	Cert, Key []byte // PEM
	Serial    *big.Int
}

// Issue signs a certificate.
func (c *CA) Issue(l Leaf) *Pair {
	key := newKey()
	t := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: l.Name}, DNSNames: l.DNS,
		NotBefore: l.NotBefore, NotAfter: l.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if t.NotBefore.IsZero() {
		t.NotBefore = time.Now().Add(-2 * time.Hour)
	}
	if t.NotAfter.IsZero() {
		t.NotAfter = time.Now().Add(time.Hour)
	}
	switch {
	case l.Client:
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	case len(l.DNS) == 0:
		t.DNSNames, t.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	}
	der := must(x509.CreateCertificate(rand.Reader, t, c.Cert, &key.PublicKey, c.key))
	return &Pair{Cert: encode("CERTIFICATE", der), Key: encode("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key))), Serial: t.SerialNumber}
}

// TLS is the pair for a tls.Config.
func (p *Pair) TLS() tls.Certificate { return must(tls.X509KeyPair(p.Cert, p.Key)) }

// Pool has the CA alone.
func (c *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.Cert)
	return pool
}

// Write puts the pair into two files of a directory, whose names it returns.
// Files that are there are replaced.
func (p *Pair) Write(dir, name string) (cert, key string) {
	return Write(dir, name+".pem", p.Cert), Write(dir, name+".key", p.Key)
}

// Write replaces a file as a whole, and returns its name.
func Write(dir, name string, text []byte) string {
	path := filepath.Join(dir, name)
	check(os.WriteFile(path+".new", text, 0o600))
	check(os.Rename(path+".new", path))
	return path
}

func newKey() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
