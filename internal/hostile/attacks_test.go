package hostile

import (
	"bytes"
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// crowd are n connections that say the same, or nothing.
func (w *town) crowd(a net.Addr, n int, says string) {
	for range n {
		c := w.dial(a)
		defer c.Close()
		_, _ = io.WriteString(c, says)
	}
}

func TestSilence(t *testing.T) {
	t.Run("gRPC", func(t *testing.T) { attack(t, func(w *town) { w.crowd(w.s.Addr(), 500, "") }) })
	t.Run("text clients", func(t *testing.T) { attack(t, func(w *town) { w.crowd(w.s.Legacy().ClientAddr(), 1000, "") }) })
	t.Run("text workers", func(t *testing.T) { attack(t, func(w *town) { w.crowd(w.s.Legacy().WorkerAddr(), 1000, "") }) })
}

func TestGarbage(t *testing.T) {
	nuls := string(make([]byte, 4096))
	t.Run("gRPC, no preface", func(t *testing.T) { attack(t, func(w *town) { w.crowd(w.s.Addr(), 100, "GET / HTTP/1.1\r\n\r\n") }) })
	t.Run("gRPC, frames", func(t *testing.T) {
		attack(t, func(w *town) { w.crowd(w.s.Addr(), 100, http2.ClientPreface+string(bytes.Repeat([]byte{0xff}, 4096))) })
	})
	t.Run("text clients", func(t *testing.T) { attack(t, func(w *town) { w.crowd(w.s.Legacy().ClientAddr(), 100, nuls) }) })
	t.Run("text workers", func(t *testing.T) { attack(t, func(w *town) { w.crowd(w.s.Legacy().WorkerAddr(), 100, nuls) }) })
}

// TestEndlessLine sends 64 MiB without a line feed; the peer's connection ends.
func TestEndlessLine(t *testing.T) {
	attack(t, func(w *town) {
		c := w.dial(w.s.Legacy().ClientAddr())
		defer c.Close()
		part := bytes.Repeat([]byte("1"), 1<<20)
		for range 64 {
			if _, err := c.Write(part); err != nil {
				return
			}
		}
		t.Error("64 MiB of one line were taken")
	})
}

// framed opens HTTP/2 and reads what comes, until the connection ends.
func (w *town) framed() (*http2.Framer, net.Conn, <-chan struct{}) {
	c := w.dial(w.s.Addr())
	_, _ = io.WriteString(c, http2.ClientPreface)
	f, ended := http2.NewFramer(c, c), make(chan struct{})
	_ = f.WriteSettings()
	go func() { defer close(ended); _, _ = io.Copy(io.Discard, c) }()
	return f, c, ended
}

// request is the header block of a Submit.
func request() []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/reparto.v1.TaskService/Submit"}, {":authority", "a"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
		_ = e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1], Sensitive: true}) // never in the table: each block stands alone
	}
	return b.Bytes()
}

// TestRapidReset opens 50,000 streams and resets each (CVE-2023-44487).
func TestRapidReset(t *testing.T) {
	attack(t, func(w *town) {
		f, c, ended := w.framed()
		block := request()
		for i := range uint32(50_000) {
			if f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: block, EndHeaders: true}) != nil || f.WriteRSTStream(2*i+1, http2.ErrCodeCancel) != nil {
				t.Logf("ended after %d", i)
				break
			}
		}
		c.Close()
		<-ended
	})
}

// TestStreamsLeftOpen opens 10,000 streams and says nothing on them.
func TestStreamsLeftOpen(t *testing.T) {
	attack(t, func(w *town) {
		f, c, ended := w.framed()
		block := request()
		for i := range uint32(10_000) {
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: block, EndHeaders: true}); err != nil {
				t.Logf("ended after %d: %v", i, err)
				break
			}
		}
		c.Close()
		<-ended
	})
}

// TestPings sends 100,000 pings, and as many settings.
func TestPings(t *testing.T) {
	attack(t, func(w *town) {
		f, c, ended := w.framed()
		for i := range 100_000 {
			if f.WritePing(false, [8]byte{}) != nil || f.WriteSettings() != nil {
				t.Logf("ended after %d", i)
				break
			}
		}
		c.Close()
		<-ended
	})
}
