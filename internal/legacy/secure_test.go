package legacy

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"reparto/internal/secure/securetest"
)

// openTLS starts a house whose ports speak TLS, and returns what its peers
// trust.
func openTLS(t *testing.T, o Options) (*house, *x509.CertPool) {
	t.Helper()
	ca := securetest.NewCA("CA")
	o.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Issue(securetest.Leaf{}).TLS()}, MinVersion: tls.VersionTLS13}
	return open(t, o), ca.Pool()
}

// overTLS is an old program behind something that speaks TLS for it.
func (h *house) overTLS(addr net.Addr, trust *x509.CertPool) *peer {
	h.t.Helper()
	plain := h.dial(addr)
	conn := tls.Client(plain.Conn, &tls.Config{RootCAs: trust, ServerName: "localhost"})
	if err := conn.Handshake(); err != nil {
		h.t.Fatal(err)
	}
	return &peer{h.t, conn}
}

func TestOldProgramsOverTLS(t *testing.T) {
	h, trust := openTLS(t, Options{})
	w := h.overTLS(h.a.WorkerAddr(), trust)
	w.send("REGISTER|w1") // no line feed: it is complete when the peer is quiet
	w.want("ACK|w1\n")
	w.obey(textSum)
	c := h.overTLS(h.a.ClientAddr(), trust)
	c.send("TASK|t1|1,2,3,4,5\n")
	c.want("RESULT|t1|15\n")
	c.send("TASK|t2|1,2")
	c.want("RESULT|t2|3\n")
	c.send("TASK|t3|1,")
	c.send("x\n")
	c.want("RESULT|t3|ERROR: invalid literal for int() with base 10: 'x'\n")
	c.send("TASK|a|1\nTASK|b|2\nTASK|c|3\n")
	if err := c.Conn.(*tls.Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got := c.all()
	for _, line := range []string{"RESULT|a|1\n", "RESULT|b|2\n", "RESULT|c|3\n"} {
		if !strings.Contains(got, line) {
			t.Errorf("after it closed its side a client got %q, without %q", got, line)
		}
	}
}

func TestATLSClientThatVanishedAfterItClosedItsSideIsNoticed(t *testing.T) {
	h, trust := openTLS(t, Options{})
	c := h.overTLS(h.a.ClientAddr(), trust)
	c.send("TASK|t1|1\n") // there is no worker
	h.counts(func(n Counters) bool { return n.Tasks == 1 })
	if err := c.Conn.(*tls.Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	(&peer{t, c.Conn.(*tls.Conn).NetConn()}).reset()
	h.counts(func(n Counters) bool { return n.OpenClients == 0 })
}

func TestTLSPeersThatHangUpWithoutAWordHaveLeft(t *testing.T) {
	h, trust := openTLS(t, Options{})
	w := h.overTLS(h.a.WorkerAddr(), trust)
	w.send("REGISTER|w1\n")
	w.want("ACK|w1\n")
	_ = w.Conn.(*tls.Conn).NetConn().Close() // no close_notify
	until(t, "its end is in the log", func() bool { return strings.Contains(h.log.String(), "worker disconnected") })
	if strings.Contains(h.log.String(), "cut off") {
		t.Errorf("log:\n%s", h.log)
	}
}

func TestAHandshakeThatIsNeverFinishedHoldsUpNobodyAndEnds(t *testing.T) {
	const limit = 200 * time.Millisecond
	h, trust := openTLS(t, Options{HandshakeTimeout: limit})
	began := time.Now()
	var idle []*peer
	for range 20 {
		idle = append(idle, h.dial(h.a.ClientAddr()))
	}
	w := h.overTLS(h.a.WorkerAddr(), trust)
	w.send("REGISTER|w1\n")
	w.want("ACK|w1\n")
	w.obey(textSum)
	c := h.overTLS(h.a.ClientAddr(), trust)
	c.send("TASK|t1|1,2\n")
	c.want("RESULT|t1|3\n")
	for _, p := range idle {
		p.wantEnd()
	}
	if took := time.Since(began); took < limit {
		t.Errorf("they were dropped after %v", took)
	}
	if n := strings.Count(h.log.String(), "level=WARN"); n < 1 || n > 5 || !strings.Contains(h.log.String(), "not finished within 200ms") {
		t.Errorf("%d warnings:\n%s", n, h.log)
	}
	h.counts(func(n Counters) bool { return n.OpenClients == 1 })
}

func TestAPlainPeerIsRefusedByATLSPort(t *testing.T) {
	h, _ := openTLS(t, Options{})
	c := h.client()
	c.send("TASK|t1|1,2,3,4,5\n")
	if got, _ := io.ReadAll(c); strings.Contains(string(got), "RESULT") {
		t.Errorf("it got %q", got)
	}
	until(t, "the log says why", func() bool { return strings.Contains(h.log.String(), "the peer speaks without TLS") })
}

func TestNoHandshakeOutlastsTheEnd(t *testing.T) {
	h, _ := openTLS(t, Options{HandshakeTimeout: patience, DrainTimeout: patience})
	c := h.client()
	h.counts(func(n Counters) bool { return n.OpenClients == 1 })
	began := time.Now()
	if err := h.stop(); err != nil || time.Since(began) > patience/2 {
		t.Errorf("it stopped after %v: %v", time.Since(began), err)
	}
	c.wantEnd()
}
