// Package secure is TLS for our ports and our connections, with files that may
// be replaced while they are in use, and the rule that nothing listens in the
// clear for other machines unless it is told to.
//
//	s, err := secure.Open(options, log)  // nil when no certificate is named
//	go s.Watch(ctx)                      // tells of changes; needed for the log only
//	grpc.NewServer(grpc.Creds(s.Credentials()))
//	tls.Server(conn, s.Config())         // for a port without gRPC
//
// docs/tls.md tells how to use it.
package secure

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Options of the side that listens. The zero value is no TLS.
type Options struct {
	// Cert and Key name PEM files. Both or none.
	Cert, Key string
	// ClientCA names a PEM file of CAs; the certificates that peers show must be
	// signed by one of them. Empty: peers are not asked for any.
	ClientCA string
	// ClientAuth is "require" (default): who shows no certificate is refused; or
	// "optional": one that is shown is verified, and who shows none comes by
	// other means.
	ClientAuth string
	// MinVersion is "1.3" (default) or "1.2".
	MinVersion string
	// HandshakeLimit is how long a peer may take for its handshake, in the clear
	// too. Default 10 s, at least 1 ms.
	HandshakeLimit time.Duration

	prefix string // of the flags
}

// AddFlags binds them to flags whose names begin with prefix, which may be
// empty, and tls-.
func (o *Options) AddFlags(f *pflag.FlagSet, prefix string) {
	o.prefix = prefix
	f.StringVar(&o.Cert, prefix+"tls-cert", "", "serve TLS with the certificate in this PEM `FILE`; read again when it changes")
	f.StringVar(&o.Key, prefix+"tls-key", "", "the certificate's key, a PEM `FILE`")
	f.StringVar(&o.ClientCA, prefix+"tls-client-ca", "", "ask peers for certificates, and take those signed by a CA in this PEM `FILE`")
	f.StringVar(&o.ClientAuth, prefix+"tls-client-auth", "require", "`require` such a certificate, or optional: let peers in without, and refuse only wrong ones")
	f.StringVar(&o.MinVersion, prefix+"tls-min-version", "1.3", "the oldest `VERSION` of TLS to speak: 1.3 or 1.2")
	f.DurationVar(&o.HandshakeLimit, prefix+"tls-handshake-timeout", 10*time.Second, "how long a peer may take for its handshake")
}

func (o Options) validate() (Options, error) {
	flag := func(name string) string { return "--" + o.prefix + name }
	if o.ClientAuth == "" {
		o.ClientAuth = "require"
	}
	if o.MinVersion == "" {
		o.MinVersion = "1.3"
	}
	if o.HandshakeLimit == 0 {
		o.HandshakeLimit = 10 * time.Second
	}
	switch {
	case o.Cert != "" && o.Key == "":
		return o, fmt.Errorf("%s needs %s: the certificate's key", flag("tls-cert"), flag("tls-key"))
	case o.Cert == "" && o.Key != "":
		return o, fmt.Errorf("%s needs %s: the key's certificate", flag("tls-key"), flag("tls-cert"))
	case o.ClientCA != "" && o.Cert == "":
		return o, fmt.Errorf("%s needs %s and %s: without TLS nobody shows a certificate", flag("tls-client-ca"), flag("tls-cert"), flag("tls-key"))
	case o.ClientAuth != "require" && o.ClientAuth != "optional":
		return o, fmt.Errorf("%s is %q; give require or optional", flag("tls-client-auth"), o.ClientAuth)
	case o.ClientAuth == "optional" && o.ClientCA == "":
		return o, fmt.Errorf("%s optional needs %s: without it nobody is asked for a certificate", flag("tls-client-auth"), flag("tls-client-ca"))
	case o.MinVersion != "1.3" && o.MinVersion != "1.2":
		return o, fmt.Errorf("%s is %q; give 1.3 or 1.2", flag("tls-min-version"), o.MinVersion)
	case o.HandshakeLimit < time.Millisecond:
		return o, fmt.Errorf("%s is %v; give at least 1ms", flag("tls-handshake-timeout"), o.HandshakeLimit)
	}
	return o, nil
}

// Server is TLS for the side that listens. A nil one is none. All methods may be
// called concurrently.
type Server struct {
	o     Options
	files *files
	log   *slog.Logger
	few   few
}

// Open reads the files. Without a certificate it returns nil. The error is in the
// words of the command line, or names the file that can't be used.
func Open(o Options, log *slog.Logger) (*Server, error) {
	o, err := o.validate()
	if err != nil || o.Cert == "" {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f, err := openFiles(o.Cert, o.Key, o.ClientCA, log)
	if err != nil {
		return nil, err
	}
	return &Server{o: o, files: f, log: log}, nil
}

// Watch tells in the log within a second what becomes of changed files, until
// ctx ends. Connections see changes without it.
func (s *Server) Watch(ctx context.Context) {
	if s != nil {
		s.files.watch(ctx)
	}
}

// Config is for a port that speaks something else than HTTP/2; nil for a nil
// Server. Each handshake sees the files as they are then.
func (s *Server) Config() *tls.Config {
	if s == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS13, // each connection has its own; this one is never used
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.config(), nil },
	}
}

func (s *Server) config() *tls.Config {
	now := s.files.current()
	c := &tls.Config{
		Certificates: []tls.Certificate{*now.cert},
		MinVersion:   tls.VersionTLS13,
		// A resumed session would not be held against a CA that came later.
		SessionTicketsDisabled: true,
	}
	if s.o.MinVersion == "1.2" {
		c.MinVersion = tls.VersionTLS12
	}
	if now.ca != nil {
		c.ClientCAs, c.ClientAuth = now.ca, tls.RequireAndVerifyClientCert
		if s.o.ClientAuth == "optional" {
			c.ClientAuth = tls.VerifyClientCertIfGiven
		}
	}
	return c
}

// Credentials are for a gRPC server; nil for a nil Server. Connections inside
// the process, by a bufconn, are not encrypted. Handshakes that fail are logged.
func (s *Server) Credentials() credentials.TransportCredentials {
	if s == nil {
		return nil
	}
	return &serverCredentials{credentials.NewTLS(s.Config()), s}
}

type serverCredentials struct {
	credentials.TransportCredentials
	s *Server
}

func (c *serverCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if raw.LocalAddr().Network() == "bufconn" {
		return insecure.NewCredentials().ServerHandshake(raw)
	}
	open := &keptOpen{Conn: raw}
	conn, info, err := c.TransportCredentials.ServerHandshake(open)
	open.settled.Store(true)
	if err != nil {
		c.s.few.log(c.s.log, raw.RemoteAddr(), err)
		farewell(raw, err)
	}
	return conn, info, err
}

func (c *serverCredentials) Clone() credentials.TransportCredentials {
	return &serverCredentials{c.TransportCredentials.Clone(), c.s}
}

// keptOpen is a connection that stays open until its handshake is settled.
type keptOpen struct {
	net.Conn
	settled atomic.Bool
}

func (k *keptOpen) Close() error {
	if !k.settled.Load() {
		return nil // farewell does it
	}
	return k.Conn.Close()
}

const lingerLimit = 500 * time.Millisecond

// farewell closes a connection whose handshake failed. A peer whose certificate
// is refused has sent more by then; to close with that unread would reset the
// connection, and could take from the peer the alert that says why.
func farewell(conn net.Conn, why error) {
	_, plain := errors.AsType[tls.RecordHeaderError](why)
	toldNothing := plain || errors.Is(why, io.EOF) || errors.Is(why, os.ErrDeadlineExceeded)
	if !toldNothing && conn.SetReadDeadline(time.Now().Add(lingerLimit)) == nil {
		_, _ = io.CopyN(io.Discard, conn, 1<<16) // whatever ends it, it is closed next
	}
	_ = conn.Close() // nobody is left to tell
}

// few logs failed handshakes, and no more than one a second: anybody can cause
// them.
type few struct {
	mu      sync.Mutex
	last    time.Time
	leftOut int
}

func (f *few) log(log *slog.Logger, from net.Addr, err error) {
	if errors.Is(err, io.EOF) { // somebody only looked whether the port is open
		log.Debug("TLS handshake failed", "remote", from.String(), "error", err)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.last) < time.Second {
		f.leftOut++
		return
	}
	if _, plain := errors.AsType[tls.RecordHeaderError](err); plain {
		err = errors.New("the peer speaks without TLS")
	} else if noHTTP2(err) {
		err = errors.New("the peer does not ask for HTTP/2 (by ALPN h2), as gRPC does")
	}
	log.Warn("TLS handshake failed", "remote", from.String(), "error", err, "left_out", f.leftOut)
	f.last, f.leftOut = time.Now(), 0
}
