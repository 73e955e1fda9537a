package legacy

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"reparto/client"
)

// clock is the time of a table under test.
type clock struct{ now time.Time }

func (c *clock) pass(d time.Duration) { c.now = c.now.Add(d) }

func newTable(most int) (*peerTable, *clock) {
	c := &clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	t := newPeerTable(most)
	t.now = func() time.Time { return c.now }
	return t, c
}

var tablePort = &net.TCPAddr{IP: net.IPv4zero, Port: 8888}

// from lets a client connect from an address, each time from another port.
func (t *peerTable) from(address string) *peerEntry {
	return t.enter(client.TextClient, &net.TCPAddr{IP: net.ParseIP(address), Port: 1000 + len(t.entries)}, tablePort)
}

// shown is what a table knows, a line for each peer.
func shown(t *peerTable) string {
	var lines []string
	for _, p := range t.peers() {
		lines = append(lines, fmt.Sprintf("%s %s at %s: %d open, %d tasks, since %v, seen %v", p.Kind, p.Address, p.Port, p.Connections, p.Tasks, p.FirstSeen, p.LastSeen))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestATableOfPeers(t *testing.T) {
	p, now := newTable(10)
	one, again := p.from("10.0.0.1"), p.from("::ffff:10.0.0.1") // the same in the form of a listener for both kinds of IP
	w := p.enter(client.TextWorker, &net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}, &net.TCPAddr{IP: net.IPv6zero, Port: 8889})
	now.pass(time.Second)
	one.tasks.Add(2)
	again.tasks.Add(1)
	now.pass(time.Second)
	const busy = "client 10.0.0.1 at 0.0.0.0:8888: %d open, 3 tasks, since %v, seen %v\nworker fe80::1%%eth0 at [::]:8889: %d open, 0 tasks, since %v, seen %v"
	if got, want := shown(p), fmt.Sprintf(busy, 2, "2s", "0s", 1, "2s", "2s"); got != want {
		t.Errorf("now\n%s\nwant\n%s", got, want)
	}
	now.pass(time.Minute)
	p.leave(one)
	now.pass(time.Second)
	if got, want := shown(p), fmt.Sprintf(busy, 1, "1m3s", "1s", 1, "1m3s", "1m3s"); got != want {
		t.Errorf("after one has left\n%s\nwant\n%s", got, want)
	}
	p.leave(again)
	p.leave(w)
	now.pass(time.Hour)
	if got, want := shown(p), fmt.Sprintf(busy, 0, "1h1m3s", "1h0m0s", 0, "1h1m3s", "1h0m0s"); got != want {
		t.Errorf("an hour after all have left\n%s\nwant\n%s", got, want)
	}
}

func TestATableOfPeersIsBounded(t *testing.T) {
	const most = 4
	p, now := newTable(most)
	var entries []*peerEntry
	for i := range most {
		entries = append(entries, p.from(fmt.Sprintf("10.0.0.%d", i)))
		now.pass(time.Second)
	}
	known := func() (got []string) {
		for _, peer := range p.peers() {
			got = append(got, strings.TrimPrefix(peer.Address, "10.0.0."))
		}
		slices.Sort(got)
		return got
	}
	is := func(what string, want ...string) {
		t.Helper()
		if got := known(); !slices.Equal(got, want) {
			t.Fatalf("%s: %v are known, want %v", what, got, want)
		}
	}
	is("as many as there is room for", "0", "1", "2", "3")
	for _, i := range []int{2, 1} { // the latter is seen last, and comes back
		p.leave(entries[i])
		now.pass(time.Second)
	}
	entries[2] = p.from("10.0.0.2")
	p.leave(entries[2])
	is("one came back", "0", "1", "2", "3")
	p.from("10.0.0.4") // of 1 and 2, without a connection, 1 was not seen for longer
	is("one more", "0", "2", "3", "4")
	p.from("10.0.0.5")
	is("and one more", "0", "3", "4", "5")
	// All have a connection. 0 is the oldest, but it is busy.
	now.pass(time.Second)
	entries[0].tasks.Add(1)
	p.from("10.0.0.6")
	is("one too many", "0", "4", "5", "6")
	// The end of a connection whose address was forgotten does no harm, and it
	// begins anew when it is back.
	p.leave(entries[3])
	is("a forgotten one left", "0", "4", "5", "6")
	entries[3].tasks.Add(7)
	p.leave(entries[0])
	back := p.from("10.0.0.3")
	is("it is back", "3", "4", "5", "6")
	if n := back.tasks.Load(); n != 0 || back.connections != 1 {
		t.Errorf("it came back with %d tasks and %d connections", n, back.connections)
	}
}

// Time goes on while the table is looked at, and nothing was seen after the look:
// the balancer would refuse that.
func TestABusyPeerWasNotSeenInTheFuture(t *testing.T) {
	p, now := newTable(10)
	p.now = func() time.Time { now.pass(time.Microsecond); return now.now }
	e := p.from("10.0.0.1")
	for range 3 {
		e.tasks.Add(1)
		if peer := p.peers()[0]; peer.LastSeen < 0 || peer.FirstSeen < peer.LastSeen {
			t.Errorf("%+v", peer)
		}
	}
}

func TestTenThousandPeersAreKept(t *testing.T) {
	o, err := Options{ClientAddress: "localhost:8888"}.validate()
	if err != nil {
		t.Fatal(err)
	}
	p, _ := newTable(o.MaxPeers)
	for i := range 10_001 {
		p.leave(p.from(fmt.Sprintf("10.0.%d.%d", i/256, i%256)))
		if i == 9_999 && len(p.peers()) != 10_000 {
			t.Fatalf("%d of 10,000 are kept", len(p.peers()))
		}
	}
	got := p.peers()
	if len(got) != 10_000 || slices.ContainsFunc(got, func(p client.TextPeer) bool { return p.Address == "10.0.0.0" }) {
		t.Errorf("%d are kept of one more, the first perhaps among them", len(got))
	}
}

// BenchmarkCountATask is what each task costs for its peer to be known.
func BenchmarkCountATask(b *testing.B) {
	p, _ := newTable(1)
	e := p.from("10.0.0.1")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			e.tasks.Add(1)
		}
	})
}

// BenchmarkConnect is what a connection costs from an address that is new while
// the table is full.
func BenchmarkConnect(b *testing.B) {
	for _, c := range []struct {
		name string
		open bool
	}{{"others idle", false}, {"others open", true}} {
		b.Run(c.name, func(b *testing.B) {
			p, _ := newTable(10_000)
			for i := range 10_000 {
				e := p.enter(client.TextClient, &net.TCPAddr{IP: net.IPv4(10, 1, byte(i>>8), byte(i))}, tablePort)
				if !c.open {
					p.leave(e)
				}
			}
			i := 0
			for b.Loop() {
				i++
				e := p.enter(client.TextClient, &net.TCPAddr{IP: net.IPv4(byte(11+i>>24), byte(i>>16), byte(i>>8), byte(i))}, tablePort)
				if !c.open {
					p.leave(e)
				}
			}
		})
	}
}
