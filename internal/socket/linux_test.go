//go:build linux && !race

package socket

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
)

func TestMain(m *testing.M) {
	if os.Getenv(greedy) != "" {
		compute()
		return
	}
	goleak.VerifyTestMain(m)
}

// pair returns both ends of a connection: the one that was accepted, whose writes
// keep the processor, and its peer.
func pair(t testing.TB) (kept *conn, peer *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l = Listener(l)
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		dialled.Close()
	})
	kept, ok := c.(*conn)
	if !ok {
		t.Fatalf("a %T was accepted", c)
	}
	return kept, dialled.(*net.TCPConn)
}

func TestWhatIsWrittenArrives(t *testing.T) {
	for _, size := range []int{0, 1, MaxWrite, MaxWrite + 1, 5 << 20} {
		c, peer := pair(t)
		want := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		var wrote sync.WaitGroup
		wrote.Go(func() {
			if n, err := c.Write(want); n != size || err != nil {
				t.Errorf("%d bytes: wrote %d, %v", size, n, err)
			}
			c.Close()
		})
		got, err := io.ReadAll(peer)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: got %d, %v", size, len(got), err)
		}
		wrote.Wait()
	}
}

// fill writes until the peer's buffers take no more, and returns once a Write
// hangs, with where it will tell how it ended.
func fill(t *testing.T, c *conn) (ended chan error) {
	t.Helper()
	ended, moved := make(chan error, 1), make(chan struct{}, 1)
	var writing sync.WaitGroup
	writing.Go(func() {
		for {
			n, err := c.Write(make([]byte, MaxWrite))
			if err != nil {
				ended <- err
				return
			}
			if n != MaxWrite {
				t.Errorf("wrote %d of %d bytes, and no error", n, MaxWrite)
			}
			select {
			case moved <- struct{}{}:
			default:
			}
		}
	})
	t.Cleanup(func() {
		c.Close()
		writing.Wait()
	})
	for {
		select {
		case <-moved:
		case <-time.After(100 * time.Millisecond):
			return ended
		}
	}
}

func TestAWriteWaitsForRoom(t *testing.T) {
	c, peer := pair(t)
	ended := fill(t, c)
	var read sync.WaitGroup
	read.Go(func() { _, _ = io.CopyN(io.Discard, peer, 64<<20) })
	read.Wait() // that much fits in no buffer: the write went on
	if len(ended) > 0 {
		t.Fatal(<-ended)
	}
}

func TestAWriteEndsWithItsDeadline(t *testing.T) {
	c, _ := pair(t)
	ended := fill(t, c)
	if err := c.SetWriteDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

func TestAWriteEndsWithTheConnection(t *testing.T) {
	c, _ := pair(t)
	ended := fill(t, c)
	c.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// The error is the one that any connection has.
func TestAWriteToNobodyFails(t *testing.T) {
	c, peer := pair(t)
	_ = peer.SetLinger(0)
	peer.Close()
	var err error
	for err == nil {
		_, err = c.Write([]byte("x"))
	}
	op, _ := errors.AsType[*net.OpError](err)
	if op == nil || op.Op != "write" || !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Error(err)
	}
}

// A write of nothing tells that a connection is dead, as it does elsewhere.
func TestAWriteOfNothingProbes(t *testing.T) {
	c, peer := pair(t)
	if n, err := c.Write(nil); n != 0 || err != nil {
		t.Error(n, err)
	}
	_ = peer.SetLinger(0)
	peer.Close()
	_, _ = c.Read(make([]byte, 1)) // until the reset is here
	if _, err := c.Write(nil); !errors.Is(err, syscall.EPIPE) {
		t.Error(err)
	}
}

// Whoever writes beside others is not mixed up with them.
func TestWritesAreWhole(t *testing.T) {
	c, peer := pair(t)
	const writers, times, size = 8, 200, 3000
	var wrote sync.WaitGroup
	for i := range writers {
		wrote.Go(func() {
			for range times {
				if _, err := c.Write(bytes.Repeat([]byte{byte(i)}, size)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var read sync.WaitGroup
	read.Go(func() {
		b := make([]byte, size)
		for range writers * times {
			if _, err := io.ReadFull(peer, b); err != nil || bytes.Count(b, b[:1]) != size {
				t.Errorf("%v, of several: %v", err, b[:1])
				return
			}
		}
	})
	wrote.Wait()
	read.Wait()
}

func TestAReadTakesItsBufferLate(t *testing.T) {
	c, peer := pair(t)
	pool := &counting{BufferPool: mem.DefaultBufferPool()}
	type got struct {
		b   *[]byte
		n   int
		err error
	}
	reads := make(chan got)
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			b, n, err := c.ReadOnReady(1024, pool)
			reads <- got{b, n, err}
			if err != nil {
				return
			}
		}
	})
	if _, err := peer.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	r := <-reads
	if r.err != nil || string((*r.b)[:r.n]) != "hello" {
		t.Errorf("%d, %v", r.n, r.err)
	}
	pool.Put(r.b)
	peer.Close()
	if r = <-reads; r.err != io.EOF || r.b != nil {
		t.Errorf("at the end: %d, %v", r.n, r.err)
	}
	reading.Wait()
	if pool.out != 0 {
		t.Errorf("%d buffers are not back in the pool", pool.out)
	}
}

func TestAReadEndsWithTheConnection(t *testing.T) {
	c, peer := pair(t)
	pool := &counting{BufferPool: mem.DefaultBufferPool()}
	_ = peer.SetLinger(0)
	peer.Close()
	if _, _, err := c.ReadOnReady(1024, pool); !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	c.Close()
	if _, _, err := c.ReadOnReady(1024, pool); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if pool.out != 0 {
		t.Errorf("%d buffers are not back in the pool", pool.out)
	}
}

// counting counts the buffers that are out.
type counting struct {
	mem.BufferPool
	mu  sync.Mutex
	out int
}

func (p *counting) Get(n int) *[]byte {
	p.mu.Lock()
	p.out++
	p.mu.Unlock()
	return p.BufferPool.Get(n)
}

func (p *counting) Put(b *[]byte) {
	p.mu.Lock()
	p.out--
	p.mu.Unlock()
	p.BufferPool.Put(b)
}

func TestWhatIsReadIsWhatWasWritten(t *testing.T) {
	c, peer := pair(t)
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	var wrote sync.WaitGroup
	wrote.Go(func() {
		if _, err := peer.Write(want); err != nil {
			t.Error(err)
		}
		peer.Close()
	})
	var got []byte
	b := make([]byte, 2*MaxRead)
	for {
		n, err := c.Read(b)
		if n > MaxRead {
			t.Errorf("read %d bytes at once", n)
		}
		got = append(got, b[:n]...)
		if err == io.EOF {
			break
		}
		if n == 0 || err != nil {
			t.Fatalf("read %d bytes, %v", n, err)
		}
	}
	wrote.Wait()
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes arrived, and not those that were written", len(got))
	}
	if n, err := c.Read(nil); n != 0 || err != nil {
		t.Errorf("nothing: %d, %v", n, err)
	}
}

func TestAReadEndsWithItsDeadline(t *testing.T) {
	c, _ := pair(t)
	if err := c.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	n, err := c.Read(make([]byte, 1))
	if slow, ok := errors.AsType[net.Error](err); n != 0 || !ok || !slow.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d, %v", n, err)
	}
}

func TestAWriteAllocatesNothing(t *testing.T) {
	c, peer := pair(t)
	var read sync.WaitGroup
	read.Go(func() { _, _ = io.Copy(io.Discard, peer) })
	b := make([]byte, 1000)
	if n := testing.AllocsPerRun(100, func() { _, _ = c.Write(b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	c.Close()
	read.Wait()
}

func TestWhoDialsKeepsTheProcessorToo(t *testing.T) {
	_, peer := pair(t)
	creds := Credentials(insecure.NewCredentials()).Clone()
	c, _, err := creds.ClientHandshake(context.Background(), "", peer)
	if _, ok := c.(*conn); err != nil || !ok {
		t.Errorf("%T, %v", c, err)
	}
	a, b := net.Pipe() // what is no TCP stays what it is
	defer a.Close()
	defer b.Close()
	if c, _, err = creds.ClientHandshake(context.Background(), "", a); err != nil || c != a {
		t.Errorf("%T, %v", c, err)
	}
}

// What a write costs, next to that of an ordinary connection. Run it with -cpu 2: the
// difference lies in the threads that are woken.
func BenchmarkWrite(b *testing.B) {
	for _, kept := range []bool{false, true} {
		name := "usual"
		if kept {
			name = "kept"
		}
		b.Run(name, func(b *testing.B) {
			c, peer := pair(b)
			var w io.Writer = c
			if !kept {
				w = c.TCPConn
			}
			var read sync.WaitGroup
			read.Go(func() { _, _ = io.Copy(io.Discard, peer) })
			frame := make([]byte, 8<<10)
			for b.Loop() {
				if _, err := w.Write(frame); err != nil {
					b.Fatal(err)
				}
			}
			c.Close()
			read.Wait()
		})
	}
}
