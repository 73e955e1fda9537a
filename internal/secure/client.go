package secure

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"syscall"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// ClientOptions of the side that dials. The zero value is no TLS.
type ClientOptions struct {
	// TLS asks for TLS; each of the others implies it.
	TLS bool
	// CA names a PEM file with the CAs that may have signed the server's
	// certificate. Empty: those of the system.
	CA string
	// Cert and Key name PEM files of the client's own certificate. Both or none.
	Cert, Key string
	// ServerName is the name that the server's certificate must be for. Empty: the
	// one that is dialled.
	ServerName string
}

// AddFlags binds them to flags whose names begin with tls.
func (o *ClientOptions) AddFlags(f *pflag.FlagSet) {
	f.BoolVar(&o.TLS, "tls", false, "speak TLS with the balancer, and trust the CAs of the system")
	f.StringVar(&o.CA, "tls-ca", "", "speak TLS, and trust the CAs in this PEM `FILE` instead")
	f.StringVar(&o.Cert, "tls-cert", "", "speak TLS, and show the certificate in this PEM `FILE`; read again when it changes")
	f.StringVar(&o.Key, "tls-key", "", "the certificate's key, a PEM `FILE`")
	f.StringVar(&o.ServerName, "tls-server-name", "", "speak TLS, and expect the balancer's certificate to be for this `NAME`")
}

// Enabled says that any of the options asks for TLS.
func (o ClientOptions) Enabled() bool { return o.TLS || o != ClientOptions{} }

func (o ClientOptions) validate() error {
	switch {
	case o.Cert != "" && o.Key == "":
		return errors.New("--tls-cert needs --tls-key: the certificate's key")
	case o.Cert == "" && o.Key != "":
		return errors.New("--tls-key needs --tls-cert: the key's certificate")
	}
	return nil
}

// Client is how connections to a server are made, with TLS or without. All
// methods may be called concurrently.
type Client struct {
	o     ClientOptions
	files *files // nil without TLS
	// refused is the last handshake that failed for a reason that stays, while
	// none has ever succeeded.
	refused atomic.Pointer[Refusal]
	ever    atomic.Bool
}

// OpenClient reads the files. The error is in the words of the command line, or
// names the file that can't be used.
func OpenClient(o ClientOptions, log *slog.Logger) (*Client, error) {
	c := &Client{o: o}
	if !o.Enabled() {
		return c, nil
	}
	err := o.validate()
	if err == nil {
		c.files, err = openFiles(o.Cert, o.Key, o.CA, log)
	}
	return c, err
}

// Refused returns why no TLS handshake succeeds, when the last that was tried
// failed for a reason that trying again does not cure; nil when there is no such
// reason, or when one has ever succeeded: then there is hope.
func (c *Client) Refused() *Refusal {
	if c.ever.Load() {
		return nil
	}
	return c.refused.Load()
}

// Credentials are for gRPC connections. Errors of handshakes say what is wrong
// and what helps.
func (c *Client) Credentials() credentials.TransportCredentials {
	if c.files == nil {
		return &clientCredentials{insecure.NewCredentials(), c}
	}
	return &clientCredentials{credentials.NewTLS(&tls.Config{ServerName: c.o.ServerName, MinVersion: tls.VersionTLS12}), c}
}

// clientCredentials make each connection with the files as they are then; what
// it is made from only describes them.
type clientCredentials struct {
	credentials.TransportCredentials
	c *Client
}

func (k *clientCredentials) Clone() credentials.TransportCredentials {
	return &clientCredentials{k.TransportCredentials.Clone(), k.c}
}

func (k *clientCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c := k.c
	if c.files == nil {
		conn, info, err := k.TransportCredentials.ClientHandshake(ctx, authority, raw)
		return &listening{Conn: conn, say: silentServer}, info, err
	}
	now, where := c.files.current(), authority
	if c.o.ServerName != "" { // then it is the authority too
		where = raw.RemoteAddr().String()
	}
	config := &tls.Config{RootCAs: now.ca, MinVersion: tls.VersionTLS12}
	if now.cert != nil {
		// Also when the server names other CAs: so it says why it refuses it.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return now.cert, nil }
	}
	conn, info, err := credentials.NewTLS(config).ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, c.explain(err, where, now)
	}
	// With TLS 1.3 the server judges our certificate when our handshake is over:
	// what it says comes in place of its first bytes.
	return &listening{
		Conn: conn, heard: func() { c.ever.Store(true) }, say: func(err error) error { return c.explain(err, where, now) },
	}, info, nil
}

// explain is err in words that help, and is remembered if it is a Refusal.
func (c *Client) explain(err error, where string, now *contents) error {
	message := c.o.words(err, where, now)
	if message == "" {
		return err
	}
	r := &Refusal{Message: message, Err: err}
	c.refused.Store(r)
	return r
}

// Refusal is a TLS handshake that failed for a reason that trying again does not
// cure.
type Refusal struct {
	// Message says what is wrong and what helps.
	Message string
	// Err is what crypto/tls says.
	Err error
}

func (r *Refusal) Error() string { return r.Message }
func (r *Refusal) Unwrap() error { return r.Err }

// Temporary tells gRPC nothing new: its own backoff decides.
func (r *Refusal) Temporary() bool { return true }

// listening is a connection on which the server has said nothing yet. It has one
// reader.
type listening struct {
	net.Conn
	done  bool
	heard func()            // may be nil
	say   func(error) error // what to make of an error of the first read
}

func (l *listening) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if l.done {
		return n, err
	}
	l.done = true
	if n > 0 {
		if l.heard != nil {
			l.heard()
		}
		return n, err
	}
	if err != nil {
		err = l.say(err)
	}
	return n, err
}

// silentServer is said of a server that hangs up on a client without TLS.
func silentServer(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("%w: the balancer hung up without a word; if it wants TLS there, give --tls or --tls-ca FILE", err)
	}
	return err
}
