// Package server assembles a balancer: the dispatcher, the gRPC border before
// it, and the text adapter, which is a gRPC client like any other and reaches
// the border over a connection inside the process.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/test/bufconn"

	"reparto/internal/auth"
	"reparto/internal/dispatch"
	"reparto/internal/legacy"
	"reparto/internal/local"
	"reparto/internal/metrics"
	"reparto/internal/rpc"
	"reparto/internal/secure"
	"reparto/internal/wire"
)

// Options of a balancer. The zero value of each field means its default, where
// the field's own type does not say otherwise.
type Options struct {
	// Address is where gRPC listens, e.g. "localhost:9090"; port 0 takes a free
	// one.
	Address string
	// Store keeps durable tasks: "file:DIRECTORY", or "memory:" for as long as the
	// process lives. Default "memory:".
	Store string
	// Dispatch and RPC are handed on; Log is put into both.
	Dispatch dispatch.Options
	RPC      rpc.Options
	// Legacy says how the text protocol is served; without addresses, not at
	// all. Log and DrainTimeout are put into it.
	Legacy legacy.Options
	// TLS makes gRPC speak it, and with LegacyTLS the text ports. Default: none.
	TLS       *secure.Server
	LegacyTLS bool
	// Auth is a file that says who may do what; see internal/auth. Default: everybody
	// may do everything.
	Auth string
	// LegacyPrincipal is who the text ports act for. Default "text".
	LegacyPrincipal string
	// HTTP is where metrics and health can be asked for. Default: nowhere.
	HTTP HTTP
	// Commit is what the metrics tell of the build.
	Commit string
	// HandshakeLimit is how long a peer may take for a handshake, TLS or not.
	// Default 10 s.
	HandshakeLimit time.Duration
	// Insecure allows ports without TLS that other machines can reach.
	Insecure bool
	// DrainTimeout is how long Run waits, once it is to end, for the tasks that
	// run. Default 30 s.
	DrainTimeout time.Duration
	// Log gets what an operator acts on, and at level debug every task. Default:
	// none.
	Log *slog.Logger
}

// Server is a balancer that listens. Run serves it; a Server that is never run
// must be closed.
type Server struct {
	o        Options
	dispatch *dispatch.Dispatcher
	rpc      *rpc.Server
	auth     *auth.Directory // nil where everybody may do everything
	listener net.Listener
	legacy   *legacy.Adapter // nil when off
	web      net.Listener    // for HTTP; nil when off
	metrics  *metrics.Metrics
	// closeStore lets go of the store, after the dispatcher.
	closeStore func() error
	border     atomic.Pointer[rpc.Server] // rpc, for the store's word on its health
}

// Listen binds every port and starts the dispatcher. Nothing is served before
// Run. A port in use is an error that names it.
func Listen(o Options) (*Server, error) {
	if o.DrainTimeout == 0 {
		o.DrainTimeout = 30 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.DrainTimeout < 0 {
		return nil, fmt.Errorf("drain timeout %v: want more than 0", o.DrainTimeout)
	}
	o.Dispatch.Log, o.RPC.Log, o.Legacy.Log = o.Log, o.Log, o.Log
	o.Legacy.DrainTimeout = o.DrainTimeout
	o.Legacy.HandshakeTimeout, o.RPC.HandshakeLimit = o.HandshakeLimit, o.HandshakeLimit
	o.RPC.Credentials = o.TLS.Credentials()
	if o.LegacyTLS {
		o.Legacy.TLS = o.TLS.Config()
	}
	s := &Server{o: o}
	err := s.openAuth()
	if err != nil {
		return nil, err
	}
	if s.listener, err = net.Listen("tcp", o.Address); err != nil {
		return nil, fmt.Errorf("gRPC: %w", err)
	}
	if o.Legacy.ClientAddress != "" || o.Legacy.WorkerAddress != "" {
		if s.legacy, err = legacy.Listen(o.Legacy); err != nil {
			return nil, errors.Join(err, s.listener.Close())
		}
	}
	if err := s.listenHTTP(); err != nil {
		return nil, errors.Join(err, s.closePorts())
	}
	if err = secure.CheckPorts(s.ports(), o.Insecure, o.Log); err == nil {
		err = s.open()
	}
	if err != nil {
		return nil, errors.Join(err, s.closePorts())
	}
	return s, nil
}

// ports are those that are bound.
func (s *Server) ports() []secure.Port {
	ports := []secure.Port{{
		Name: "gRPC", Flag: "--grpc", Address: s.o.Address, Addr: s.listener.Addr(), TLS: s.o.TLS != nil, Remedy: "--tls-cert and --tls-key",
	}}
	if s.web != nil {
		ports = append(ports, secure.Port{
			Name: "HTTP", Flag: "--http", Address: s.o.HTTP.Address, Addr: s.web.Addr(), TLS: s.o.HTTP.TLS,
			Remedy: "--http-tls (with --tls-cert and --tls-key)",
		})
	}
	if s.legacy == nil {
		return ports
	}
	text := secure.Port{TLS: s.o.Legacy.TLS != nil, Remedy: "--legacy-tls (with --tls-cert and --tls-key)"}
	return append(ports,
		text.At("text clients", "--legacy-clients", s.o.Legacy.ClientAddress, s.legacy.ClientAddr()),
		text.At("text workers", "--legacy-workers", s.o.Legacy.WorkerAddress, s.legacy.WorkerAddr()))
}

// openAuth reads who may do what.
func (s *Server) openAuth() (err error) {
	if s.o.Auth == "" {
		return nil
	}
	s.auth, err = auth.Open(s.o.Auth, auth.Options{Interval: authInterval, Log: s.o.Log})
	if err != nil {
		return err
	}
	name := cmp.Or(s.o.LegacyPrincipal, "text")
	s.o.RPC.Auth, s.o.RPC.LocalPrincipal = s.auth, name
	if (s.o.Legacy.ClientAddress != "" || s.o.Legacy.WorkerAddress != "") && s.auth.Principal(name) == nil {
		s.o.Log.Warn("the principal of the text ports is not in the file: whoever speaks text is refused", "principal", name, "file", s.o.Auth)
	}
	return nil
}

// authInterval is how often the file is looked at: often enough that what it takes
// back is taken back within a second.
const authInterval = 200 * time.Millisecond

// open opens the store and starts the dispatcher and the border before it.
func (s *Server) open() (err error) {
	o := s.o.Dispatch
	if o.StoreName = cmp.Or(s.o.Store, "memory:"); o.Store == nil {
		if o.Store, s.closeStore, err = openStore(o.StoreName, s.o.Log); err != nil {
			return err
		}
	}
	if s.metrics != nil && o.Store != nil {
		o.Store = s.metrics.Store(o.Store)
	}
	o.OnStore = func(err error) {
		if border := s.border.Load(); border != nil {
			border.StoreHealth(err == nil)
		}
	}
	if s.dispatch, err = dispatch.Open(o); err != nil {
		if _, store := errors.AsType[*dispatch.StoreError](err); store {
			err = fmt.Errorf("%w: %w", ErrStore, err)
		}
		return errors.Join(err, s.endStore())
	}
	s.rpc = rpc.NewServer(s.dispatch, s.o.RPC)
	if s.metrics != nil {
		s.metrics.Watch(s.dispatch, s.rpc)
	}
	s.border.Store(s.rpc)
	return nil
}

func (s *Server) endStore() error {
	if s.closeStore == nil {
		return nil
	}
	return s.closeStore()
}

func (s *Server) closePorts() error {
	err := s.listener.Close()
	if s.web != nil {
		err = errors.Join(err, s.web.Close())
	}
	if s.legacy != nil {
		err = errors.Join(err, s.legacy.Close())
	}
	return err
}

// Close lets go of a Server that is not run.
func (s *Server) Close() error {
	s.dispatch.Close() // first, so that what runs is left to its workers
	s.rpc.Close()
	return errors.Join(s.endStore(), s.closePorts())
}

// Addr returns where gRPC listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// HTTPAddr returns where HTTP listens, nil when it does not.
func (s *Server) HTTPAddr() net.Addr {
	if s.web == nil {
		return nil
	}
	return s.web.Addr()
}

// Legacy returns the text adapter, nil when it is off.
func (s *Server) Legacy() *legacy.Adapter { return s.legacy }

// Run serves until ctx ends, then drains: health says NOT_SERVING, new tasks are
// refused, running ones finish within the drain timeout. It returns nil when all
// of them did, and waits for everything that it started.
func (s *Server) Run(ctx context.Context) error {
	s.o.Log.Info("listening for gRPC", "address", s.listener.Addr().String())
	// What drains outlives ctx.
	outlive, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	failed := make(chan error, 4)
	var serving sync.WaitGroup
	serve := func(l net.Listener) {
		serving.Go(func() {
			if err := s.rpc.Serve(l); err != nil {
				failed <- fmt.Errorf("gRPC: %w", err)
			}
		})
	}
	serve(s.listener)
	endHTTP := s.serveHTTP(failed) // until all has drained, so that it can be watched
	defer endHTTP()
	if s.auth != nil {
		serving.Go(func() { _ = s.auth.Run(outlive) }) // ends with outlive, and has no other error
	}
	legacyDone, err := s.runLegacy(ctx, serve, failed)
	if err != nil {
		err = errors.Join(err, s.Close())
		cut()
		serving.Wait()
		return err
	}
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.o.Log.Info("stopping: what runs may finish", "within", s.o.DrainTimeout)
	drain, cancel := context.WithTimeout(outlive, s.o.DrainTimeout)
	defer cancel()
	if late := s.rpc.Drain(drain); late != nil {
		s.o.Log.Warn("tasks were still running at the drain timeout; their clients are told", "running", s.dispatch.Info().Running)
		err = errors.Join(err, fmt.Errorf("drain: %w", late))
	}
	s.dispatch.Close()
	s.rpc.Close()
	legacyDone()
	cut()
	serving.Wait()
	err = errors.Join(err, s.endStore())
	s.o.Log.Info("stopped")
	return err
}

// runLegacy serves the text protocol until ctx ends; the function it returns
// waits for that.
func (s *Server) runLegacy(ctx context.Context, serve func(net.Listener), failed chan<- error) (func(), error) {
	if s.legacy == nil {
		return func() {}, nil
	}
	inside := bufconn.Listen(1 << 20)
	serve(inside)
	conn, err := grpc.NewClient("passthrough:///inside",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return inside.DialContext(ctx) }),
		grpc.WithStaticStreamWindowSize(1<<20), grpc.WithStaticConnWindowSize(1<<20),
		experimental.WithBufferPool(wire.Buffers),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)),
	)
	if err != nil {
		return nil, fmt.Errorf("text adapter: %w", err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		serve := func() error { return s.legacy.ServeFor(ctx, local.New(s.rpc.Local()), conn) }
		if s.o.Legacy.TracerProvider != nil { // the SDKs make its spans
			serve = func() error { return s.legacy.Serve(ctx, conn) }
		}
		if err := serve(); err != nil {
			failed <- err
		}
	})
	return func() {
		conn.Close() // nothing is served any more: what still waits for an answer stops waiting
		done.Wait()
	}, nil
}
