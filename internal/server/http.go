package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime"
	"time"

	"reparto/internal/metrics"
)

// HTTP is a port for whoever looks after the balancer.
type HTTP struct {
	// Address is where it listens, e.g. "localhost:8080"; empty: nowhere.
	Address string
	// TLS makes it speak TLS, with the certificates of gRPC.
	TLS bool
	// Pprof serves Go's profiles under /debug/pprof/.
	Pprof bool
}

// listenHTTP binds the HTTP port and makes what has to be counted from the start.
func (s *Server) listenHTTP() (err error) {
	if s.o.HTTP.Address == "" {
		return nil
	}
	if s.web, err = net.Listen("tcp", s.o.HTTP.Address); err != nil {
		return fmt.Errorf("HTTP: %w", err)
	}
	s.metrics = metrics.New(metrics.Build{Version: s.o.RPC.Version, Commit: s.o.Commit, GoVersion: runtime.Version()})
	unary, stream := s.metrics.Interceptors()
	s.o.RPC.UnaryInterceptors = append(unary, s.o.RPC.UnaryInterceptors...)
	s.o.RPC.StreamInterceptors = append(stream, s.o.RPC.StreamInterceptors...)
	return nil
}

// serveHTTP serves until the function it returns is called, which waits for that.
func (s *Server) serveHTTP(failed chan<- error) (end func()) {
	if s.web == nil {
		return func() {}
	}
	s.o.Log.Info("listening for HTTP", "address", s.web.Addr().String())
	l := s.web
	if s.o.HTTP.TLS {
		l = tls.NewListener(l, s.o.TLS.Config())
	}
	web := &http.Server{
		Handler: s.pages(), MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(s.o.Log.Handler(), slog.LevelWarn),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		WriteTimeout: 5 * time.Minute, // a profile takes as long as it is asked to
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("HTTP: %w", err)
		}
	}()
	return func() {
		soon, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if web.Shutdown(soon) != nil {
			_ = web.Close() // who is slow is cut off
		}
		<-done
	}
}

func (s *Server) pages() http.Handler {
	pages := http.NewServeMux()
	pages.Handle("GET /metrics", s.metrics.Handler())
	pages.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "alive") })
	pages.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		switch info := s.dispatch.Info(); {
		case info.Draining:
			say(w, http.StatusServiceUnavailable, "draining: the balancer is stopping and takes no new tasks")
		case info.StoreError != nil:
			say(w, http.StatusServiceUnavailable, fmt.Sprintf("store: %v; tasks are submitted, but not enqueued", info.StoreError))
		default:
			say(w, http.StatusOK, "ready")
		}
	})
	if s.o.HTTP.Pprof {
		pages.HandleFunc("/debug/pprof/", pprof.Index)
		pages.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		pages.HandleFunc("/debug/pprof/profile", pprof.Profile)
		pages.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		pages.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return pages
}

func say(w http.ResponseWriter, code int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = fmt.Fprintln(w, line) // whoever asked has gone
}
