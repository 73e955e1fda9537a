package rpc

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"

	"reparto/internal/auth"
)

// Limits bound what one principal, or one address, may do. 0 means no bound. Of an
// address, tasks are counted while the call that submitted them is open.
type Limits = auth.Limits

// quotas keep principals and addresses within their limits.
type quotas struct {
	principals bool // callers have principals
	limits     atomic.Pointer[usualLimits]

	mu       sync.Mutex
	by       map[quotaKey]*quota
	forgetAt int // how many of them make it worth a look which are of no use
}

// usualLimits hold where nobody has limits of his own. They are replaced, and not
// changed.
type usualLimits struct {
	principal, address Limits
	none               bool // nobody is told apart, and addresses have no limits
}

// quotaKey is whose quota it is: one of the two is set.
type quotaKey struct {
	principal string
	address   netip.Addr
}

// String names it in errors.
func (k quotaKey) String() string {
	if k.principal != "" {
		return "principal " + k.principal
	}
	return "address " + k.address.String()
}

// quota is what one of them has open, and how fast it was.
type quota struct {
	key     quotaKey
	users   int // calls that hold it
	streams int
	tasks   int            // submitted by calls that wait for them
	bytes   int            // in these
	conns   map[string]int // calls, by the peer's address and port
	rate    *rate.Limiter  // nil without a limit
}

func newQuotas(principals bool, principal, address Limits) *quotas {
	q := &quotas{principals: principals, by: map[quotaKey]*quota{}, forgetAt: manyQuotas}
	q.set(principal, address)
	return q
}

func (q *quotas) set(principal, address Limits) {
	q.limits.Store(&usualLimits{principal, address, !q.principals && address == (Limits{})})
}

// limitsOf are a principal's own limits, and the usual ones where it has none.
func limitsOf(p *auth.Principal, usual Limits) Limits {
	l, own := usual, p.Limits
	set := func(to *int, v int) {
		if v != 0 {
			*to = v
		}
	}
	set(&l.Connections, own.Connections)
	set(&l.Streams, own.Streams)
	set(&l.TasksInFlight, own.TasksInFlight)
	if own.TasksPerSecond != 0 {
		l.TasksPerSecond, l.Burst = own.TasksPerSecond, own.Burst
	}
	if own.QueuedBytes != 0 {
		l.QueuedBytes = own.QueuedBytes
	}
	return l
}

// share is what one call has of a quota, with the limits that hold for it.
type share struct {
	*quota
	limits Limits
	pace   *rate.Limiter // the quota's, when the call began; nil without a limit
}

// callQuotas are those that a call counts against: its principal's and its
// address's, as far as they have limits.
type callQuotas struct {
	all    *quotas
	remote string
	stream bool
	shares [2]share
	n      int
}

type quotaKeyOf struct{}

func quotasOf(ctx context.Context) *callQuotas {
	q, _ := ctx.Value(quotaKeyOf{}).(*callQuotas)
	return q
}

// enter counts a call, and as a stream if it is one; leave must follow. It returns
// nil when there is nothing to count.
func (q *quotas) enter(ctx context.Context, stream bool) (*callQuotas, error) {
	var own Limits
	usual := q.limits.Load()
	c := callerOf(ctx)
	if c != nil {
		own = limitsOf(c.principal(), usual.principal)
		own.TasksInFlight, own.QueuedBytes = 0, 0 // the inside counts what a principal has
	}
	ofPrincipal, ofAddress := counts(own, stream), counts(usual.address, stream)
	p, ok := peer.FromContext(ctx)
	if !ok || !ofPrincipal && !ofAddress {
		return nil, nil
	}
	held := &callQuotas{all: q, remote: p.Addr.String(), stream: stream}
	q.mu.Lock()
	defer q.mu.Unlock()
	if ofPrincipal {
		if err := q.join(held, quotaKey{principal: c.owner()}, own); err != nil {
			return nil, err
		}
	}
	if a, err := netip.ParseAddrPort(held.remote); err == nil && ofAddress {
		if err := q.join(held, quotaKey{address: a.Addr().Unmap()}, usual.address); err != nil {
			q.part(held)
			return nil, err
		}
	}
	return held, nil
}

// counts reports whether a call counts against any of the limits.
func counts(l Limits, stream bool) bool {
	return l.Connections > 0 || l.TasksPerSecond > 0 || l.TasksInFlight > 0 || l.QueuedBytes > 0 || stream && l.Streams > 0
}

// join adds a call to a quota. The caller holds q.mu.
func (q *quotas) join(held *callQuotas, key quotaKey, l Limits) error {
	remote, stream := held.remote, held.stream
	u := q.by[key]
	if u == nil {
		u = &quota{key: key, conns: map[string]int{}}
	}
	switch {
	case l.Connections > 0 && u.conns[remote] == 0 && len(u.conns) >= l.Connections:
		return overLimit(key, "CONNECTION_LIMIT", "connections at a time", l.Connections)
	case stream && l.Streams > 0 && u.streams >= l.Streams:
		return overLimit(key, "STREAM_LIMIT", "streams at a time", l.Streams)
	}
	if len(q.by) >= q.forgetAt && q.by[key] == nil {
		q.forget()
	}
	q.by[key] = u
	u.setPace(l)
	u.users++
	u.conns[remote]++
	if stream {
		u.streams++
	}
	held.shares[held.n] = share{u, l, u.rate}
	held.n++
	return nil
}

// manyQuotas is how many there may be before those are looked for that are of no
// use.
const manyQuotas = 1024

// forget drops the quotas of those who have nothing open and could bring as much at
// once as one who was never here. It looks at all, so the next time is when there
// are twice as many. The caller holds q.mu.
func (q *quotas) forget() {
	now := time.Now()
	for key, u := range q.by {
		if u.users == 0 && u.rate.TokensAt(now) >= float64(u.rate.Burst()) {
			delete(q.by, key)
		}
	}
	q.forgetAt = max(manyQuotas, 2*len(q.by))
}

// setPace puts a rate in force.
func (u *quota) setPace(l Limits) {
	if l.TasksPerSecond <= 0 {
		u.rate = nil
		return
	}
	burst := l.Burst
	if burst <= 0 {
		burst = max(int(l.TasksPerSecond), 1)
	}
	switch {
	case u.rate == nil:
		u.rate = rate.NewLimiter(rate.Limit(l.TasksPerSecond), burst)
	case u.rate.Limit() != rate.Limit(l.TasksPerSecond) || u.rate.Burst() != burst:
		u.rate.SetLimit(rate.Limit(l.TasksPerSecond))
		u.rate.SetBurst(burst)
	}
}

func (q *quotas) leave(held *callQuotas) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.part(held)
}

// part takes a call out of its quotas. The caller holds q.mu.
func (q *quotas) part(held *callQuotas) {
	remote := held.remote
	for _, s := range held.shares[:held.n] {
		s.users--
		if s.conns[remote]--; s.conns[remote] == 0 {
			delete(s.conns, remote)
		}
		if held.stream {
			s.streams--
		}
		if s.users == 0 && s.rate == nil {
			delete(q.by, s.key)
		}
	}
}

// take asks for n tasks. It returns how many may come now, and of the others, why
// not and when.
func (h *callQuotas) take(now time.Time, n int) (granted int, refused error) {
	if h == nil {
		return n, nil
	}
	for _, s := range h.shares[:h.n] {
		if s.pace == nil {
			continue
		}
		k := min(n, int(s.pace.TokensAt(now)))
		if k <= 0 || !s.pace.AllowN(now, k) {
			k = 0
		}
		if k < n {
			wait := time.Duration(float64(time.Second) / float64(s.pace.Limit()))
			refused = &refusal{
				code: codes.ResourceExhausted, reason: "RATE_LIMIT", retryAfter: max(wait, time.Millisecond),
				message: fmt.Sprintf("%s brings more than its %g tasks a second; slow down, or ask for more", s.key, s.limits.TasksPerSecond),
			}
			n = k
		}
	}
	return n, refused
}

// hold counts a task that was submitted, until letGo; an error says that there is
// no room for it.
func (h *callQuotas) hold(bytes int) error {
	if h == nil {
		return nil
	}
	h.all.mu.Lock()
	defer h.all.mu.Unlock()
	for _, s := range h.shares[:h.n] {
		switch l := s.limits; {
		case l.TasksInFlight > 0 && s.tasks >= l.TasksInFlight:
			return overLimit(s.key, "TASK_LIMIT", "tasks without an outcome", l.TasksInFlight)
		case l.QueuedBytes > 0 && int64(s.bytes+bytes) > l.QueuedBytes:
			return overLimit(s.key, "BYTE_LIMIT", "bytes in tasks without an outcome", int(l.QueuedBytes))
		}
	}
	h.count(1, bytes)
	return nil
}

func (h *callQuotas) letGo(tasks, bytes int) {
	if h == nil {
		return
	}
	h.all.mu.Lock()
	defer h.all.mu.Unlock()
	h.count(-tasks, -bytes)
}

// count adds to what is held. The caller holds h.all.mu.
func (h *callQuotas) count(tasks, bytes int) {
	for _, s := range h.shares[:h.n] {
		s.tasks += tasks
		s.bytes += bytes
	}
}

func overLimit(key quotaKey, reason, what string, most int) error {
	return &refusal{
		code: codes.ResourceExhausted, reason: reason, retryAfter: retryHint,
		message: fmt.Sprintf("%s may have %d %s; close some, or ask for more", key, most, what),
	}
}

// unary and stream are the quotas' interceptors; they come after the guard's.
func (q *quotas) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if q.limits.Load().none || openToAll(info.FullMethod) {
		return handler(ctx, req)
	}
	held, err := q.enter(ctx, false)
	if held == nil {
		if err != nil {
			return nil, err
		}
		return handler(ctx, req)
	}
	defer q.leave(held)
	return handler(context.WithValue(ctx, quotaKeyOf{}, held), req)
}

func (q *quotas) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	held, err := q.enter(ss.Context(), true)
	if held == nil {
		if err != nil {
			return err
		}
		return handler(srv, ss)
	}
	defer q.leave(held)
	wrapped := middleware.WrapServerStream(ss)
	wrapped.WrappedContext = context.WithValue(ss.Context(), quotaKeyOf{}, held)
	return handler(srv, wrapped)
}
