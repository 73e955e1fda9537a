package legacy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"reparto/worker"
)

func TestClientOneTask(t *testing.T) {
	h := open(t, Options{})
	h.grpcWorker(sum)
	c := h.client()
	for range 3 { // lock-step
		c.send("TASK|t1|1,2,3,4,5\n")
		c.want("RESULT|t1|15\n")
	}
	until(t, "counters", func() bool { n := h.a.Counters(); return n.Tasks == 3 && n.Results == 3 && n.OpenClients == 1 })
}

func TestClientHalfClose(t *testing.T) {
	h := open(t, Options{})
	h.grpcWorker(sum)
	for _, line := range []string{"TASK|t1|1,2,3\n", "TASK|t1|1,2,3"} {
		c := h.client()
		c.send(line)
		if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got := c.all(); got != "RESULT|t1|6\n" {
			t.Errorf("got %q before the end", got)
		}
	}
}

func TestClientHalfCloseWaitsForAWorker(t *testing.T) {
	h := open(t, Options{})
	c := h.client()
	c.send("TASK|t1|1,2,3\nTASK|t2|4\n")
	_ = c.Conn.(*net.TCPConn).CloseWrite()
	c.wantSilence(1200 * time.Millisecond) // past a probe; with no worker a task waits
	h.worker("worker_1").obey(textSum)
	if got := slices.Sorted(strings.Lines(c.all())); !slices.Equal(got, []string{"RESULT|t1|6\n", "RESULT|t2|4\n"}) {
		t.Errorf("got %q", got)
	}
}

func TestClientSeveralLinesInOneSegment(t *testing.T) {
	h := open(t, Options{ResultGap: 50 * time.Millisecond})
	h.grpcWorker(sum)
	c := h.client()
	c.send("TASK|a|1\nTASK|b|2\r\nTASK|c|3") // the last without an end
	got := map[string]bool{}
	for range 3 { // one recv per expected message, in any order
		got[c.recv()] = true
	}
	for _, want := range []string{"RESULT|a|1\n", "RESULT|b|2\n", "RESULT|c|3\n"} {
		if !got[want] {
			t.Errorf("no recv returned exactly %q, but %v", want, got)
		}
	}
}

func TestClientsWithEqualIDs(t *testing.T) {
	h := open(t, Options{ResultGap: 50 * time.Millisecond})
	release := make(chan struct{})
	h.grpcWorker(func(ctx context.Context, t worker.Task) ([]byte, error) {
		<-release
		return sum(ctx, t)
	})
	a, b := h.client(), h.client()
	a.send("TASK|task_0000cafe|1\n")
	b.send("TASK|task_0000cafe|2\n")
	b.send("TASK|task_0000cafe|2\n") // even twice from one
	until(t, "three tasks", func() bool { return h.a.Counters().Tasks == 3 })
	close(release)
	b.want("RESULT|task_0000cafe|2\n")
	b.want("RESULT|task_0000cafe|2\n")
	a.want("RESULT|task_0000cafe|1\n")
}

func TestClientDataMayHoldBars(t *testing.T) {
	h := open(t, Options{})
	h.grpcWorker(sum)
	c := h.client()
	c.send("TASK|t1|1|2\n")
	c.want("RESULT|t1|ERROR: invalid literal for int() with base 10: '1|2'\n")
	c.send("TASK|t2|\n")
	c.want("RESULT|t2|ERROR: invalid literal for int() with base 10: ''\n")
	h.counts(func(n Counters) bool { return n.Errors == 2 })
}

func TestClientMalformedLines(t *testing.T) {
	h := open(t, Options{})
	h.grpcWorker(sum)
	c := h.client()
	bad := []string{"hello", "TASK", "TASK|t1", "TASKS|t1|1", "task|t1|1", "RESULT|t1|1", "REGISTER|w1", "TASK_RESULT|t1|3",
		"TASK|t1|\xff\xfe", "|||", "\x1b[2J\x07" + strings.Repeat("x", 500)}
	for _, line := range bad {
		c.send(line + "\n")
	}
	c.send("TASK|t1|1,2\n") // the connection lives
	c.want("RESULT|t1|3\n")
	h.counts(func(n Counters) bool { return n.Malformed == uint64(len(bad)) })
	log := h.log.String()
	if n := strings.Count(log, "malformed message"); n != len(bad) {
		t.Errorf("%d lines logged, want %d", n, len(bad))
	}
	if strings.ContainsAny(log, "\x1b\x07") || strings.Contains(log, strings.Repeat("x", 201)) {
		t.Errorf("the log would drive a terminal, or holds all of a long line:\n%s", log)
	}
}

func TestClientGoneCancelsItsTasks(t *testing.T) {
	h := open(t, Options{})
	started, cancelled := make(chan struct{}, 2), make(chan struct{}, 2)
	h.grpcWorker(func(ctx context.Context, t worker.Task) ([]byte, error) {
		started <- struct{}{}
		<-ctx.Done()
		cancelled <- struct{}{}
		return nil, ctx.Err()
	})
	c := h.client()
	c.send("TASK|t1|1\nTASK|t2|2\n")
	<-started
	<-started
	c.reset()
	<-cancelled
	<-cancelled
	until(t, "the connection's end", func() bool { n := h.a.Counters(); return n.OpenClients == 0 && n.Undelivered == 2 })
}

func TestClientThatClosedBothSidesIsFoundOut(t *testing.T) {
	h := open(t, Options{})
	cancelled := make(chan struct{})
	h.grpcWorker(func(ctx context.Context, t worker.Task) ([]byte, error) {
		if string(t.Payload) == "quick" {
			return []byte("done"), nil
		}
		<-ctx.Done()
		close(cancelled)
		return nil, ctx.Err()
	})
	c := h.client()
	c.send("TASK|t1|slow\nTASK|t2|quick\n")
	_ = c.Close() // to the adapter this looks like a half-close, until t2's RESULT is refused
	<-cancelled
}

func TestClientResultThatNoLineCanHold(t *testing.T) {
	h := open(t, Options{})
	h.grpcWorker(func(_ context.Context, t worker.Task) ([]byte, error) {
		switch string(t.Payload) {
		case "end":
			return []byte("ok\r\n"), nil
		case "within":
			return []byte("a\nRESULT|t2|forged"), nil
		case "bytes":
			return []byte{0xff}, nil
		}
		return nil, errors.New("two\nlines")
	})
	c := h.client()
	for data, want := range map[string]string{
		"end":    "ok",
		"within": "ERROR: the result holds a line break and can't be sent as one line of text",
		"bytes":  "ERROR: the result is not valid UTF-8 and can't be sent as one line of text",
		"fail":   "ERROR: two lines",
	} {
		c.send("TASK|t1|" + data + "\n")
		c.want("RESULT|t1|" + want + "\n")
	}
}

func TestClientTaskTimeout(t *testing.T) {
	h := open(t, Options{TaskTimeout: 50 * time.Millisecond}) // and no worker
	c := h.client()
	c.send("TASK|t1|1\n")
	got := c.recv()
	if !strings.HasPrefix(got, "RESULT|t1|ERROR: ") || strings.Count(got, "\n") != 1 {
		t.Errorf("got %q", got)
	}
}

func TestClientsManyAtOneMoment(t *testing.T) {
	const clients, tasks = 200, 5
	h := open(t, Options{})
	h.grpcWorker(sum)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			<-start
			conn, err := net.Dial("tcp", h.a.ClientAddr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(patience))
			b := make([]byte, 1024)
			for j := range tasks {
				fmt.Fprintf(conn, "TASK|task_1|%d,%d\n", i, j)
				n, err := conn.Read(b)
				if want := fmt.Sprintf("RESULT|task_1|%d\n", i+j); err != nil || string(b[:n]) != want {
					t.Errorf("got %q, %v; want %q", b[:n], err, want)
					return
				}
			}
		})
	}
	close(start)
	wg.Wait()
	h.counts(func(n Counters) bool { return n.Results == clients*tasks && n.Refused == 0 })
}
