// Package socket has connections whose reads and writes keep the processor.
//
// A system call usually tells Go's scheduler that it may block. A read from a socket
// or a write to it never does, since sockets are non-blocking; but a write may take
// some 20 µs, above all over loopback, where it does the receiver's part of TCP too.
// For as long the scheduler waits for a system call: then it gives the processor (its
// P) to another thread, which it must wake, and the one that returns finds none and
// goes to sleep. And a call that ends an idle moment wakes the scheduler's monitor,
// which then looks every 20 µs and more, by a timer, until the program is idle again.
// In a program that is idle and busy again thousands of times a second, that is a
// good part of what it does.
//
// These connections read and write without telling the scheduler. What the monitor is
// there for, it still does, a time slice of 10 ms later at most. The price is that
// nothing else runs on the processor for the time of a call, so writes of more than
// [MaxWrite] bytes go the usual way, and a read returns no more than [MaxRead].
package socket

import (
	"context"
	"net"

	"google.golang.org/grpc/credentials"
)

// MaxWrite is the largest write, in bytes, for which the scheduler is not told, and
// MaxRead the most that a read returns. They are also what gRPC is told to read and
// to write at a time.
const (
	MaxWrite = 64 << 10
	MaxRead  = 64 << 10
)

// Listener returns l, with TCP connections whose reads and writes keep the processor:
// on Linux, without the race detector, which would not see what such calls put in
// order. Elsewhere, and for other connections, there is no difference.
func Listener(l net.Listener) net.Listener { return listener{l} }

type listener struct{ net.Listener }

// Accept returns the next connection.
func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return Conn(c), nil
}

// Credentials returns c, for whoever dials, with connections as Listener has them.
// A dialer of its own would do as well, but for gRPC's proxies, which it turns off.
func Credentials(c credentials.TransportCredentials) credentials.TransportCredentials {
	return keepingCredentials{c}
}

type keepingCredentials struct {
	credentials.TransportCredentials
}

// ClientHandshake lets the others shake hands over such a connection.
func (k keepingCredentials) ClientHandshake(ctx context.Context, authority string, c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return k.TransportCredentials.ClientHandshake(ctx, authority, Conn(c))
}

// Clone returns a copy.
func (k keepingCredentials) Clone() credentials.TransportCredentials {
	return keepingCredentials{k.TransportCredentials.Clone()}
}
