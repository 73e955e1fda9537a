package legacy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

// secure makes TLS of a connection, if the port speaks it. It is called in the
// connection's own goroutine, so that a slow handshake holds up nobody else. A
// peer that is refused is told why; the caller closes the connection.
func (p *port) secure(ctx context.Context, plain net.Conn) (conn net.Conn, ok bool) {
	if p.tls == nil {
		return plain, true
	}
	ctx, cancel := context.WithTimeout(ctx, p.handshake)
	defer cancel()
	t := tls.Server(plain, p.tls)
	err := t.HandshakeContext(ctx)
	if err == nil {
		return t, true
	}
	log := p.log.Warn
	if errors.Is(err, io.EOF) || ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) || !p.mayWarn() {
		log = p.log.Debug // somebody only looked whether the port is open, or we stop, or it is one of a flood
	}
	if _, clear := errors.AsType[tls.RecordHeaderError](err); clear {
		err = errors.New("the peer speaks without TLS")
	} else if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("not finished within " + p.handshake.String())
	}
	log("TLS handshake failed", "port", p.name, "remote", plain.RemoteAddr().String(), "error", err)
	linger(plain)
	return nil, false
}

// mayWarn says that the last failed handshake was logged a second ago or more:
// anybody can cause them.
func (p *port) mayWarn() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.failed) < time.Second {
		return false
	}
	p.failed = time.Now()
	return true
}
