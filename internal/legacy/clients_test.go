package legacy

import (
	"bufio"
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

func TestClientLineEndings(t *testing.T) {
	h := open(t, Options{})
	h.grpcWorker(sum)
	for name, line := range map[string]string{
		"LF": "TASK|t1|1,2\n", "CRLF": "TASK|t1|1,2\r\n", "none": "TASK|t1|1,2", "CR": "TASK|t1|1,2\r",
		"white space": " \tTASK|t1|1,2 \n", "blank lines": "\n\r\n  \nTASK|t1|1,2\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := h.client()
			for range 2 { // the connection stays open and works again
				c.send(line)
				c.want("RESULT|t1|3\n")
			}
		})
	}
	if n := h.a.Counters().Malformed; n != 0 {
		t.Errorf("%d lines counted as malformed", n)
	}
}

func TestClientLateLineFeedIsNoMessage(t *testing.T) {
	h := open(t, Options{})
	h.grpcWorker(sum)
	c := h.client()
	c.send("TASK|t1|1,2")
	c.want("RESULT|t1|3\n")
	c.send("\r\n")
	c.send("TASK|t2|1,2\n")
	c.want("RESULT|t2|3\n")
	if n := h.a.Counters(); n.Malformed != 0 || n.Tasks != 2 {
		t.Errorf("counters %+v", n)
	}
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
	h := open(t, Options{ResultGap: 20 * time.Millisecond})
	h.grpcWorker(sum)
	c := h.client()
	c.send("TASK|a|1\nTASK|b|2\r\nTASK|c|3") // the last without an end
	got := map[string]bool{}
	for range 3 { // one recv per expected message, in any order
		got[c.recv()] = true
	}
	for _, want := range []string{"RESULT|a|1\n", "RESULT|b|2\n", "RESULT|c|3\n"} {
		if !got[want] {
			t.Errorf("no recv returned exactly %q, but %q", want, got)
		}
	}
}

func TestClientOneLineInTenSegments(t *testing.T) {
	h := open(t, Options{})
	h.grpcWorker(sum)
	for _, end := range []string{"\n", ""} {
		c := h.client()
		line := "TASK|täsk_1|1,2,3,4,5" + end
		for len(line) > 0 { // segments of 2 or 3 bytes, one of which cuts the ä
			n := min(len(line), 2+len(line)%2)
			c.send(line[:n])
			line = line[n:]
			time.Sleep(3 * time.Millisecond)
		}
		c.want("RESULT|täsk_1|15\n")
	}
}

func TestClientPausesWithinAnUnfinishedMessage(t *testing.T) {
	h := open(t, Options{Quiet: 10 * time.Millisecond})
	h.grpcWorker(sum)
	c := h.client()
	for _, piece := range []string{"TA", "SK|t", "1", "|1,2\n"} {
		c.send(piece)
		c.wantSilenceUnlessLast(piece)
	}
	c.want("RESULT|t1|3\n")
}

func (p *peer) wantSilenceUnlessLast(piece string) {
	if !strings.HasSuffix(piece, "\n") {
		p.wantSilence(40 * time.Millisecond)
	}
}

func TestClientsWithEqualIDs(t *testing.T) {
	h := open(t, Options{})
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
	a.want("RESULT|task_0000cafe|1\n")
	b.want("RESULT|task_0000cafe|2\n")
	b.want("RESULT|task_0000cafe|2\n")
}

func TestClientDataMayHoldBars(t *testing.T) {
	h := open(t, Options{})
	h.grpcWorker(sum)
	c := h.client()
	c.send("TASK|t1|1|2\n")
	c.want("RESULT|t1|ERROR: invalid literal for int() with base 10: '1|2'\n")
	c.send("TASK|t2|\n")
	c.want("RESULT|t2|ERROR: invalid literal for int() with base 10: ''\n")
	if n := h.a.Counters().Errors; n != 2 {
		t.Errorf("%d errors counted", n)
	}
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
	if n := h.a.Counters().Malformed; n != uint64(len(bad)) {
		t.Errorf("%d lines counted as malformed, want %d", n, len(bad))
	}
	log := h.log.String()
	if n := strings.Count(log, "malformed message"); n != len(bad) {
		t.Errorf("%d lines logged, want %d", n, len(bad))
	}
	if strings.ContainsAny(log, "\x1b\x07") || strings.Contains(log, strings.Repeat("x", 201)) {
		t.Errorf("the log would drive a terminal, or holds all of a long line:\n%s", log)
	}
}

func TestClientLongMessages(t *testing.T) {
	h := open(t, Options{MaxLine: 200_000})
	h.grpcWorker(func(_ context.Context, t worker.Task) ([]byte, error) { return t.Payload, nil })
	c := h.client()
	in := bufio.NewReader(c)
	for _, n := range []int{1024, 5000, 200_000 - len("TASK|t1|")} { // the last is exactly at the limit
		data := strings.Repeat("9", n)
		c.send("TASK|t1|" + data + "\n")
		if line, err := in.ReadString('\n'); line != "RESULT|t1|"+data+"\n" {
			t.Fatalf("%d bytes of data: got %d bytes, %v", n, len(line), err)
		}
	}
}

func TestClientOverlongLineEndsItsConnectionOnly(t *testing.T) {
	h := open(t, Options{MaxLine: 1000})
	h.grpcWorker(sum)
	other := h.client()
	for _, end := range []string{"\n", ""} {
		c := h.client()
		c.send("TASK|t1|" + strings.Repeat("9", 1001-len("TASK|t1|")) + end)
		c.wantEnd()
	}
	other.send("TASK|t1|1\n")
	other.want("RESULT|t1|1\n")
	if n := h.a.Counters(); n.Overlong != 2 || n.Tasks != 1 {
		t.Errorf("counters %+v", n)
	}
}

func TestClientSlowLorisEndsItsConnectionOnly(t *testing.T) {
	h := open(t, Options{MessageTimeout: 150 * time.Millisecond, Quiet: 30 * time.Millisecond})
	h.grpcWorker(sum)
	other, silent, dribbles := h.client(), h.client(), h.client()
	silent.send("TASK|t1")
	var wg sync.WaitGroup
	wg.Go(func() { // well-formed after a while, but never quiet and never done
		for range 1000 {
			if _, err := dribbles.Write([]byte("TASK|t1|1")); err != nil {
				return
			}
			time.Sleep(2 * time.Millisecond)
		}
	})
	silent.wantEnd()
	dribbles.wantEnd()
	wg.Wait()
	other.wantSilence(200 * time.Millisecond) // idle is not slow
	other.send("TASK|t1|1\n")
	other.want("RESULT|t1|1\n")
	if n := h.a.Counters(); n.Slow != 2 || n.Tasks != 1 {
		t.Errorf("counters %+v", n)
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
	if n := h.a.Counters(); n.Results != clients*tasks || n.Refused != 0 {
		t.Errorf("counters %+v", n)
	}
}

func TestClientPipelinesMoreThanMaxInFlight(t *testing.T) {
	const tasks = 3000
	h := open(t, Options{MaxInFlight: 10, ResultGap: -1})
	var mu sync.Mutex
	running, most := 0, 0
	h.grpcWorker(func(ctx context.Context, t worker.Task) ([]byte, error) {
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		defer func() { mu.Lock(); running--; mu.Unlock() }()
		return sum(ctx, t)
	})
	h.pipeline(tasks)
	if most > 10 {
		t.Errorf("%d tasks of one client at a time; MaxInFlight is 10", most)
	}
}

func TestClientPipelinesAtFullSpeed(t *testing.T) {
	const tasks = 20_000 // at one per ResultGap: 20 s
	h := open(t, Options{})
	h.grpcWorker(sum)
	began := time.Now()
	h.pipeline(tasks)
	if d := time.Since(began); d > tasks*time.Millisecond/2 {
		t.Errorf("%d tasks took %v: a client that pipelines is held back", tasks, d)
	}
}

// pipeline sends many tasks in one go, closes its writing side, and reads lines.
func (h *house) pipeline(tasks int) {
	h.t.Helper()
	c := h.client()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		w := bufio.NewWriter(c)
		for i := range tasks {
			fmt.Fprintf(w, "TASK|t%d|%d,1\n", i, i)
		}
		_ = w.Flush()
		_ = c.Conn.(*net.TCPConn).CloseWrite()
	}()
	seen := map[string]bool{}
	for line := range strings.Lines(c.all()) {
		seen[line] = true
	}
	<-sent
	for i := range tasks {
		if want := fmt.Sprintf("RESULT|t%d|%d\n", i, i+1); !seen[want] {
			h.t.Fatalf("no %q among %d lines", want, len(seen))
		}
	}
}

func TestClientThatDoesNotReadIsCutOff(t *testing.T) {
	h := open(t, Options{WriteTimeout: 100 * time.Millisecond, MaxInFlight: 64})
	h.grpcWorker(func(_ context.Context, t worker.Task) ([]byte, error) { return make([]byte, 1<<20), nil })
	c, other := h.client(), h.client()
	for i := range 64 {
		if _, err := fmt.Fprintf(c, "TASK|t%d|1\n", i); err != nil {
			break // cut off already
		}
	}
	until(t, "the cut", func() bool { return h.a.Counters().Blocked == 1 })
	other.send("TASK|t1|1\n")
	if got := other.recv(); !strings.HasPrefix(got, "RESULT|t1|") {
		t.Errorf("got %.80q", got)
	}
}
