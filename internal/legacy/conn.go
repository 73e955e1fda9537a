package legacy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// writeLine writes one message in one write, which TCP sends at once (Go sets
// TCP_NODELAY). The caller is the only one that writes to conn.
func writeLine(conn net.Conn, timeout time.Duration, line []byte) error {
	if err := conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	_, err := conn.Write(line)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the peer left a message unread for %v: %w", timeout, err)
	}
	return err
}

// probe returns an error if the connection is known to be dead, even when its
// input has ended: the system then fails a write of nothing.
func probe(conn net.Conn) error {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn() // nothing makes no record
	}
	if err := conn.SetWriteDeadline(time.Time{}); err != nil {
		return err
	}
	_, err := conn.Write(nil)
	return err
}

// linger closes the writing side and gives the peer a moment to see it before
// the connection is closed for good: closing with bytes unread would reset it,
// and could take the last RESULT away from a peer that is about to read it.
func linger(conn net.Conn) {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || conn.SetReadDeadline(time.Now().Add(lingerTimeout)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, conn, 1<<20) // whatever ends it, the connection is closed next
}

// peerGone reports whether err is a peer's way to leave.
func peerGone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ETIMEDOUT)
}
