// Package socket has connections whose writes keep the processor.
//
// A system call usually tells Go's scheduler that it may block. A write to a socket
// never does, since sockets are non-blocking; but it may take some 20 µs, above all
// over loopback, where it does the receiver's part of TCP too. For as long the
// scheduler waits for a system call: then it gives the processor (its P) to another
// thread, which it must wake, and the one that returns finds none and goes to sleep.
// In a program that writes thousands of times a second, that is a good part of what
// it does. These connections write without telling the scheduler. The price is that
// nothing else runs on the processor for that time, so writes of more than
// [MaxWrite] bytes go the usual way.
//
// Reads are left as they are: the scheduler's monitor, which takes the processor from
// who computes for long, sleeps while the program is idle, and it is a system call
// that wakes it.
package socket

import (
	"context"
	"net"

	"google.golang.org/grpc/credentials"
)

// MaxWrite is the largest write, in bytes, for which the scheduler is not told.
// gRPC writes at most 32 KiB at a time.
const MaxWrite = 64 << 10

// Listener returns l, with TCP connections whose writes keep the processor: on
// Linux, without the race detector, which would not see what such a write puts in
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
