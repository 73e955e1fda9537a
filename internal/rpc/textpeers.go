package rpc

import (
	"cmp"
	"maps"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"
	"unique"

	"google.golang.org/grpc/codes"
)

const (
	maxTextAdapters = 100
	maxTextPeers    = 10_000 // of one adapter
	// maxTextRuns is how many former runs of an adapter are known as such.
	maxTextRuns = 8
	// textAdapterSilent is how long an adapter is not heard until it counts as
	// gone, and its connections with it. Adapters report every 30 s at the least.
	textAdapterSilent = time.Minute
)

// textKind is what a text peer does.
type textKind uint8

const (
	textClient textKind = iota
	textWorker
	textKinds
)

// TextPeerCounts sums up who speaks the text protocol through whichever adapter.
type TextPeerCounts struct {
	Clients, Workers TextPeerCount
}

// TextPeerCount is about text peers of one kind.
type TextPeerCount struct {
	// Open are the addresses with an open connection, at each adapter.
	Open int
	// Tasks are those that adapters have told of since the balancer started. It
	// never falls.
	Tasks int64
}

// textPeers remembers whom text adapters serve, as they tell it. It is in memory
// alone: after a restart of the balancer it holds what adapters report next, with
// counts since each adapter's start. Its methods may be called concurrently.
type textPeers struct {
	keep time.Duration // a peer not seen for longer is forgotten

	mu       sync.Mutex
	adapters map[string]*textAdapter
	tasks    [textKinds]int64 // in all; see TextPeerCount
	swept    time.Time
}

// textAdapter is one adapter, under its id.
type textAdapter struct {
	owner string // the principal that reports; an id belongs to its first one
	run   string
	runs  uint32 // numbers run
	past  []string
	heard time.Time
	peers map[textKey]textPeer
}

type textKey struct {
	kind    textKind
	address netip.Addr
}

// textPeer is small: there may be a million.
type textPeer struct {
	port        unique.Handle[string]
	run         uint32 // whose count tasks is
	connections int32
	before      int64 // tasks of former runs
	tasks       int64 // as last reported
	first, last int64 // Unix nanoseconds
}

func newTextPeers(keep time.Duration) *textPeers {
	return &textPeers{keep: keep, adapters: map[string]*textAdapter{}}
}

// textReport is what an adapter tells, checked.
type textReport struct {
	owner, adapter, run string
	peers               []reportedPeer
}

type reportedPeer struct {
	textKey
	port        string
	connections int32
	first, last time.Duration // ago
	tasks       int64         // since the run began
}

// report takes what an adapter tells; what it told before of other peers stays.
func (t *textPeers) report(now time.Time, r *textReport) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep(now)
	a, err := t.adapter(now, r)
	if err != nil {
		return err
	}
	a.heard = now
	for i := range r.peers {
		t.take(a, now, &r.peers[i])
	}
	a.trim()
	return nil
}

// adapter finds the one that reports, or makes room for it.
func (t *textPeers) adapter(now time.Time, r *textReport) (*textAdapter, error) {
	a := t.adapters[r.adapter]
	switch {
	case a == nil:
		if err := t.makeRoom(now); err != nil {
			return nil, err
		}
		a = &textAdapter{owner: r.owner, run: r.run, peers: map[textKey]textPeer{}}
		t.adapters[r.adapter] = a
	case a.owner != r.owner:
		return nil, &refusal{
			code: codes.PermissionDenied, reason: "TEXT_ADAPTER_TAKEN", metadata: map[string]string{"adapter_id": r.adapter},
			message: "the text adapter " + r.adapter + " is another principal's; give this one another id",
		}
	case slices.Contains(a.past, r.run):
		return nil, &refusal{
			code: codes.Aborted, reason: "TEXT_ADAPTER_REPLACED", metadata: map[string]string{"adapter_id": r.adapter},
			message: "another run of the text adapter " + r.adapter + " reports since; give each adapter an id of its own",
		}
	case a.run != r.run:
		a.past = append(a.past, a.run)
		a.past = a.past[max(0, len(a.past)-maxTextRuns):]
		a.run, a.runs = r.run, a.runs+1
		for key, p := range a.peers { // its connections ended with the former run
			p.connections = 0
			a.peers[key] = p
		}
	}
	return a, nil
}

// makeRoom forgets the adapter that has been silent for longest when there are too
// many. Those that report are left alone: to forget one would falsify its counts.
func (t *textPeers) makeRoom(now time.Time) error {
	if len(t.adapters) < maxTextAdapters {
		return nil
	}
	oldest := ""
	for id, a := range t.adapters {
		if oldest == "" || a.heard.Before(t.adapters[oldest].heard) {
			oldest = id
		}
	}
	if !t.adapters[oldest].silent(now) {
		return &refusal{
			code: codes.ResourceExhausted, reason: "TEXT_ADAPTER_LIMIT", retryAfter: textAdapterSilent,
			message: "100 text adapters report already, which is the most; one that is silent for a minute makes room",
		}
	}
	delete(t.adapters, oldest)
	return nil
}

func (a *textAdapter) silent(now time.Time) bool { return now.Sub(a.heard) > textAdapterSilent }

// take puts down what is told of one peer.
func (t *textPeers) take(a *textAdapter, now time.Time, r *reportedPeer) {
	p, known := a.peers[r.textKey]
	first, last := now.Add(-max(r.first, r.last)).UnixNano(), now.Add(-r.last).UnixNano()
	more := r.tasks
	switch {
	case !known:
		p.first, p.last = first, last
	case p.run == a.runs && r.tasks >= p.tasks:
		more -= p.tasks
	default: // the adapter was started again, or had forgotten it
		p.before = sum(p.before, p.tasks)
	}
	p.port, p.run, p.connections, p.tasks = unique.Make(r.port), a.runs, r.connections, r.tasks
	// What is told takes its time to get here, more or less: never as if it had
	// been seen later first, or sooner last.
	p.first, p.last = min(p.first, first), max(p.last, last)
	a.peers[r.textKey] = p
	t.tasks[r.kind] = sum(t.tasks[r.kind], more)
}

// sum stays at the largest number there is.
func sum(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// trim forgets those not seen for longest when there are too many, and those with
// open connections last.
func (a *textAdapter) trim() {
	over := len(a.peers) - maxTextPeers
	if over <= 0 {
		return
	}
	keys := slices.SortedFunc(maps.Keys(a.peers), func(x, y textKey) int {
		p, q := a.peers[x], a.peers[y]
		return cmp.Or(cmp.Compare(min(p.connections, 1), min(q.connections, 1)), cmp.Compare(p.last, q.last))
	})
	for _, key := range keys[:over] {
		delete(a.peers, key)
	}
}

// sweep lets go of what is forgotten, once a minute. The peers of an adapter that
// reports are left to it: it would tell of them again, as if they were new.
func (t *textPeers) sweep(now time.Time) {
	if now.Sub(t.swept) < time.Minute {
		return
	}
	t.swept = now
	for id, a := range t.adapters {
		if !a.silent(now) {
			continue
		}
		for key, p := range a.peers {
			if t.forgotten(now, p) {
				delete(a.peers, key)
			}
		}
		if len(a.peers) == 0 {
			delete(t.adapters, id)
		}
	}
}

func (t *textPeers) forgotten(now time.Time, p textPeer) bool {
	return p.last < now.Add(-t.keep).UnixNano()
}

// open is how many connections a peer has, as far as is known.
func (a *textAdapter) open(now time.Time, p textPeer) int32 {
	if a.silent(now) {
		return 0
	}
	return p.connections
}

// listedPeer is a peer as a listing has it.
type listedPeer struct {
	textPlace
	connections int32
	first, last time.Duration // ago
	tasks       int64
}

// textPlace is where a peer stands in a listing.
type textPlace struct {
	port    string
	address netip.Addr
	adapter string
	kind    textKind
}

func (p textPlace) compare(q textPlace) int {
	return cmp.Or(cmp.Compare(p.port, q.port), p.address.Compare(q.address), cmp.Compare(p.adapter, q.adapter), cmp.Compare(p.kind, q.kind))
}

// list returns the first peers after a place, in order.
func (t *textPeers) list(now time.Time, after textPlace, limit int) []listedPeer {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found []listedPeer
	shorten := func() {
		slices.SortFunc(found, func(p, q listedPeer) int { return p.compare(q.textPlace) })
		found = found[:min(len(found), limit)]
	}
	for id, a := range t.adapters {
		for key, p := range a.peers {
			place := textPlace{p.port.Value(), key.address, id, key.kind}
			if place.compare(after) <= 0 || t.forgotten(now, p) {
				continue
			}
			found = append(found, listedPeer{
				textPlace: place, connections: a.open(now, p), tasks: sum(p.before, p.tasks),
				first: now.Sub(time.Unix(0, p.first)), last: max(now.Sub(time.Unix(0, p.last)), 0),
			})
			if len(found) > 4*limit { // a page of a million peers needs no list of a million
				shorten()
			}
		}
	}
	shorten()
	return found
}

// counts sums them up.
func (t *textPeers) counts(now time.Time) TextPeerCounts {
	t.mu.Lock()
	defer t.mu.Unlock()
	var open [textKinds]int
	for _, a := range t.adapters {
		for key, p := range a.peers {
			if a.open(now, p) > 0 {
				open[key.kind]++
			}
		}
	}
	return TextPeerCounts{
		Clients: TextPeerCount{open[textClient], t.tasks[textClient]},
		Workers: TextPeerCount{open[textWorker], t.tasks[textWorker]},
	}
}
