//go:build linux && !race

package socket

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"google.golang.org/grpc/mem"
)

// conn is a TCP connection whose reads and writes keep the processor.
type conn struct {
	*net.TCPConn
	raw syscall.RawConn

	writing sync.Mutex // one Write at a time
	w       write
	doWrite func(fd uintptr) bool

	reading sync.Mutex // one read at a time
	r       read
	doRead  func(fd uintptr) bool
}

// write is a Write that is under way, and read a Read or a ReadOnReady: in the
// connection, so that neither allocates.
type (
	write struct {
		rest []byte
		err  error
	}
	read struct {
		into []byte
		n    int
		err  error
		// Of ReadOnReady: where into comes from, how long it is, and to be given back.
		pool mem.BufferPool
		size int
		buf  *[]byte
	}
)

// Conn returns c as Listener would have accepted it.
func Conn(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c
	}
	k := &conn{TCPConn: tcp, raw: raw}
	k.doWrite, k.doRead = k.w.try, k.r.try
	return k
}

// Write implements net.Conn. It may be called concurrently.
func (c *conn) Write(b []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if len(b) > MaxWrite {
		return c.TCPConn.Write(b)
	}
	c.w.rest = b
	err := c.raw.Write(c.doWrite) // blocks while try says so
	n := len(b) - len(c.w.rest)
	if c.w.err != nil {
		err = c.failed("write", c.w.err)
	}
	c.w = write{}
	return n, err
}

// try writes what it can, and reports whether that is all, or has failed. Otherwise
// the socket takes nothing more for now.
func (w *write) try(fd uintptr) bool {
	for { // once, if there is nothing: a connection that is dead says so
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(w.rest))), uintptr(len(w.rest)))
		switch errno {
		case 0:
			if w.rest = w.rest[n:]; len(w.rest) == 0 {
				return true
			}
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			w.err = errno
			return true
		}
	}
}

// Read implements net.Conn. It may be called concurrently.
func (c *conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return c.TCPConn.Read(b)
	}
	c.reading.Lock()
	defer c.reading.Unlock()
	r, err := c.read(read{into: b[:min(len(b), MaxRead)]})
	return r.n, err
}

// ReadOnReady reads into a buffer of the pool, which it takes once there is
// something to read: so a connection that nobody speaks on holds none. gRPC does
// that by itself with connections that it knows, and asks others for this method
// (google.golang.org/grpc/internal/transport/readyreader).
func (c *conn) ReadOnReady(size int, pool mem.BufferPool) (*[]byte, int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	r, err := c.read(read{pool: pool, size: min(size, MaxRead)})
	if err != nil && r.buf != nil {
		pool.Put(r.buf)
		r.buf = nil
	}
	return r.buf, r.n, err
}

// read blocks until there is something to read, and reads it.
func (c *conn) read(r read) (read, error) {
	c.r = r
	err := c.raw.Read(c.doRead)
	r, c.r = c.r, read{}
	switch {
	case r.err != nil:
		return r, c.failed("read", r.err)
	case err == nil && r.n == 0:
		return r, io.EOF
	case err == nil:
		monitor.expect()
	}
	return r, err
}

// try reads what is there, and reports whether that was anything, or the reason that
// nothing will be.
func (r *read) try(fd uintptr) bool {
	if r.pool != nil {
		r.buf = r.pool.Get(r.size)
		r.into = *r.buf
	}
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(r.into))), uintptr(len(r.into)))
		switch errno {
		case 0:
			r.n = int(n)
			return true
		case syscall.EINTR:
		case syscall.EAGAIN:
			if r.pool != nil {
				r.pool.Put(r.buf)
				r.buf, r.into = nil, nil
			}
			return false
		default:
			r.err = errno
			return true
		}
	}
}

// failed returns the error that net.Conn has for it.
func (c *conn) failed(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, err)}
}
