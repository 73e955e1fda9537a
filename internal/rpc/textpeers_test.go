package rpc

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// epoch is when the tests of the table begin.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const week = 7 * 24 * time.Hour

// seen is a client with an open connection, seen just now.
func seen(address string, tasks int64) reportedPeer {
	return reportedPeer{textKey: textKey{textClient, netip.MustParseAddr(address)}, port: "0.0.0.0:8888", connections: 1, tasks: tasks}
}

// told makes a report that must be taken.
func told(t *testing.T, p *textPeers, at time.Duration, adapter, run string, peers ...reportedPeer) {
	t.Helper()
	if err := p.report(epoch.Add(at), &textReport{owner: "text", adapter: adapter, run: run, peers: peers}); err != nil {
		t.Fatal(err)
	}
}

// all is what is listed, by address; there must be so many.
func all(t *testing.T, p *textPeers, at time.Duration, n int) map[string]listedPeer {
	t.Helper()
	got := map[string]listedPeer{}
	for _, peer := range p.list(epoch.Add(at), textPlace{}, 1<<20) {
		got[peer.adapter+" "+peer.address.String()] = peer
	}
	if len(got) != n {
		t.Fatalf("%d peers are listed, want %d: %v", len(got), n, got)
	}
	return got
}

func TestTextCountsOutliveTheirAdapter(t *testing.T) {
	p := newTextPeers(week)
	told(t, p, 0, "a", "1", seen("10.0.0.1", 5), seen("10.0.0.2", 7))
	told(t, p, 10*time.Second, "a", "1", seen("10.0.0.1", 6), seen("10.0.0.2", 7)) // the same run: replaced
	told(t, p, 20*time.Second, "a", "2", seen("10.0.0.1", 9))                      // another: added, though it is more
	told(t, p, 30*time.Second, "a", "2", seen("10.0.0.1", 3))                      // less within a run: the adapter had forgotten it
	got := all(t, p, 30*time.Second, 2)
	if one := got["a 10.0.0.1"]; one.tasks != 6+9+3 || one.connections != 1 || one.first != 30*time.Second || one.last != 0 {
		t.Errorf("%+v, want 18 tasks, seen since 30 s", one)
	}
	if two := got["a 10.0.0.2"]; two.tasks != 7 || two.connections != 0 || two.last != 20*time.Second {
		t.Errorf("%+v, want 7 tasks and no connection any more", two)
	}
	want := TextPeerCounts{Clients: TextPeerCount{Open: 1, Tasks: 25}}
	if c := p.counts(epoch.Add(30 * time.Second)); c != want {
		t.Errorf("counts %+v, want %+v", c, want)
	}
}

func TestASilentTextAdapterHasNoConnections(t *testing.T) {
	p := newTextPeers(week)
	told(t, p, 0, "a", "1", seen("10.0.0.1", 5))
	if c := p.counts(epoch.Add(textAdapterSilent)); c.Clients.Open != 1 {
		t.Errorf("after a minute %+v", c)
	}
	after := textAdapterSilent + 1
	if c := p.counts(epoch.Add(after)); c.Clients != (TextPeerCount{Tasks: 5}) {
		t.Errorf("after more than a minute %+v", c)
	}
	if one := all(t, p, after, 1)["a 10.0.0.1"]; one.connections != 0 || one.last != after {
		t.Errorf("%+v", one)
	}
}

func TestTextPeersAreForgotten(t *testing.T) {
	p := newTextPeers(week)
	old := seen("10.0.0.1", 5)
	old.connections, old.first, old.last = 0, time.Hour, time.Hour
	told(t, p, 0, "a", "1", old, seen("10.0.0.2", 1))
	all(t, p, week-time.Hour, 2)
	told(t, p, week-time.Hour, "a", "1") // it is there, and has no news
	all(t, p, week-time.Hour+1, 1)
	// Its adapter goes on to tell of it: it stays out of the list, and what it did
	// is not counted again when it is back.
	old.first, old.last = week+1, week+1
	told(t, p, week-time.Hour+1, "a", "1", old)
	all(t, p, week-time.Hour+1, 1)
	back := old
	back.tasks, back.last = 6, 0
	for s := range 4 { // beyond the minute after which the table is swept
		told(t, p, week-time.Hour+time.Duration(s)*30*time.Second, "a", "1")
	}
	now := week - time.Hour + 2*time.Minute
	told(t, p, now, "a", "1", back)
	all(t, p, now, 2)
	if c := p.counts(epoch.Add(now)); c.Clients.Tasks != 7 {
		t.Errorf("%+v, want 7 tasks", c)
	}
	// An adapter of which nothing is left goes too.
	told(t, p, 3*week, "b", "1")
	if p.adapters["a"] != nil {
		t.Errorf("the adapter a is still there: %+v", p.adapters["a"])
	}
}

func TestTextPeersOfOneAdapterAreBounded(t *testing.T) {
	p := newTextPeers(week)
	var peers []reportedPeer
	for i := range maxTextPeers {
		peer := seen(fmt.Sprintf("10.0.%d.%d", i/256, i%256), 1)
		peer.connections, peer.last = 0, time.Duration(i)*time.Millisecond // the last not seen for longest
		peers = append(peers, peer)
	}
	stays := seen("10.9.9.9", 1) // its connection is open, though nothing came for an hour
	stays.last = time.Hour
	told(t, p, 0, "a", "1", append(peers[1:], stays)...)
	all(t, p, 0, maxTextPeers)
	told(t, p, 0, "a", "1", peers[0])
	got := all(t, p, 0, maxTextPeers)
	oldest := peers[maxTextPeers-1].address.String()
	if _, there := got["a "+oldest]; there {
		t.Errorf("%s, not seen for longest, is still there", oldest)
	}
	for _, want := range []string{"a 10.9.9.9", "a 10.0.0.0", "a " + peers[maxTextPeers-2].address.String()} {
		if _, there := got[want]; !there {
			t.Errorf("%s is gone", want)
		}
	}
	if c := p.counts(epoch); c.Clients.Tasks != maxTextPeers+1 {
		t.Errorf("%+v: what is forgotten was counted all the same", c)
	}
}

func TestTextAdaptersAreBounded(t *testing.T) {
	p := newTextPeers(week)
	for i := range maxTextAdapters {
		told(t, p, time.Duration(i)*time.Millisecond, fmt.Sprint(i), "1", seen("10.0.0.1", 1))
	}
	more := &textReport{owner: "text", adapter: "more", run: "1"}
	wants(t, p.report(epoch.Add(textAdapterSilent), more), refused{code: codes.ResourceExhausted, reason: "TEXT_ADAPTER_LIMIT", retry: true})
	told(t, p, textAdapterSilent+1, "more", "1") // now the first has been silent for longer than a minute
	if p.adapters["0"] != nil || p.adapters["1"] == nil || p.adapters["more"] == nil || len(p.adapters) != maxTextAdapters {
		t.Errorf("%d adapters; the first: %v", len(p.adapters), p.adapters["0"])
	}
}

func TestTwoTextAdaptersOfOneName(t *testing.T) {
	p := newTextPeers(week)
	told(t, p, 0, "a", "1", seen("10.0.0.1", 5))
	told(t, p, 0, "a", "2", seen("10.0.0.2", 5))
	first := &textReport{owner: "text", adapter: "a", run: "1", peers: []reportedPeer{seen("10.0.0.1", 6)}}
	wants(t, p.report(epoch, first), refused{code: codes.Aborted, reason: "TEXT_ADAPTER_REPLACED"})
	other := &textReport{owner: "other", adapter: "a", run: "3"}
	wants(t, p.report(epoch, other), refused{code: codes.PermissionDenied, reason: "TEXT_ADAPTER_TAKEN"})
	if c := p.counts(epoch); c.Clients != (TextPeerCount{Open: 1, Tasks: 10}) {
		t.Errorf("%+v: what was refused was counted", c)
	}
}

func TestTextPeersAreListedInPages(t *testing.T) {
	p := newTextPeers(week)
	worker := seen("10.0.0.9", 1)
	worker.kind = textWorker
	other := seen("10.0.0.1", 1)
	other.port = "0.0.0.0:7777"
	told(t, p, 0, "b", "1", seen("10.0.0.10", 1), seen("10.0.0.9", 1), worker)
	told(t, p, 0, "a", "1", worker, seen("10.0.0.9", 1), seen("fe80::1", 1), other)
	want := []string{
		"0.0.0.0:7777 10.0.0.1 a 0", "0.0.0.0:8888 10.0.0.9 a 0", "0.0.0.0:8888 10.0.0.9 a 1", "0.0.0.0:8888 10.0.0.9 b 0", "0.0.0.0:8888 10.0.0.9 b 1",
		"0.0.0.0:8888 10.0.0.10 b 0", "0.0.0.0:8888 fe80::1 a 0",
	}
	for limit := 1; limit <= len(want)+1; limit++ {
		var got []string
		var after textPlace
		for {
			page := p.list(epoch, after, limit)
			for _, peer := range page {
				got = append(got, fmt.Sprint(peer.port, " ", peer.address, " ", peer.adapter, " ", peer.kind))
				after = peer.textPlace
			}
			if len(page) < limit {
				break
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("pages of %d: %q, want %q", limit, got, want)
		}
	}
}

func TestTextCountsStayNumbers(t *testing.T) {
	p := newTextPeers(week)
	for run := range 3 {
		told(t, p, 0, "a", fmt.Sprint(run), seen("10.0.0.1", math.MaxInt64/2))
	}
	if one := all(t, p, 0, 1)["a 10.0.0.1"]; one.tasks != math.MaxInt64 || p.counts(epoch).Clients.Tasks != math.MaxInt64 {
		t.Errorf("%+v, %+v", one, p.counts(epoch))
	}
}
