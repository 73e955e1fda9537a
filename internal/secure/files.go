package secure

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// files are PEM files that are read again when they change. What is broken is
// told once, and does not replace what is in force. An empty name is no file.
//
// Whoever needs what is in them looks for changes first, so a new connection
// never sees what was replaced before it was made.
type files struct {
	cert, key, ca string
	log           *slog.Logger

	mu     sync.Mutex
	seen   [3]stamp // what the files were when they were last read
	broken bool     // they could not be used then
	now    *contents
}

// contents is one state of the files. Nobody changes it.
type contents struct {
	cert  *tls.Certificate // nil: none
	ca    *x509.CertPool   // nil: none
	count int              // certificates in ca
}

// stamp tells one state of a file from another. A missing one has none.
type stamp struct{ info os.FileInfo }

func stampOf(name string) stamp {
	if name == "" {
		return stamp{}
	}
	info, err := os.Stat(name)
	if err != nil {
		return stamp{} // reading it says why
	}
	return stamp{info}
}

func (s stamp) same(o stamp) bool {
	if s.info == nil || o.info == nil {
		return s.info == o.info
	}
	return s.info.ModTime().Equal(o.info.ModTime()) && s.info.Size() == o.info.Size() && os.SameFile(s.info, o.info)
}

// openFiles reads them. The error names the one that can't be used.
func openFiles(cert, key, ca string, log *slog.Logger) (*files, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &files{cert: cert, key: key, ca: ca, log: log}
	f.seen = f.stamps()
	now, err := f.read()
	if err != nil {
		return nil, err
	}
	f.now = now
	f.announce(&contents{}, now)
	return f, nil
}

func (f *files) stamps() [3]stamp { return [3]stamp{stampOf(f.cert), stampOf(f.key), stampOf(f.ca)} }

// current returns what is in force, after a look at the files.
func (f *files) current() *contents {
	f.mu.Lock()
	defer f.mu.Unlock()
	stamps := f.stamps() // before reading: what changes meanwhile is read the next time
	if stamps[0].same(f.seen[0]) && stamps[1].same(f.seen[1]) && stamps[2].same(f.seen[2]) {
		return f.now
	}
	f.seen = stamps
	next, err := f.read()
	if err != nil {
		f.broken = true
		f.log.Warn("TLS files have changed and can't be used; what was read before stays in force", "error", err)
		return f.now
	}
	if f.broken { // what is good again may be what was in force all the while
		f.broken = false
		f.log.Info("TLS files can be used again")
	}
	f.announce(f.now, next)
	f.now = next
	return next
}

// watch looks for changes until ctx ends, so that the log tells of them before
// somebody connects.
func (f *files) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f.current()
		}
	}
}

func (f *files) read() (*contents, error) {
	c := &contents{}
	if f.cert != "" {
		pair, err := readPair(f.cert, f.key)
		if err != nil {
			return nil, err
		}
		c.cert = pair
	}
	if f.ca != "" {
		var err error
		if c.ca, c.count, err = readPool(f.ca); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func readPair(cert, key string) (*tls.Certificate, error) {
	certPEM, err := os.ReadFile(cert)
	if err != nil {
		return nil, fmt.Errorf("the certificate: %w", err)
	}
	keyPEM, err := os.ReadFile(key)
	if err != nil {
		return nil, fmt.Errorf("the certificate's key: %w", err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("the certificate %s with the key %s: %w", cert, key, err)
	}
	return &pair, nil
}

// readPool reads a file of certificates. Unlike AppendCertsFromPEM it leaves
// none out in silence.
func readPool(name string) (*x509.CertPool, int, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, 0, fmt.Errorf("the CA: %w", err)
	}
	pool, n := x509.NewCertPool(), 0
	for len(bytes.TrimSpace(text)) > 0 {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, 0, fmt.Errorf("the CA %s, certificate %d: %w", name, n+1, err)
		}
		pool.AddCert(c)
		n++
	}
	if n == 0 {
		return nil, 0, fmt.Errorf("the CA %s: %w", name, errors.New("no certificate in PEM form is in it"))
	}
	return pool, n, nil
}

// announce logs what has come into force.
func (f *files) announce(old, next *contents) {
	if c := next.cert; c != nil && (old.cert == nil || !bytes.Equal(c.Leaf.Raw, old.cert.Leaf.Raw)) {
		log := f.log.With("file", f.cert, "subject", c.Leaf.Subject.String(), "serial", fmt.Sprintf("%X", c.Leaf.SerialNumber.Bytes()),
			"names", namesOf(c.Leaf), "until", c.Leaf.NotAfter.UTC())
		switch now := time.Now(); {
		case now.After(c.Leaf.NotAfter):
			log.Warn("certificate in force, but it has expired: peers will refuse it")
		case now.Before(c.Leaf.NotBefore):
			log.Warn("certificate in force, but it is not valid yet: peers will refuse it", "from", c.Leaf.NotBefore.UTC())
		default:
			log.Info("certificate in force")
		}
	}
	if next.ca != nil && (old.ca == nil || !next.ca.Equal(old.ca)) {
		f.log.Info("CA in force", "file", f.ca, "certificates", next.count)
	}
}
