package rpc

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc/peer"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/auth"
	"reparto/internal/dispatch"
	"reparto/internal/task"
)

// Local is the border for whoever is in the balancer's own process. What crosses it
// is checked as if it had come over the wire, and refused with the same words, but
// there is no wire: nothing is encoded, and no goroutine passes it on. Tasks and
// workers are those of Options.LocalPrincipal. All methods may be called
// concurrently, while the Server is not closed.
type Local struct {
	s *Server
	// base has the address that local calls come from.
	base context.Context
}

// localAddr is where local calls come from.
type localAddr struct{}

func (localAddr) Network() string { return "local" }
func (localAddr) String() string  { return "local" }

// Local returns the border for this process.
func (s *Server) Local() *Local {
	return &Local{s, peer.NewContext(context.Background(), &peer.Peer{Addr: localAddr{}})} // of no call
}

// caller tells who the local principal is at present, if that has the right.
func (l *Local) caller(right func(*auth.Principal) error) (*caller, error) {
	if l.s.opt.Auth == nil {
		return nil, nil
	}
	c := &caller{shown: auth.Credentials{Local: l.s.opt.LocalPrincipal}, seen: l.s.opt.Auth.Changed(), lost: make(chan struct{})}
	who, err := l.s.opt.Auth.Identify(l.base, c.shown)
	if err != nil {
		return nil, unauthenticated(err)
	}
	if err := right(who.Principal); err != nil {
		return nil, err
	}
	c.identity.Store(&who)
	return c, nil
}

// enter counts a call by the limits of its caller.
func (l *Local) enter(c *caller, stream bool) (*callQuotas, error) {
	ctx := l.base
	if c != nil {
		ctx = context.WithValue(ctx, callerKey{}, c)
	}
	return l.s.quotas.enter(ctx, stream)
}

// LocalClient is one of those who submit tasks by a Local.
type LocalClient struct {
	l     *Local
	ctx   context.Context
	stop  func() bool            // the watch for the end of ctx
	batch [1]dispatch.Submission // Submit's alone

	mu    sync.Mutex
	calls map[*localCall]struct{} // nil: ctx has ended
}

// localCall is one task, and waits for it.
type localCall struct {
	c    *LocalClient
	done func(*pb.StreamOutcome)
	held *callQuotas
	size int

	// Under c.mu:
	ticket dispatch.Ticket
	over   bool
}

// Client returns a client whose tasks are cancelled when ctx ends. Close it when it
// is not used any more.
func (l *Local) Client(ctx context.Context) *LocalClient {
	c := &LocalClient{l: l, ctx: ctx, calls: map[*localCall]struct{}{}}
	c.stop = context.AfterFunc(ctx, c.abandon)
	return c
}

// Close lets go of the context that Client was given. It is for a client that has all
// its outcomes, or whose context has ended.
func (c *LocalClient) Close() { c.stop() }

// Submit hands over a task as SubmitStream does with a frame of one, and returns. An id
// that it has must be new: its outcome is not kept for who repeats it. It keeps what t
// points to, but not t, and must not be called concurrently.
//
// done is called exactly once with the outcome, perhaps before Submit returns and
// under a lock: it must neither block nor call the Local. When the client's context
// ends first, the task is cancelled and done gets nil.
func (c *LocalClient) Submit(t *pb.StreamTask, done func(*pb.StreamOutcome)) {
	k := &localCall{c: c, done: done, size: len(t.Payload)}
	b := &c.batch[0]
	defer func() { *b = dispatch.Submission{} }()
	if err := k.take(&b.Task, t); err != nil {
		k.refuse(t.TaskId, err)
		return
	}
	c.l.s.tasks.tasks.Submit(k, c.batch[:])
	switch {
	case b.Err != nil:
		k.end()
		k.refuse(b.Task.ID, refuse(b.Err))
	case !c.enter(k, b.Ticket):
		k.abandon()
	}
}

// enter notes that there is a call to be abandoned when the client's context ends,
// or reports that it has.
func (c *LocalClient) enter(k *localCall, ticket dispatch.Ticket) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.over { // it has its outcome already
		return true
	}
	k.ticket, k.over = ticket, c.calls == nil
	if !k.over {
		c.calls[k] = struct{}{}
	}
	return !k.over
}

// abandon gives up all that the client has, and is to have.
func (c *LocalClient) abandon() {
	c.mu.Lock()
	calls := c.calls
	c.calls = nil
	for k := range calls {
		k.over = true
	}
	c.mu.Unlock()
	for k := range calls {
		k.abandon()
	}
}

// take checks a task, and counts it among what its caller has.
func (k *localCall) take(to *task.Task, t *pb.StreamTask) error {
	l, now := k.c.l, time.Now()
	to.FreshID = true // whoever hands it over has made the id, and will not come again
	if err := l.s.tasks.limits.task(to, now, t, t.Text, millis(t.TimeoutMs), millis(t.AttemptTimeoutMs)); err != nil {
		return err
	}
	who, err := l.caller(submits)
	if err != nil {
		return err
	}
	if err := who.maySubmit(to.Function); err != nil {
		return err
	}
	to.Owner = who.owner()
	held, err := l.enter(who, false)
	if err != nil {
		return err
	}
	if _, err = held.take(now, 1); err == nil {
		err = held.hold(k.size)
	}
	if err != nil && held != nil {
		l.s.quotas.leave(held)
		return err
	}
	k.held = held
	l.s.tasks.log.received(l.base, to)
	return err
}

// end gives back what take has counted.
func (k *localCall) end() {
	if k.held != nil {
		k.held.letGo(1, k.size)
		k.c.l.s.quotas.leave(k.held)
	}
}

func (k *localCall) refuse(id string, err error) {
	s := k.c.l.s
	s.refused.task(k.c.ctx, err, 1)
	k.done(s.tasks.outcome(&answer{id: id, err: err}))
}

// abandon cancels a task that has been given up.
func (k *localCall) abandon() {
	k.end()
	k.c.l.s.tasks.tasks.Abandon(k, k.ticket)
	k.done(nil)
}

// Done implements dispatch.Waiter.
func (k *localCall) Done(finished []dispatch.Finished) {
	c := k.c
	c.mu.Lock()
	was := k.over
	k.over = true
	delete(c.calls, k)
	c.mu.Unlock()
	if was {
		return
	}
	k.end()
	k.done(c.l.s.tasks.outcome(&answer{id: finished[0].TaskID, o: finished[0].Outcome}))
}

// Work registers a worker and calls serve with its session, which ends when serve
// returns. serve's context ends with ctx, and when the worker no longer may work,
// which is the error then. The error of a registration is a status.
func (l *Local) Work(ctx context.Context, r *pb.Register, serve func(context.Context, *dispatch.Session) error) error {
	err := l.work(ctx, r, serve)
	if _, refused := errors.AsType[*refusal](err); refused {
		return l.s.refused.call(ctx, err)
	}
	return err
}

func (l *Local) work(ctx context.Context, r *pb.Register, serve func(context.Context, *dispatch.Session) error) error {
	who, err := l.caller(works)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reg := registrationFromWire(r, localAddr{}.String())
	reg.Principal = who.owner()
	if who != nil {
		who.cancel = cancel
		functions := reg.Functions
		if err := who.require(func(p *auth.Principal) error { return mayWork(p, functions) }); err != nil {
			return err
		}
		defer l.s.guard.watch(who)()
	}
	held, err := l.enter(who, true)
	if err != nil {
		return err
	}
	if held != nil {
		defer l.s.quotas.leave(held)
	}
	ses, err := l.s.inside.Attach(reg)
	if err != nil {
		return refuse(err)
	}
	defer ses.Detach()
	err = serve(ctx, ses)
	if who != nil {
		select {
		case <-who.lost:
			return who.why
		default:
		}
	}
	return err
}
