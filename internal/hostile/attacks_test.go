package hostile

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"reparto/internal/server"
)

// crowd are n connections that say the same, or nothing.
func (w *town) crowd(a net.Addr, n int, says string) (all []net.Conn) {
	for range n {
		c := w.dial(a)
		_, _ = io.WriteString(c, says)
		all = append(all, c)
	}
	return all
}

// wantClosed waits until the balancer has closed each of them.
func (w *town) wantClosed(all []net.Conn) {
	for i, c := range all {
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
			w.t.Errorf("connection %d is still open: %v", i, err)
		}
		c.Close()
	}
}

func (w *town) letGo(all []net.Conn) {
	for _, c := range all {
		c.Close()
	}
}

// A connection that says nothing does not get past the limit of a handshake. On the
// text ports an old program may be silent for as long as it likes.
func TestSilence(t *testing.T) {
	t.Run("gRPC", func(t *testing.T) { attack(t, func(w *town) { w.wantClosed(w.crowd(w.s.Addr(), 500, "")) }) })
	t.Run("text clients", func(t *testing.T) {
		attack(t, func(w *town) { w.letGo(w.crowd(w.s.Legacy().ClientAddr(), 1000, "")) })
	})
	t.Run("text workers", func(t *testing.T) {
		attack(t, func(w *town) { w.letGo(w.crowd(w.s.Legacy().WorkerAddr(), 1000, "")) })
	})
}

func TestGarbage(t *testing.T) {
	nuls := string(make([]byte, 4096)) + "\n"
	t.Run("gRPC, no preface", func(t *testing.T) {
		attack(t, func(w *town) { w.wantClosed(w.crowd(w.s.Addr(), 100, "GET / HTTP/1.1\r\n\r\n")) })
	})
	t.Run("gRPC, frames", func(t *testing.T) {
		attack(t, func(w *town) {
			w.wantClosed(w.crowd(w.s.Addr(), 100, http2.ClientPreface+string(bytes.Repeat([]byte{0xff}, 4096))))
		})
	})
	t.Run("text clients", func(t *testing.T) {
		attack(t, func(w *town) { w.letGo(w.crowd(w.s.Legacy().ClientAddr(), 100, nuls)) })
	})
	t.Run("text workers", func(t *testing.T) {
		attack(t, func(w *town) { w.letGo(w.crowd(w.s.Legacy().WorkerAddr(), 100, nuls)) })
	})
}

// TestEndlessLine sends 64 MiB without a line feed; the peer's connection ends.
func TestEndlessLine(t *testing.T) {
	attack(t, func(w *town) {
		c := w.dial(w.s.Legacy().ClientAddr())
		part := bytes.Repeat([]byte("1"), 1<<20)
		for range 64 {
			if _, err := c.Write(part); err != nil {
				return
			}
		}
		t.Error("64 MiB of one line were taken")
	})
}

// TestRapidReset opens 50,000 streams and resets each (CVE-2023-44487).
func TestRapidReset(t *testing.T) {
	attack(t, func(w *town) {
		p := w.peer()
		for i := range uint32(50_000) {
			if p.submit(2*i+1) != nil || p.out.WriteRSTStream(2*i+1, http2.ErrCodeCancel) != nil {
				break
			}
		}
		t.Logf("the balancer closed the connection: %v", p.wasRead())
		p.leave()
	})
}

// TestStreamsLeftOpen opens as many streams as there may be, and more.
func TestStreamsLeftOpen(t *testing.T) {
	attack(t, func(w *town) {
		p := w.peer()
		for i := range uint32(10_000) {
			if err := p.submit(2*i + 1); err != nil {
				t.Fatal(err)
			}
		}
		if p.wasRead() || p.resets.Load() > 0 {
			t.Errorf("%d of 10,000 streams were refused, of 16,384 that are allowed", p.resets.Load())
		}
		p.leave()
	})
	attackOn(t, func(o *server.Options) { o.RPC.MaxStreams = 100 }, func(w *town) {
		p := w.peer()
		for i := range uint32(150) {
			_ = p.submit(2*i + 1)
		}
		if closed := p.wasRead(); !closed && p.resets.Load() != 50 {
			t.Errorf("%d of 150 streams were refused, where 100 are allowed", p.resets.Load())
		}
		p.leave()
	})
}

// TestPings sends 100,000 pings, and as many settings.
func TestPings(t *testing.T) {
	attack(t, func(w *town) {
		p := w.peer()
		for range 100_000 {
			if p.out.WritePing(false, [8]byte{}) != nil || p.out.WriteSettings() != nil {
				break
			}
		}
		if !p.wasRead() {
			t.Error("it may ping as it likes")
		}
		p.leave()
	})
}

// TestGiantHeaders sends one of a megabyte, and a block that never ends.
func TestGiantHeaders(t *testing.T) {
	t.Run("one", func(t *testing.T) {
		attack(t, func(w *town) {
			p := w.peer()
			p.long(request([2]string{"x", strings.Repeat("a", 1<<20)}), true)
			if closed := p.wasRead(); !closed && p.resets.Load() == 0 && p.heads.Load() == 0 {
				t.Error("a header of a megabyte was taken")
			}
			p.leave()
		})
	})
	t.Run("64 MiB of them", func(t *testing.T) {
		attack(t, func(w *town) {
			p := w.peer()
			block := request()
			for range 64 << 6 {
				block = append(block, request([2]string{"x", strings.Repeat("a", 16<<10)})...)
				if p.long(block, false); len(block) > 1<<20 {
					break
				}
			}
			for range 64 {
				p.more(bytes.Repeat([]byte{0}, 1<<20))
			}
			if !p.wasRead() {
				t.Error("64 MiB of headers were read")
			}
			p.leave()
		})
	})
}

// long opens stream 1 with a block of any length.
func (p *peer) long(block []byte, end bool) {
	n := min(len(block), 16<<10)
	_ = p.out.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:n], EndHeaders: end && n == len(block)})
	p.rest(block[n:], end)
}

func (p *peer) more(block []byte) { p.rest(block, false) }

// rest goes on with a block.
func (p *peer) rest(block []byte, end bool) {
	for len(block) > 0 {
		n := min(len(block), 16<<10)
		if p.out.WriteContinuation(1, end && n == len(block), block[:n]) != nil {
			return
		}
		block = block[n:]
	}
}

// TestEndlessMessage announces 4 MiB and sends hardly any of it, a hundred times, and
// once 4 GiB.
func TestEndlessMessage(t *testing.T) {
	attack(t, func(w *town) {
		p := w.peer()
		for i := range uint32(100) {
			_ = p.submit(2*i + 1)
			_ = p.out.WriteData(2*i+1, false, []byte{0, 0, 0x40, 0, 0, 'x'})
		}
		if p.wasRead() || p.resets.Load() > 0 {
			t.Error("messages that may still come were refused")
		}
		_ = p.submit(1001)
		_ = p.out.WriteData(1001, false, []byte{0, 0xff, 0xff, 0xff, 0xff, 'x'})
		w.eventually("a message of 4 GiB is refused", func() bool { return p.heads.Load() > 0 || p.resets.Load() > 0 })
		p.leave()
	})
}
