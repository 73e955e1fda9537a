package doctor

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// relay puts a proxy before a balancer: meddle gets each connection from a client
// and one to the balancer, and returns when it is done with both.
func (b *balancer) relay(t *testing.T, l net.Listener, meddle func(client, server net.Conn)) {
	t.Helper()
	b.before(t, l, func(client net.Conn) {
		server, err := b.dial(context.WithoutCancel(t.Context()))
		if err != nil {
			return // the balancer has ended
		}
		defer server.Close()
		meddle(client, server)
	})
}

// before puts something before a balancer, which ends with the test.
func (b *balancer) before(t *testing.T, l net.Listener, serve func(client net.Conn)) {
	t.Helper()
	b.address = l.Addr().String()
	b.way = func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer(l)(ctx) }
	var all sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[client] = true
			mu.Unlock()
			all.Go(func() {
				serve(client)
				client.Close()
				mu.Lock()
				delete(open, client)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
}

// both copies bytes in both directions until either side ends. passed is told of
// each piece, and may hold it back by returning false.
func both(a, b net.Conn, passed func(n int) bool) {
	var copying sync.WaitGroup
	one := func(to, from net.Conn) {
		defer to.Close()
		defer from.Close()
		p := make([]byte, 32<<10)
		for {
			n, err := from.Read(p)
			if err != nil {
				return
			}
			if !passed(n) {
				continue
			}
			if _, err := to.Write(p[:n]); err != nil {
				return
			}
		}
	}
	copying.Go(func() { one(a, b) })
	copying.Go(func() { one(b, a) })
	copying.Wait()
}

// idleBytes cuts a connection on which no byte has passed for the time, as
// firewalls do; silently: it swallows what comes then, and does not say so.
func idleBytes(limit time.Duration, silently bool) func(client, server net.Conn) {
	return func(client, server net.Conn) {
		var mu sync.Mutex
		last := time.Now()
		cut := time.AfterFunc(limit, func() {
			client.Close()
			server.Close()
		})
		if silently {
			cut.Stop()
		}
		both(client, server, func(int) bool {
			mu.Lock()
			defer mu.Unlock()
			if silently {
				if time.Since(last) >= limit {
					return false
				}
				last = time.Now()
				return true
			}
			cut.Reset(limit)
			return true
		})
		cut.Stop()
	}
}

// frames relays frames of HTTP/2. see is told of each from the client; what it
// returns is how the stream is reset towards both, 0 for not at all. frames is
// what proxies of HTTP do, in small: the header blocks pass as they are.
type frames struct {
	client, server *http2.Framer
	mu             sync.Mutex // of writes to either
	// onData is called for each frame of data, from the client or from the server.
	onData func(stream uint32, n int, fromClient bool)
}

func (f *frames) reset(stream uint32, why http2.ErrCode) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.client.WriteRSTStream(stream, why)
	_ = f.server.WriteRSTStream(stream, http2.ErrCodeCancel)
}

// answerPings makes pings those of a connection, as proxies do.
func (f *frames) run(client, server net.Conn) {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := readFull(client, preface); err != nil {
		return
	}
	if _, err := server.Write(preface); err != nil {
		return
	}
	f.mu.Lock()
	f.client, f.server = http2.NewFramer(client, client), http2.NewFramer(server, server)
	f.mu.Unlock()
	var relaying sync.WaitGroup
	one := func(to, from *http2.Framer, fromClient bool) {
		defer client.Close()
		defer server.Close()
		for {
			frame, err := from.ReadFrame()
			if err != nil {
				return
			}
			f.mu.Lock()
			err = pass(to, from, frame)
			f.mu.Unlock()
			if err != nil {
				return
			}
			if d, ok := frame.(*http2.DataFrame); ok && f.onData != nil {
				f.onData(d.StreamID, len(d.Data()), fromClient)
			}
		}
	}
	relaying.Go(func() { one(f.server, f.client, true) })
	relaying.Go(func() { one(f.client, f.server, false) })
	relaying.Wait()
}

func readFull(c net.Conn, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = c.Read(p[n:])
		n += m
	}
	return n, err
}

// pass hands a frame on. Pings are answered on the spot, as proxies do.
func pass(to, from *http2.Framer, frame http2.Frame) error {
	switch f := frame.(type) {
	case *http2.PingFrame:
		if f.IsAck() {
			return nil
		}
		return from.WritePing(true, f.Data)
	case *http2.DataFrame:
		return to.WriteData(f.StreamID, f.StreamEnded(), f.Data())
	case *http2.HeadersFrame:
		return to.WriteHeaders(http2.HeadersFrameParam{
			StreamID: f.StreamID, BlockFragment: f.HeaderBlockFragment(), EndStream: f.StreamEnded(), EndHeaders: f.HeadersEnded(),
		})
	case *http2.SettingsFrame:
		if f.IsAck() {
			return to.WriteSettingsAck()
		}
		var all []http2.Setting
		_ = f.ForeachSetting(func(s http2.Setting) error { all = append(all, s); return nil })
		return to.WriteSettings(all...)
	case *http2.WindowUpdateFrame:
		return to.WriteWindowUpdate(f.StreamID, f.Increment)
	case *http2.RSTStreamFrame:
		return to.WriteRSTStream(f.StreamID, f.ErrCode)
	case *http2.GoAwayFrame:
		return to.WriteGoAway(f.LastStreamID, f.ErrCode, f.DebugData())
	}
	return nil
}

// idleStreams resets a stream on which no data has passed for the time, as proxies
// of HTTP do: pings do not count.
func idleStreams(limit time.Duration) func(client, server net.Conn) {
	return func(client, server net.Conn) {
		f := &frames{}
		var mu sync.Mutex
		timers := map[uint32]*time.Timer{}
		f.onData = func(stream uint32, _ int, _ bool) {
			mu.Lock()
			defer mu.Unlock()
			if timer, ok := timers[stream]; ok {
				timer.Reset(limit)
				return
			}
			timers[stream] = time.AfterFunc(limit, func() { f.reset(stream, http2.ErrCodeInternal) })
		}
		f.run(client, server)
		mu.Lock()
		defer mu.Unlock()
		for _, timer := range timers {
			timer.Stop()
		}
	}
}

// mostBytes resets a stream on which the client has sent more than that.
func mostBytes(most int) func(client, server net.Conn) {
	return func(client, server net.Conn) {
		f := &frames{}
		sent := map[uint32]int{} // only the client's side counts
		f.onData = func(stream uint32, n int, fromClient bool) {
			if !fromClient {
				return
			}
			if sent[stream] += n; sent[stream] > most && sent[stream]-n <= most {
				f.reset(stream, http2.ErrCodeCancel)
			}
		}
		f.run(client, server)
	}
}
