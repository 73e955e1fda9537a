package rpc

import (
	"net"
	"net/netip"
	"sync"
)

// perAddress refuses connections of an address that has too many.
type perAddress struct {
	net.Listener
	most    int
	refused func(address string, most int)

	mu   sync.Mutex
	open map[netip.Addr]int
}

func newPerAddress(l net.Listener, most int, refused func(string, int)) net.Listener {
	return &perAddress{Listener: l, most: most, refused: refused, open: map[netip.Addr]int{}}
}

// Accept returns the next connection that is within the limit, and closes those
// that are not.
func (l *perAddress) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		a, err := netip.ParseAddrPort(conn.RemoteAddr().String())
		if err != nil {
			return conn, nil // not of the network
		}
		address := a.Addr().Unmap()
		l.mu.Lock()
		full := l.open[address] >= l.most
		if !full {
			l.open[address]++
		}
		l.mu.Unlock()
		if !full {
			return &countedConn{Conn: conn, done: func() { l.closed(address) }}, nil
		}
		_ = conn.Close() // nothing was said on it
		l.refused(address.String(), l.most)
	}
}

func (l *perAddress) closed(address netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[address]--; l.open[address] == 0 {
		delete(l.open, address)
	}
}

type countedConn struct {
	net.Conn
	once sync.Once
	done func()
}

func (c *countedConn) Close() error {
	c.once.Do(c.done)
	return c.Conn.Close()
}
