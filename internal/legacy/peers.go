package legacy

import (
	"container/list"
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"reparto/client"
)

// peerTable knows which addresses speak the text protocol, as clients and as
// workers apart, at most max of them: beyond that the one not seen for longest
// goes, and those with open connections last. Its methods may be called
// concurrently; what is done for each task is one addition to its entry.
type peerTable struct {
	max int
	now func() time.Time

	mu      sync.Mutex
	entries map[peerKey]*peerEntry
	idle    list.List // of those without a connection, the one not seen for longest first
}

type peerKey struct {
	kind    client.TextPeerKind
	address netip.Addr
}

// peerEntry is one address. Its connections share it.
type peerEntry struct {
	key   peerKey
	port  string
	tasks atomic.Int64 // since the entry was made

	// The table's lock guards the rest.
	connections int
	first, seen time.Time
	told        int64         // tasks when it was last looked at
	idle        *list.Element // nil with an open connection
}

func newPeerTable(most int) *peerTable {
	return &peerTable{max: most, now: time.Now, entries: map[peerKey]*peerEntry{}}
}

// enter counts a connection to a port in; leave must follow. The entry counts its
// tasks.
func (t *peerTable) enter(kind client.TextPeerKind, remote, port net.Addr) *peerEntry {
	key := peerKey{kind, addressOf(remote)}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	e := t.entries[key]
	if e == nil {
		if len(t.entries) >= t.max {
			t.forget(now)
		}
		e = &peerEntry{key: key, first: now}
		t.entries[key] = e
	}
	if e.idle != nil {
		t.idle.Remove(e.idle)
		e.idle = nil
	}
	e.connections++
	e.seen, e.port = now, port.String()
	return e
}

// leave counts a connection out: that it ends is the last that is seen of it.
func (t *peerTable) leave(e *peerEntry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.connections--
	e.seen = t.now()
	if e.connections == 0 && t.entries[e.key] == e {
		e.idle = t.idle.PushBack(e)
	}
}

// forget makes room for one.
func (t *peerTable) forget(now time.Time) {
	if front := t.idle.Front(); front != nil {
		delete(t.entries, t.idle.Remove(front).(*peerEntry).key)
		return
	}
	var oldest *peerEntry
	for _, e := range t.entries {
		t.look(e, now)
		if oldest == nil || e.seen.Before(oldest.seen) {
			oldest = e
		}
	}
	delete(t.entries, oldest.key)
}

// look notices whether an address did anything since the last look. Tasks leave no
// time behind, which would cost more than to count them.
func (t *peerTable) look(e *peerEntry, now time.Time) {
	if tasks := e.tasks.Load(); tasks != e.told {
		e.told, e.seen = tasks, now
	}
}

// peers is all that is known, in no order.
func (t *peerTable) peers() []client.TextPeer {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	all := make([]client.TextPeer, 0, len(t.entries))
	for _, e := range t.entries {
		if e.connections > 0 {
			t.look(e, now)
		}
		all = append(all, client.TextPeer{
			Kind: e.key.kind, Address: e.key.address.String(), Port: e.port, Connections: min(e.connections, math.MaxInt32),
			FirstSeen: now.Sub(e.first), LastSeen: now.Sub(e.seen), Tasks: e.tasks.Load(),
		})
	}
	return all
}

// addressOf is where a peer is, without its port, and an IPv4 address as such.
func addressOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	p, _ := netip.ParseAddrPort(a.String()) // the zero address when it has none: only tests do
	return p.Addr().Unmap()
}
