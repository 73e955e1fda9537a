package rpc

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	authmw "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/auth"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/auth"
)

// guard lets in whom the directory knows, to what it may do, and ends calls that
// last when that changes. Where there is none, everybody may do everything, as
// nobody in particular.
type guard struct {
	who *auth.Directory
	// local is the principal of connections within the process; empty: they show
	// who they are like all others.
	local string
	// recheck is how often it is looked whether what a caller has shown is still
	// good.
	recheck time.Duration

	mu      sync.Mutex
	lasting map[*caller]struct{} // calls that may go on for long
}

// caller is who makes a call.
type caller struct {
	shown auth.Credentials
	// seen is closed when what it was identified by is no longer in force.
	seen     <-chan struct{}
	unsure   atomic.Bool // the last look at it did not tell
	identity atomic.Pointer[auth.Identity]

	once   sync.Once
	lost   chan struct{} // closed when the call must end, after why is set
	why    error
	cancel context.CancelFunc // of a unary call that is watched
	// still is what else must hold for the call to go on; nil: nothing.
	still atomic.Pointer[func(*auth.Principal) error]
}

type callerKey struct{}

// callerOf returns nil where nobody is told apart.
func callerOf(ctx context.Context) *caller {
	c, _ := ctx.Value(callerKey{}).(*caller)
	return c
}

func (c *caller) principal() *auth.Principal { return c.identity.Load().Principal }

// owner is the name under which the caller's tasks are known.
func (c *caller) owner() string {
	if c == nil {
		return ""
	}
	return c.principal().Name
}

// maySubmit refuses tasks for a function that are not the caller's to submit.
func (c *caller) maySubmit(function string) error {
	if c == nil || c.principal().MaySubmit(function) {
		return nil
	}
	return denied("MAY_NOT_SUBMIT", c.principal(), "may not submit tasks for function "+function)
}

// mayWork refuses a worker that offers what it may not serve.
func mayWork(p *auth.Principal, functions []string) error {
	for _, f := range functions {
		if !p.MayWork(f) {
			return denied("MAY_NOT_WORK", p, "may not work for function "+f)
		}
	}
	return nil
}

// seesAll reports whether the caller may know of tasks that are not its own. To who
// may not they are as if they were not there.
func (c *caller) seesAll() bool { return c == nil || c.principal().Administers() }

func denied(reason string, p *auth.Principal, what string) error {
	return &refusal{
		code: codes.PermissionDenied, reason: reason, message: "principal " + p.Name + " " + what,
		metadata: map[string]string{"principal": p.Name},
	}
}

// require makes the call end when the condition no longer holds, and tells whether
// it does now.
func (c *caller) require(holds func(*auth.Principal) error) error {
	if c == nil {
		return nil
	}
	c.still.Store(&holds)
	return holds(c.principal())
}

func (c *caller) end(why error) {
	c.once.Do(func() {
		c.why = why
		close(c.lost)
		if c.cancel != nil {
			c.cancel()
		}
	})
}

// rightTo is what a call to a method takes; what is not named takes the right to
// administer.
var rightTo = map[string]func(*auth.Principal) error{
	pb.TaskService_Submit_FullMethodName:         submits,
	pb.TaskService_SubmitStream_FullMethodName:   submits,
	pb.TaskService_Enqueue_FullMethodName:        submits,
	pb.TaskService_GetTask_FullMethodName:        asks,
	pb.TaskService_WaitTask_FullMethodName:       asks,
	pb.TaskService_ListTasks_FullMethodName:      asks,
	pb.TaskService_CancelTask_FullMethodName:     asks,
	pb.TaskService_RetryTask_FullMethodName:      asks,
	pb.TaskService_ExplainTask_FullMethodName:    asks,
	pb.WorkerService_Work_FullMethodName:         works,
	pb.AdminService_GetServerInfo_FullMethodName: anybody,

	pb.AdminService_ReportTextPeers_FullMethodName: adapts,

	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      anybody,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": anybody,
}

func anybody(*auth.Principal) error { return nil }

func submits(p *auth.Principal) error {
	if p.MaySubmitAny() {
		return nil
	}
	return denied("MAY_NOT_SUBMIT", p, "may not submit tasks for any function")
}

func asks(p *auth.Principal) error {
	if p.Administers() {
		return nil
	}
	return submits(p)
}

func works(p *auth.Principal) error {
	if p.MayWorkAny() {
		return nil
	}
	return denied("MAY_NOT_WORK", p, "may not work for any function")
}

// adapts is the right of a text adapter: it submits what text clients ask, or works
// as text workers do.
func adapts(p *auth.Principal) error {
	if p.MaySubmitAny() || p.MayWorkAny() {
		return nil
	}
	return denied("MAY_NOT_REPORT", p, "may neither submit nor work, so it has no text peers to report")
}

func administers(p *auth.Principal) error {
	if p.Administers() {
		return nil
	}
	return denied("MAY_NOT_ADMINISTER", p, "may not administer the balancer")
}

// openToAll reports what anybody may ask without saying who they are: load balancers and
// orchestrators look after the health.
func openToAll(method string) bool { return strings.HasPrefix(method, "/grpc.health.v1.Health/") }

// authenticate is the auth function of the middleware.
func (g *guard) authenticate(ctx context.Context) (context.Context, error) {
	method, _ := grpc.Method(ctx)
	if openToAll(method) {
		return ctx, nil
	}
	c := &caller{shown: g.shown(ctx), seen: g.who.Changed(), lost: make(chan struct{})}
	who, err := g.who.Identify(ctx, c.shown)
	if err != nil {
		return nil, unauthenticated(err)
	}
	right := rightTo[method]
	if right == nil {
		right = administers
	}
	if err := right(who.Principal); err != nil {
		return nil, err
	}
	c.identity.Store(&who)
	return context.WithValue(ctx, callerKey{}, c), nil
}

// shown are the credentials that came with a call.
func (g *guard) shown(ctx context.Context) (c auth.Credentials) {
	p, ok := peer.FromContext(ctx)
	if ok && g.local != "" && p.Addr.Network() == "bufconn" {
		return auth.Credentials{Local: g.local}
	}
	if token, err := authmw.AuthFromMD(ctx, "bearer"); err == nil {
		c.Token = token
	}
	if !ok {
		return c
	}
	if info, secure := p.AuthInfo.(credentials.TLSInfo); secure && len(info.State.VerifiedChains) > 0 {
		c.Certificate = info.State.VerifiedChains[0][0]
	}
	return c
}

// unauthenticated is the error of a call by nobody that is known.
func unauthenticated(err error) error {
	e, told := errors.AsType[*auth.Error](err)
	switch {
	case !told:
		return status.FromContextError(err).Err()
	case e.Reason == auth.IssuerUnreachable:
		return &refusal{code: codes.Unavailable, reason: e.Reason, message: e.Message, retryAfter: retryHint}
	}
	return &refusal{code: codes.Unauthenticated, reason: e.Reason, message: e.Message}
}

// unary watches over calls that may last; the others are over before anything can
// change.
func (g *guard) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	c := callerOf(ctx)
	if c == nil || info.FullMethod != pb.TaskService_Submit_FullMethodName && info.FullMethod != pb.TaskService_WaitTask_FullMethodName {
		return handler(ctx, req)
	}
	watched, cancel := context.WithCancel(ctx)
	defer cancel()
	c.cancel = cancel
	if err := c.require(rightTo[info.FullMethod]); err != nil {
		return nil, err
	}
	defer g.watch(c)()
	resp, err := handler(watched, req)
	select {
	case <-c.lost:
		return nil, c.why
	default:
	}
	return resp, err
}

// stream runs the handler of a stream beside, so that the stream can be ended
// while the handler waits for its peer: returning from here unblocks it, and
// lifecycle waits for it.
func (g *guard) stream(events *lifecycle) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		c := callerOf(ss.Context())
		if c == nil {
			return handler(srv, ss)
		}
		if right := rightTo[info.FullMethod]; right != nil {
			if err := c.require(right); err != nil {
				return err
			}
		}
		defer g.watch(c)()
		ended := make(chan error, 1)
		events.run(ss.Context(), ended, func() error { return handler(srv, ss) })
		select {
		case err := <-ended:
			return err
		case <-c.lost:
			return c.why
		}
	}
}

// watch puts a call among those that are looked at again.
func (g *guard) watch(c *caller) (done func()) {
	g.mu.Lock()
	g.lasting[c] = struct{}{}
	g.mu.Unlock()
	select {
	case <-c.seen: // the look that followed may have missed it
		c.unsure.Store(true)
	default:
	}
	return func() {
		g.mu.Lock()
		delete(g.lasting, c)
		g.mu.Unlock()
	}
}

// run looks at all lasting calls when the directory changes, and every recheck at
// those whose credentials have expired or of which the last look told nothing,
// until ctx ends.
func (g *guard) run(ctx context.Context, changed func()) {
	tick := time.NewTicker(g.recheck)
	defer tick.Stop()
	for {
		next := g.who.Changed()
		changed()
		g.lookAgain(ctx, func(*caller) bool { return true })
		for waiting := true; waiting; {
			select {
			case <-next:
				waiting = false
			case <-tick.C:
				g.lookAgain(ctx, due)
			case <-ctx.Done():
				return
			}
		}
	}
}

// due reports whether a look every now and then is for the caller.
func due(c *caller) bool {
	expires := c.identity.Load().Expires
	return c.unsure.Load() || !expires.IsZero() && !time.Now().Before(expires)
}

// lookAgain ends those of the calls whose callers are no longer who they were or may
// no longer do what they do.
func (g *guard) lookAgain(ctx context.Context, which func(*caller) bool) {
	var some []*caller
	g.mu.Lock()
	for c := range g.lasting {
		if which(c) {
			some = append(some, c)
		}
	}
	g.mu.Unlock()
	// An issuer that must be asked can't hold up the others.
	ctx, cancel := context.WithTimeout(ctx, g.recheck)
	defer cancel()
	for _, c := range some {
		if err := g.lookAt(ctx, c); err != nil {
			c.end(err)
		}
	}
}

// lookAt returns why a call must end, if it must.
func (g *guard) lookAt(ctx context.Context, c *caller) error {
	who, err := g.who.Identify(ctx, c.shown)
	if e, told := errors.AsType[*auth.Error](err); told && e.Reason != auth.IssuerUnreachable {
		return unauthenticated(err)
	}
	c.unsure.Store(err != nil)
	if err != nil {
		return nil // it goes on as it was until its issuer can be asked
	}
	if who.Principal.Name != c.owner() {
		return &refusal{
			code: codes.Unauthenticated, reason: auth.UnknownPrincipal,
			message: "these credentials are another principal's now: " + who.Principal.Name + ", and were " + c.owner() + "'s; dial again",
		}
	}
	c.identity.Store(&who)
	if still := c.still.Load(); still != nil {
		return (*still)(who.Principal)
	}
	return nil
}

// interceptors are the guard's, in the order in which they are to be put behind
// those that recover and log.
func (g *guard) interceptors(events *lifecycle) ([]grpc.UnaryServerInterceptor, []grpc.StreamServerInterceptor) {
	return []grpc.UnaryServerInterceptor{authmw.UnaryServerInterceptor(g.authenticate), g.unary},
		[]grpc.StreamServerInterceptor{authmw.StreamServerInterceptor(g.authenticate), g.stream(events)}
}
