package legacy

import (
	"net"
	"strings"
	"testing"
)

func TestListenPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	address := taken.Addr().String()
	for _, o := range []Options{{ClientAddress: address}, {ClientAddress: "127.0.0.1:0", WorkerAddress: address}} {
		a, err := Listen(o)
		if a != nil || err == nil || strings.Contains(err.Error(), "\n") ||
			!strings.Contains(err.Error(), address) || !strings.Contains(err.Error(), "address already in use") {
			t.Errorf("got %v", err)
		}
	}
}

func TestMaxConnections(t *testing.T) {
	h := open(t, Options{MaxConnections: 2})
	h.grpcWorker(sum)
	one, two := h.client(), h.client()
	until(t, "two clients", func() bool { return h.a.Counters().OpenClients == 2 })
	h.client().wantEnd()
	h.client().wantEnd()
	for _, c := range []*peer{one, two} {
		c.send("TASK|t1|1,2\n")
		c.want("RESULT|t1|3\n")
	}
	h.worker("worker_1").obey(textSum) // the other port has a count of its own
	_ = one.Close()
	until(t, "room", func() bool { return h.a.Counters().OpenClients == 1 })
	three := h.client()
	three.send("TASK|t1|1,2\n")
	three.want("RESULT|t1|3\n")
	h.counts(func(n Counters) bool { return n.Refused == 2 })
	if n := strings.Count(h.log.String(), "too many connections"); n != 1 {
		t.Errorf("the limit was logged %d times", n)
	}
}
