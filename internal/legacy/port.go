package legacy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"reparto/internal/socket"
)

// port accepts connections at one address and knows those that are open. A nil
// port is one that is off.
type port struct {
	l         *net.TCPListener
	log       *slog.Logger
	name      string // "clients" or "workers"
	max       int
	tls       *tls.Config // nil: in the clear
	handshake time.Duration
	keepAlive net.KeepAliveConfig
	// closed ends the pause after an error of Accept.
	closed chan struct{}
	once   sync.Once

	mu       sync.Mutex
	draining bool
	open     map[*reader]struct{} // those that drain stops
	count    int
	warned   time.Time // when it was last logged that connections are refused
	failed   time.Time // when it was last logged that a TLS handshake failed
}

// listen binds address for name ("clients" or "workers"); no address, no port.
// The queue of connections not yet accepted is as long as the system allows
// (net.Listen takes it from there), so that many may come at one moment.
func listen(o Options, address, name string) (*port, error) {
	if address == "" {
		return nil, nil
	}
	var l *net.TCPListener
	resolved, err := net.ResolveTCPAddr("tcp", address)
	if err == nil {
		l, err = net.ListenTCP("tcp", resolved)
	}
	if err != nil {
		return nil, fmt.Errorf("text protocol: listen for %s on %s: %w", name, address, err)
	}
	return &port{
		l: l, log: o.Log, name: name, max: o.MaxConnections, tls: o.TLS, handshake: o.HandshakeTimeout,
		keepAlive: net.KeepAliveConfig{Enable: o.KeepAlive > 0, Idle: o.KeepAlive, Interval: o.KeepAlive, Count: 3},
		closed:    make(chan struct{}), open: make(map[*reader]struct{}),
	}, nil
}

func (p *port) addr() net.Addr {
	if p == nil {
		return nil
	}
	return p.l.Addr()
}

func (p *port) close() (err error) {
	if p != nil {
		p.once.Do(func() { close(p.closed); err = p.l.Close() })
	}
	return err
}

// serve accepts in a goroutine of wg until the port is closed, and runs handle
// for each connection in another one. A TLS handshake comes before that, and
// ends with ctx.
func (p *port) serve(ctx context.Context, wg *sync.WaitGroup, open *atomic.Int64, refused *atomic.Uint64, handle func(net.Conn)) {
	if p == nil {
		return
	}
	p.log.Info("listening for "+p.name, "address", p.l.Addr().String())
	wg.Go(func() {
		for {
			conn, ok := p.accept()
			if !ok {
				return
			}
			if !p.enter() {
				refused.Add(1)
				_ = conn.Close()
				continue
			}
			open.Add(1)
			wg.Go(func() {
				defer open.Add(-1)
				defer p.exit()
				defer func() { _ = conn.Close() }()
				if conn, ok := p.secure(ctx, conn); ok {
					handle(conn)
				}
			})
		}
	})
}

// accept waits for the next connection; ok is false once the port is closed.
// Any other error (mostly: no file descriptor left) passes, so it is logged and
// tried again, after a pause that grows to a second.
func (p *port) accept() (conn net.Conn, ok bool) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		conn, err := p.l.AcceptTCP()
		if err == nil {
			_ = conn.SetKeepAliveConfig(p.keepAlive) // fails only if the peer is gone already
			return socket.Conn(conn), true
		}
		if errors.Is(err, net.ErrClosed) {
			return nil, false
		}
		p.log.Error("can't accept "+p.name, "error", err, "again_in", pause)
		select {
		case <-p.closed:
			return nil, false
		case <-time.After(pause):
		}
	}
}

// enter counts a connection in, or reports that it must be refused.
func (p *port) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count < p.max {
		p.count++
		return true
	}
	if time.Since(p.warned) > 10*time.Second { // not for each of a flood
		p.warned = time.Now()
		p.log.Warn("too many connections; refusing more until one leaves", "port", p.name, "connections", p.max)
	}
	return false
}

func (p *port) exit() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count--
}

// watch has drain stop r. The caller calls unwatch when r need not be stopped
// any more.
func (p *port) watch(r *reader) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[r] = struct{}{}
	if p.draining {
		r.stop()
	}
}

func (p *port) unwatch(r *reader) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, r)
}

// drain stops the readers that are watched now or later.
func (p *port) drain() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.draining = true
	for r := range p.open {
		r.stop()
	}
}
