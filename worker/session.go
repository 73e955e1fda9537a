package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/wire"
)

// session is one registered stream. Three goroutines drive it: one receives and
// hands out tasks, one watches the time, one sends.
type session struct {
	ctx    context.Context // the stream's
	cancel context.CancelCauseFunc
	stream grpc.BidiStreamingClient[pb.WorkRequest, pb.WorkResponse]
	pool   *pool
	log    *slog.Logger
	limits limits
	// interval is the longest silence that either side keeps.
	interval time.Duration
	started  time.Time  // when it was registered
	ended    chan error // why the receiver has ended

	// What the writer is asked to send.
	heartbeat, drain atomic.Bool
	// finishing is set when the balancer assigns no more: the writer closes this
	// side when nothing is held.
	finishing atomic.Bool
	// closed is closed when the writer has closed this side.
	closed   chan struct{}
	lastSent atomic.Int64 // nanoseconds since started

	// heard is when the balancer was last listened to, in nanoseconds since started;
	// busy is set while what it said is being done.
	heard atomic.Int64
	busy  atomic.Bool
	late  bool // the watch has found it silent, and looks once more

	leave          func() // ends the Run in good order
	reconnectAfter time.Duration
}

// ending is how a session ended.
type ending struct {
	// registered says that the balancer had accepted it.
	registered bool
	// drained says that all was answered and both sides knew of the end.
	drained bool
	// reconnectAfter is when to come back, as the balancer wishes.
	reconnectAfter time.Duration
	lasted         time.Duration
	err            error
}

// session dials, registers, and works until the stream ends. Until openBy, if
// set, it must be registered.
func (r *runner) session(ctx, base context.Context, openBy time.Time) ending {
	s := &session{
		pool: r.pool, log: r.log,
		ended: make(chan error, 1), closed: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancelCause(base)
	defer s.cancel(nil)
	first, err := r.open(ctx, s, openBy)
	if err != nil {
		return ending{err: err}
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.ended <- s.receive(first) })
	wg.Go(s.send)
	drained, err := s.watch(ctx)
	s.cancel(nil)
	wg.Wait()
	return ending{
		registered: true, drained: drained, err: err,
		lasted: time.Since(s.started), reconnectAfter: s.reconnectAfter,
	}
}

// open brings the session to its registration, and returns the frame that
// accepted it.
func (r *runner) open(ctx context.Context, s *session, openBy time.Time) (*pb.WorkResponse, error) {
	limit := registrationTimeout
	if !openBy.IsZero() {
		limit = min(limit, time.Until(openBy))
	}
	timer := time.AfterFunc(limit, func() { s.cancel(fmt.Errorf("not registered after %v", limit)) })
	defer timer.Stop()
	first, err := r.register(ctx, s)
	if err == nil && !timer.Stop() {
		<-s.ctx.Done()
		err = s.ctx.Err()
	}
	if err == nil && first.GetAck() == nil {
		err = errors.New("the balancer's first frame has no ack")
	}
	if err != nil {
		return nil, s.why(err)
	}
	ack := first.GetAck()
	s.limits = limitsOf(ack.GetLimits())
	r.maxMessage = orDefault(ack.GetLimits().GetMaxMessageBytes(), defaultMaxMessage)
	s.interval = defaultHeartbeat
	if ms := ack.GetHeartbeatIntervalMs(); ms > 0 {
		s.interval = time.Duration(min(ms, math.MaxInt64/silentAfter/int64(time.Millisecond))) * time.Millisecond
	}
	s.started = time.Now()
	r.pool.registered(ack.GetAcknowledgesResults())
	s.leave = r.leave
	r.registered(ack)
	return first, nil
}

// dial opens the stream. When ctx ends meanwhile, it fails: whether there is
// reason to dial at all is then another question.
func (r *runner) dial(ctx context.Context, s *session) (err error) {
	if ctx.Err() == nil {
		stop := context.AfterFunc(ctx, func() { s.cancel(errStopping) })
		defer func() {
			if !stop() && err == nil {
				<-s.ctx.Done()
				err = s.ctx.Err()
			}
		}()
	}
	s.stream, err = pb.NewWorkerServiceClient(r.conn).Work(s.ctx, grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.ForceCodecV2(wire.Codec{}))
	return err
}

// register dials, sends the registration and waits for the answer.
func (r *runner) register(ctx context.Context, s *session) (*pb.WorkResponse, error) {
	if err := r.dial(ctx, s); err != nil {
		return nil, err
	}
	r.log.Info("connected", "address", r.address)
	slots := r.pool.capacity
	claims, running, left := r.pool.claims(max(r.maxMessage-registerBytes, r.maxMessage/2))
	if left > 0 {
		r.log.Warn("too many tasks still run to list them all; those left out count as lost", "left_out", left)
	}
	if ctx.Err() != nil { // nothing new, please
		slots = max(1, running)
	}
	r.log.Debug("registering")
	err := s.stream.Send(&pb.WorkRequest{Register: &pb.Register{
		WorkerId: r.opt.ID, Functions: r.functions, Slots: int32(slots),
		Labels: r.opt.Labels, Build: r.opt.Build, Running: claims,
	}})
	if err != nil && err != io.EOF { // with EOF, Recv knows more
		return nil, err
	}
	return s.stream.Recv()
}

func (r *runner) registered(ack *pb.Ack) {
	id := ack.GetWorkerId()
	if id == "" {
		id = r.opt.ID
	}
	r.log.Info("registered", "session_id", ack.GetSessionId(), "server_id", ack.GetServerId(), "slots", r.pool.capacity)
	if r.opt.OnRegistered != nil {
		r.opt.OnRegistered(Registration{
			WorkerID: id, SessionID: ack.GetSessionId(), ServerID: ack.GetServerId(), Address: r.address,
		})
	}
	r.log.Debug("ready")
}

// why prefers the reason that this side had for ending the stream to what the
// stream says of it.
func (s *session) why(err error) error {
	if s.ctx.Err() != nil {
		if cause := context.Cause(s.ctx); cause != context.Canceled {
			return cause
		}
	}
	if err == io.EOF {
		return errors.New("the balancer ended the stream")
	}
	return err
}

// receive hands out what comes in, until the stream ends. It does so itself, and
// passes nothing on to another goroutine, whose waking costs more than most tasks.
func (s *session) receive(frame *pb.WorkResponse) error {
	for {
		s.busy.Store(true)
		err := s.handle(frame)
		s.heard.Store(int64(time.Since(s.started)))
		s.busy.Store(false)
		if err != nil {
			return err
		}
		letGo(frame)
		if err = s.stream.RecvMsg(frame); err != nil { // wire.Codec uses its messages again
			return s.why(err)
		}
	}
}

// letGo drops what a frame held that may be large: it is kept for the next.
func letGo(frame *pb.WorkResponse) {
	for _, t := range frame.AssignTasks {
		t.Payload, t.Metadata = nil, nil
	}
}

// watch asks for heartbeats as long as tasks are handed out, so that a heartbeat
// proves that they are. It returns when the stream has ended or must end.
func (s *session) watch(ctx context.Context) (drained bool, err error) {
	tick := time.NewTimer(s.interval)
	defer tick.Stop()
	leaving, closed := ctx.Done(), s.closed
	var closeBy <-chan time.Time
	for {
		select {
		case err := <-s.ended:
			return s.isClosed(), err
		case <-leaving:
			leaving = nil
			s.drain.Store(true)
			s.pool.signal()
		case <-closed:
			closed = nil
			closeBy = time.After(closeTimeout)
		case <-closeBy: // it is the balancer's turn, but nothing depends on it
			return true, nil
		case <-tick.C:
			next, err := s.beat()
			if err != nil {
				return s.isClosed(), err
			}
			tick.Reset(next)
		case <-s.ctx.Done():
			return false, s.why(s.ctx.Err())
		}
	}
}

func (s *session) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// beat looks after both sides' silence, and says when to look again.
func (s *session) beat() (time.Duration, error) {
	if s.busy.Load() { // stuck, perhaps: then nobody shall think that tasks are handed out
		return s.interval / 8, nil
	}
	now := time.Since(s.started)
	silent := now - time.Duration(s.heard.Load())
	switch {
	case silent < silentAfter*s.interval:
		s.late = false
	case !s.late: // this side may have been late: what waits to be read was said in time
		s.late = true
		return s.interval / 8, nil
	default:
		return 0, fmt.Errorf("nothing was heard of the balancer for %v", silent.Round(time.Millisecond))
	}
	quiet := now - time.Duration(s.lastSent.Load())
	if quiet >= s.interval {
		s.heartbeat.Store(true)
		s.pool.signal()
		quiet = 0
	}
	return min(s.interval-quiet, silentAfter*s.interval-silent), nil
}

// handle does what the balancer says in a frame.
func (s *session) handle(f *pb.WorkResponse) error {
	if s.log.Enabled(s.ctx, slog.LevelDebug) {
		for _, t := range f.GetAssignTasks() {
			s.log.Debug("task received", "task_id", t.GetTaskId(), "function", t.GetFunction(), "attempt", t.GetAttempt(),
				"payload", cut(string(t.GetPayload()), maxLoggedPayload))
		}
	}
	if tasks := f.GetAssignTasks(); len(tasks) > 0 {
		if err := s.pool.add(tasks); err != nil {
			return err
		}
	}
	if tokens := f.GetAckedTokens(); len(tokens) > 0 {
		s.pool.acked(tokens)
	}
	for _, c := range f.GetCancelTasks() {
		s.pool.cancel(c.GetToken(), c.GetReason())
	}
	if d := f.GetDrain(); d != nil {
		s.reconnectAfter = time.Duration(min(max(d.GetReconnectAfterMs(), 0), maxReconnectAfter.Milliseconds())) * time.Millisecond
		if d.GetLeave() {
			s.log.Info("asked to leave by the balancer")
			s.leave()
		}
		s.finishing.Store(true)
		s.pool.signal()
	}
	return nil
}
