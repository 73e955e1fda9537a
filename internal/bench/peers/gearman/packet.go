// Package gearman is as much of gearman's binary protocol as a comparison needs:
// foreground tasks from a client, and workers that grab them.
//
//	conn, err := gearman.Dial(ctx, address)
//	conn.Put(gearman.CanDo, []byte("echo"))
//	err = conn.Flush()
//	packet, err := conn.Next()
package gearman

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// Kind is what a packet says.
type Kind uint32

const (
	CanDo        Kind = 1
	PreSleep     Kind = 4
	Noop         Kind = 6
	SubmitJob    Kind = 7
	JobCreated   Kind = 8
	GrabJob      Kind = 9
	NoJob        Kind = 10
	JobAssign    Kind = 11
	WorkComplete Kind = 13
	WorkFail     Kind = 14
	Error        Kind = 19
)

const (
	headerSize = 12
	maxBody    = 64 << 20 // a longer one is no packet of ours
	buffered   = 64 << 10
)

// Packet is one that came from a server.
type Packet struct {
	Kind Kind
	Body []byte
}

// Args splits the body into n arguments, of which the last is the rest and may
// hold anything.
func (p Packet) Args(n int) ([][]byte, error) {
	args := bytes.SplitN(p.Body, []byte{0}, n)
	if len(args) != n {
		return nil, fmt.Errorf("packet of kind %d has %d arguments, not %d", p.Kind, len(args), n)
	}
	return args, nil
}

// Append adds a request to b. Arguments but the last hold no zero byte.
func Append(b []byte, k Kind, args ...[]byte) []byte {
	size := max(len(args)-1, 0)
	for _, a := range args {
		size += len(a)
	}
	b = append(b, "\x00REQ"...)
	b = binary.BigEndian.AppendUint32(b, uint32(k))
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	for i, a := range args {
		if i > 0 {
			b = append(b, 0)
		}
		b = append(b, a...)
	}
	return b
}

// Read takes one packet from a server. Its body is the caller's.
func Read(r io.Reader) (Packet, error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return Packet{}, err
	}
	if string(h[:4]) != "\x00RES" {
		return Packet{}, fmt.Errorf("no packet begins with %q", h[:4])
	}
	size := binary.BigEndian.Uint32(h[8:])
	if size > maxBody {
		return Packet{}, fmt.Errorf("a packet of %d bytes", size)
	}
	p := Packet{Kind: Kind(binary.BigEndian.Uint32(h[4:])), Body: make([]byte, size)}
	if _, err := io.ReadFull(r, p.Body); err != nil {
		return Packet{}, noEOF(err)
	}
	if p.Kind == Error {
		return p, fmt.Errorf("gearmand: %q", p.Body)
	}
	return p, nil
}

// noEOF is for the middle of a packet, where an end is no good one.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Conn is a connection to a server. One goroutine may put and flush while another
// one reads.
type Conn struct {
	net.Conn
	in      *bufio.Reader
	out     *bufio.Writer
	scratch []byte
}

// Dial connects. Close ends the connection.
func Dial(ctx context.Context, address string) (*Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return NewConn(c), nil
}

// NewConn speaks the protocol over a connection that is there.
func NewConn(c net.Conn) *Conn {
	return &Conn{Conn: c, in: bufio.NewReaderSize(c, buffered), out: bufio.NewWriterSize(c, buffered)}
}

// Put adds a request to what the next Flush sends; an error waits for that too.
func (c *Conn) Put(k Kind, args ...[]byte) {
	c.scratch = Append(c.scratch[:0], k, args...)
	_, _ = c.out.Write(c.scratch)
}

// Flush sends what was put.
func (c *Conn) Flush() error { return c.out.Flush() }

// Next blocks for the next packet.
func (c *Conn) Next() (Packet, error) { return Read(c.in) }

// Pending reports whether more has arrived already.
func (c *Conn) Pending() bool { return c.in.Buffered() > 0 }
