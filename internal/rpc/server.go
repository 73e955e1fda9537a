// Package rpc is the gRPC border: it takes what crosses the wire, checks it,
// turns it into what the inside speaks, and back.
//
//	s := rpc.NewServer(dispatcher, rpc.Options{})
//	go s.Serve(listener)
//	…
//	s.Drain(ctx) // refuse what is new, finish what runs
//	s.Close()
package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"google.golang.org/grpc"
	channelz "google.golang.org/grpc/channelz/service"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/socket"
	"reparto/internal/wire"
)

// lifecycle is what streams share with the server that ends them.
type lifecycle struct {
	draining chan struct{} // closed when the server takes nothing new
	once     sync.Once
	streams  sync.WaitGroup // readers and writers
	log      *slog.Logger
}

// run starts a stream's reader or writer and tells how it ended. One that panics
// ends its stream, as a handler that panics ends its call, and nothing else.
func (l *lifecycle) run(ctx context.Context, ended chan<- error, f func() error) {
	l.streams.Go(func() {
		var err error
		defer func() {
			if p := recover(); p != nil {
				err = panicked(ctx, l.log, p)
			}
			ended <- err
		}()
		err = f()
	})
}

func panicked(ctx context.Context, log *slog.Logger, p any) error {
	log.ErrorContext(ctx, "a call panicked", "panic", p, "stack", string(debug.Stack()))
	return &refusal{code: codes.Internal, reason: "INTERNAL", message: bug}
}

// Server serves the three services, health and reflection.
type Server struct {
	grpc    *grpc.Server
	health  *health.Server
	inside  Inside
	events  lifecycle
	polls   polls
	text    *textPeers
	tasks   *taskService
	guard   *guard // nil where everybody may do everything
	opt     Options
	quotas  *quotas
	refused refusals
	owners  sync.Mutex         // whoever tells the inside of owners' limits
	unwatch context.CancelFunc // ends the guard's look-out
}

// Inside is what the border stands before: a dispatch.Dispatcher, or something
// that wraps one.
type Inside interface {
	Tasks
	Workers
	Views
	Keeper
	Kept
	Hand
	Owners
	Options() dispatch.Options
	Drain(ctx context.Context) error
}

// Owners is what the border wants of whoever bounds what one owner has.
type Owners interface {
	LimitOwners(usual dispatch.OwnerLimits, named map[string]dispatch.OwnerLimits)
}

// NewServer returns a Server that does not listen yet; Close must follow.
func NewServer(inside Inside, o Options) *Server {
	l := limits{inside.Options()}
	o = o.withDefaults(l.MaxPayload)
	s := &Server{inside: inside, health: health.NewServer(), opt: o, unwatch: func() {}, text: newTextPeers(o.TextPeersFor)}
	s.events.draining, s.events.log = make(chan struct{}), o.Log
	s.refused.log = o.Log
	s.grpc = grpc.NewServer(serverOptions(o, s.admission(l))...)
	log := newTaskLog(o.Log)
	s.tasks = &taskService{
		tasks: inside, keeper: inside, kept: inside, limits: l, opt: o, log: log, events: &s.events, polls: &s.polls, refused: &s.refused,
		serverID: inside.Info().ID,
	}
	pb.RegisterTaskServiceServer(s.grpc, s.tasks)
	pb.RegisterWorkerServiceServer(s.grpc, &workService{workers: inside, opt: o, log: log, events: &s.events, ack: &pb.Ack{
		HeartbeatIntervalMs: l.Heartbeat.Milliseconds(), ServerId: inside.Info().ID,
		Limits: &pb.WorkerLimits{
			MaxPayloadBytes: int64(l.MaxPayload), MaxMessageBytes: int64(o.MaxMessage), MaxFrameTasks: dispatch.MaxFrameTasks,
		},
	}})
	pb.RegisterAdminServiceServer(s.grpc, &adminService{views: inside, hand: inside, log: o.Log, limits: inside.Options, opt: o, version: o.Version, text: s.text})
	healthpb.RegisterHealthServer(s.grpc, s.health)
	for name := range s.grpc.GetServiceInfo() {
		s.health.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
	}
	s.StoreHealth(inside.Options().Store != nil && inside.Info().StoreError == nil)
	reflection.Register(s.grpc)
	if o.Channelz {
		channelz.RegisterChannelzServiceToServer(s.grpc)
	}
	return s
}

// enqueueHealth is the service name under which health tells whether Enqueue can
// write.
const enqueueHealth = "reparto.v1.TaskService/Enqueue"

// StoreHealth makes the health of "reparto.v1.TaskService/Enqueue" SERVING or
// NOT_SERVING. Whoever watches the store calls it on every change; the health of
// everything else stays as it is, for Submit goes on without a store. At the
// start the name says what the inside's Info says; once Drain or Close was
// called, it stays NOT_SERVING. It may be called concurrently and does not block.
func (s *Server) StoreHealth(ok bool) {
	status := healthpb.HealthCheckResponse_NOT_SERVING
	if ok {
		status = healthpb.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus(enqueueHealth, status)
}

// admission are the interceptors that decide who comes in, and how much of it.
func (s *Server) admission(l limits) admission {
	s.quotas = newQuotas(s.opt.Auth != nil, usual(s.opt.PrincipalLimits, l), s.opt.AddressLimits)
	if s.opt.Auth == nil { // two in one: each costs every call
		return admission{
			unary: []grpc.UnaryServerInterceptor{func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				resp, err := s.quotas.unary(ctx, req, info, handler)
				return resp, s.refused.call(ctx, err)
			}},
			stream: []grpc.StreamServerInterceptor{s.refused.stream, s.quotas.stream},
		}
	}
	g := &guard{who: s.opt.Auth, local: s.opt.LocalPrincipal, recheck: recheck, lasting: map[*caller]struct{}{}}
	s.guard = g
	unary, stream := g.interceptors(&s.events)
	var ctx context.Context
	ctx, s.unwatch = context.WithCancel(context.Background()) // a Server's own life, to Close
	s.limitOwners()
	s.events.streams.Go(func() { g.run(ctx, s.limitOwners) })
	return admission{
		unary:  append(append([]grpc.UnaryServerInterceptor{s.refused.unary}, unary...), s.quotas.unary),
		stream: append(append([]grpc.StreamServerInterceptor{s.refused.stream}, stream...), s.quotas.stream),
	}
}

// usual fills in what a principal may have without an outcome: half of what there
// may be in all.
func usual(l Limits, all limits) Limits {
	if l.TasksInFlight == 0 {
		l.TasksInFlight = all.Balance.MaxQueuedTasks / 2
	}
	if l.QueuedBytes == 0 {
		l.QueuedBytes = int64(all.Balance.MaxBytes / 2)
	}
	return l
}

// SetLimits puts other limits of principals and addresses in force, as Options has
// them. Calls that are open keep those that they began with, but for what a
// principal may have without an outcome; the number of connections of an address
// stays what it was. It may be called at any time, and does not block.
func (s *Server) SetLimits(principal, address Limits) {
	address.Connections = s.opt.AddressLimits.Connections
	s.quotas.set(usual(principal, limits{s.inside.Options()}), address)
	if s.opt.Auth != nil {
		s.limitOwners()
	}
}

type admission struct {
	unary  []grpc.UnaryServerInterceptor
	stream []grpc.StreamServerInterceptor
}

// recheck is how often calls that last are looked at again.
const recheck = 250 * time.Millisecond

// limitOwners tells the inside what each principal may have without an outcome.
func (s *Server) limitOwners() {
	bounds := func(l Limits) dispatch.OwnerLimits {
		return dispatch.OwnerLimits{Tasks: l.TasksInFlight, Bytes: int(l.QueuedBytes)}
	}
	s.owners.Lock()
	defer s.owners.Unlock()
	named := map[string]dispatch.OwnerLimits{}
	usual := s.quotas.limits.Load().principal
	for _, p := range s.opt.Auth.Principals() {
		named[p.Name] = bounds(limitsOf(p, usual))
	}
	s.inside.LimitOwners(bounds(usual), named)
}

// maxHeaders bounds the headers of a call, in bytes: ample for a token. All that is
// ours travels in messages.
const maxHeaders = 64 << 10

// serverOptions are set for many small messages; docs/benchmarks.md has what
// each is worth.
func serverOptions(o Options, a admission) []grpc.ServerOption {
	onPanic := recovery.WithRecoveryHandlerContext(func(ctx context.Context, p any) error {
		return panicked(ctx, o.Log, p)
	})
	unary := []grpc.UnaryServerInterceptor{recovery.UnaryServerInterceptor(onPanic)}
	stream := []grpc.StreamServerInterceptor{recovery.StreamServerInterceptor(onPanic)}
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(o.MaxMessage),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.ForceServerCodecV2(wire.Codec{Share: true}), // nobody changes what a task carries
		experimental.BufferPool(wire.Buffers),
		grpc.StaticStreamWindowSize(1 << 20),
		grpc.StaticConnWindowSize(1 << 20),
		grpc.WriteBufferSize(socket.MaxWrite),
		grpc.NumStreamWorkers(uint32(o.Workers)),
		grpc.MaxConcurrentStreams(uint32(o.MaxStreams)),
		grpc.ConnectionTimeout(o.HandshakeLimit),
		grpc.WaitForHandlers(true), // so that Close leaves nobody behind
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: o.MinPing, PermitWithoutStream: true}),
	}
	if o.Credentials != nil {
		options = append(options, grpc.Creds(o.Credentials))
	} else { // not with TLS, where each connection has a buffer even when it is idle
		options = append(options, grpc.ReadBufferSize(socket.MaxRead))
	}
	if o.Log.Enabled(context.Background(), slog.LevelDebug) {
		calls := logging.LoggerFunc(func(ctx context.Context, _ logging.Level, msg string, fields ...any) {
			o.Log.DebugContext(ctx, msg, fields...)
		})
		events := logging.WithLogOnEvents(logging.FinishCall)
		unary = append(unary, logging.UnaryServerInterceptor(calls, events))
		stream = append(stream, logging.StreamServerInterceptor(calls, events))
		options = append(options, grpc.StatsHandler(connStats{}))
	}
	unary, stream = append(unary, o.UnaryInterceptors...), append(stream, o.StreamInterceptors...)
	unary, stream = append(unary, a.unary...), append(stream, a.stream...)
	return append(options, grpc.ChainUnaryInterceptor(unary...), grpc.ChainStreamInterceptor(stream...))
}

// Serve accepts connections until Close; it may be called for several listeners,
// each in its own goroutine. It returns nil after Close.
func (s *Server) Serve(l net.Listener) error {
	l = socket.Listener(l)
	if most := s.opt.AddressLimits.Connections; most > 0 {
		l = newPerAddress(l, most, func(address string, most int) {
			s.opt.Log.Debug("connection refused: its address has too many", "address", address, "limit", most)
		})
	}
	return s.grpc.Serve(l)
}

// Drain makes health say NOT_SERVING, refuses new tasks and workers with
// DRAINING, tells workers to finish and dial again, and returns once nothing
// runs any more and every outcome has been sent, or with ctx's error when that
// ends first. A peer that stays on when nothing runs (it watches the health, or
// does not read) is cut off after the send limit.
func (s *Server) Drain(ctx context.Context) error {
	s.health.Shutdown()
	s.events.once.Do(func() { close(s.events.draining) })
	if err := s.inside.Drain(ctx); err != nil {
		return err
	}
	s.polls.endAll()
	left := make(chan struct{})
	go func() { // ends with Close at the latest
		s.grpc.GracefulStop()
		close(left)
	}()
	limit := time.NewTimer(s.inside.Options().SendLimit)
	defer limit.Stop()
	select {
	case <-left:
		return nil
	case <-limit.C:
		s.grpc.Stop()
		<-left
		return nil
	case <-ctx.Done():
		s.grpc.Stop()
		<-left
		return ctx.Err()
	}
}

// Close ends every call and connection and waits for their goroutines.
func (s *Server) Close() {
	s.events.once.Do(func() { close(s.events.draining) })
	s.health.Shutdown()
	s.grpc.Stop()
	s.unwatch()
	s.events.streams.Wait()
}

func (s *taskService) clientLimits() *pb.ClientLimits {
	return &pb.ClientLimits{
		MaxPayloadBytes: int64(s.limits.MaxPayload), MaxMessageBytes: int64(s.opt.MaxMessage),
		MaxFrameTasks: dispatch.MaxFrameTasks, MaxInFlight: int32(s.opt.MaxInFlight), ServerId: s.serverID,
		MaxTimeoutMs: s.limits.MaxTimeout.Milliseconds(),
	}
}

// span reads an optional duration of a request: absent means the one given as
// none, and so does 0; anything else is least to most, and never negative.
func span(field string, d *durationpb.Duration, least, most, none time.Duration) (time.Duration, error) {
	v, err := duration(field, d)
	switch {
	case err != nil:
		return 0, err
	case v == 0:
		return none, nil
	case v < least || v > most:
		return 0, invalid(field, fmt.Sprintf("is %v; give %v to %v, or leave it out", v, least, most))
	}
	return v, nil
}

// duration reads an optional duration of a request.
func duration(field string, d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, invalid(field, err.Error())
	}
	return d.AsDuration(), nil
}
