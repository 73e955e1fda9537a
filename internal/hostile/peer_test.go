package hostile

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync/atomic"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// peer speaks HTTP/2 by hand. It reads what comes, until its connection ends.
type peer struct {
	w      *town
	out    *http2.Framer
	conn   net.Conn
	acks   chan uint64   // of pings
	ended  chan struct{} // closed when the balancer has closed the connection
	resets atomic.Int64
	heads  atomic.Int64 // blocks of headers
}

func (w *town) peer() *peer {
	w.t.Helper()
	p := &peer{w: w, conn: w.dial(w.s.Addr()), acks: make(chan uint64, 1), ended: make(chan struct{})}
	p.out = http2.NewFramer(p.conn, nil)
	if _, err := io.WriteString(p.conn, http2.ClientPreface); err != nil {
		w.t.Fatal(err)
	}
	_ = p.out.WriteSettings()
	go p.read() // ends with the connection
	return p
}

func (p *peer) read() {
	defer close(p.ended)
	in := http2.NewFramer(nil, p.conn)
	for {
		f, err := in.ReadFrame()
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *http2.PingFrame:
			if f.IsAck() {
				select {
				case p.acks <- binary.BigEndian.Uint64(f.Data[:]):
				default:
				}
			}
		case *http2.RSTStreamFrame:
			p.resets.Add(1)
		case *http2.HeadersFrame:
			p.heads.Add(1)
		}
	}
}

// wasRead waits until the balancer has read all that was written, or has closed the
// connection, which it reports.
func (p *peer) wasRead() (closed bool) {
	p.w.t.Helper()
	const last = 1<<63 + 7
	var data [8]byte
	binary.BigEndian.PutUint64(data[:], last)
	_ = p.out.WritePing(false, data) // on a connection that is gone, ended tells
	for {
		select {
		case n := <-p.acks:
			if n == last {
				return false
			}
		case <-p.ended:
			return true
		case <-p.w.ctx.Done():
			p.w.t.Fatal("the balancer neither read what was written nor closed the connection")
		}
	}
}

// leave closes the connection.
func (p *peer) leave() {
	p.conn.Close()
	<-p.ended
}

// submit opens a stream for a call of Submit.
func (p *peer) submit(stream uint32, more ...[2]string) error {
	return p.out.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: request(more...), EndHeaders: true})
}

// request is the header block of a Submit.
func request(more ...[2]string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, h := range append([][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", "/reparto.v1.TaskService/Submit"}, {":authority", "a"},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	}, more...) {
		// Sensitive keeps it out of the table, so that each block stands alone.
		_ = e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1], Sensitive: true})
	}
	return b.Bytes()
}
