package legacy

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"reparto/worker"
)

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
	h.counts(func(n Counters) bool { return n.Malformed == 0 })
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
	h.counts(func(n Counters) bool { return n.Malformed == 0 && n.Tasks == 2 })
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
	h.counts(func(n Counters) bool { return n.Overlong == 2 && n.Tasks == 1 })
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
	h.counts(func(n Counters) bool { return n.Slow == 2 && n.Tasks == 1 })
}

// scripted is a connection whose reads return, in turn, what is in the script;
// "" is a deadline that passed.
type scripted struct {
	net.Conn
	script []string
}

func (c *scripted) SetReadDeadline(time.Time) error { return nil }

func (c *scripted) Read(b []byte) (int, error) {
	if len(c.script) == 0 {
		return 0, io.EOF
	}
	s := c.script[0]
	c.script = c.script[1:]
	if s == "" {
		return 0, os.ErrDeadlineExceeded
	}
	return copy(b, s), nil
}

func TestReaderLooksAgainBeforeItTakesAPauseForAnEnd(t *testing.T) {
	o, err := Options{ClientAddress: ":0"}.validate()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		script []string
		want   []string
	}{
		{[]string{"TASK|t1|1", "", ",2\n"}, []string{"TASK|t1|1,2"}}, // was waiting while nobody looked
		{[]string{"TASK|t1|1", "", "", ",2\n"}, []string{"TASK|t1|1", ",2"}},
		{[]string{"TASK|t1", "", "", "|1\nTASK|t2|2"}, []string{"TASK|t1|1", "TASK|t2|2"}},
	} {
		r := newReader(&scripted{script: x.script}, &o)
		var got []string
		for {
			line, err := r.next()
			if err != nil {
				break
			}
			got = append(got, string(line))
		}
		if !slices.Equal(got, x.want) {
			t.Errorf("%q: got %q, want %q", x.script, got, x.want)
		}
	}
}
