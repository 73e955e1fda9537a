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

// localCall is one task, and waits for it.
type localCall struct {
	l     *Local
	batch [1]dispatch.Submission
	done  func(*pb.StreamOutcome)
	held  *callQuotas
	size  int

	mu   sync.Mutex
	over bool
	stop func() bool // the watch for the end of the caller's context
}

// Submit hands over a task as SubmitStream does with a frame of one, and returns. An id
// that it has must be new: its outcome is not kept for who repeats it.
// done is called exactly once with its outcome, perhaps before Submit returns and
// under a lock: it must neither block nor call the Local. When ctx ends first, the
// task is cancelled and done gets nil.
func (l *Local) Submit(ctx context.Context, t *pb.StreamTask, done func(*pb.StreamOutcome)) {
	c := &localCall{l: l, done: done, size: len(t.Payload)}
	if err := c.take(t); err != nil {
		l.s.refused.task(ctx, err, 1)
		done(l.s.tasks.outcome(&answer{id: t.TaskId, err: err}))
		return
	}
	l.s.tasks.tasks.Submit(c, c.batch[:])
	if err := c.batch[0].Err; err != nil {
		c.end()
		err = refuse(err)
		l.s.refused.task(ctx, err, 1)
		done(l.s.tasks.outcome(&answer{id: c.batch[0].Task.ID, err: err}))
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.stop = context.AfterFunc(ctx, c.abandon)
	}
}

// take checks a task, and counts it among what its caller has.
func (c *localCall) take(t *pb.StreamTask) error {
	l, now, to := c.l, time.Now(), &c.batch[0].Task
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
		err = held.hold(c.size)
	}
	if err != nil && held != nil {
		l.s.quotas.leave(held)
		return err
	}
	c.held = held
	l.s.tasks.log.received(l.base, to)
	return err
}

// end gives back what take has counted.
func (c *localCall) end() {
	if c.held != nil {
		c.held.letGo(1, c.size)
		c.l.s.quotas.leave(c.held)
	}
}

// finish reports whether the call was not over yet. It is from then on.
func (c *localCall) finish() bool {
	c.mu.Lock()
	was, stop := c.over, c.stop
	c.over = true
	c.mu.Unlock()
	if was {
		return false
	}
	if stop != nil {
		stop()
	}
	c.end()
	return true
}

// Done implements dispatch.Waiter.
func (c *localCall) Done(finished []dispatch.Finished) {
	if c.finish() {
		c.done(c.l.s.tasks.outcome(&answer{id: finished[0].TaskID, o: finished[0].Outcome}))
	}
}

func (c *localCall) abandon() {
	if c.finish() {
		c.l.s.tasks.tasks.Abandon(c, c.batch[0].Ticket)
		c.done(nil)
	}
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
