package rpc

import (
	"context"
	"log/slog"
	"net"
	"sync"

	"github.com/google/uuid"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"

	"reparto/internal/task"
)

// taskLog writes a line for each task and each client connection, at level
// debug, and costs nothing when nobody reads them.
type taskLog struct {
	log *slog.Logger
	on  bool
}

func newTaskLog(log *slog.Logger) *taskLog {
	return &taskLog{log, log.Enabled(context.Background(), slog.LevelDebug)}
}

// received tells of a task before it is handed over. The line must name the
// task, so one without an id gets it here.
func (l *taskLog) received(ctx context.Context, t *task.Task) {
	if !l.on {
		return
	}
	if t.ID == "" {
		t.ID = uuid.Must(uuid.NewV7()).String()
	}
	remote := ""
	if p, ok := peer.FromContext(ctx); ok {
		remote = p.Addr.String()
	}
	if c, ok := ctx.Value(connKey{}).(*connection); ok {
		c.client.Do(func() { l.log.DebugContext(ctx, "client connected", "remote", remote) })
	}
	l.log.DebugContext(ctx, "task received", "task_id", t.ID, "remote", remote)
}

// worker tells of a worker that dialled in over the network.
func (l *taskLog) worker(ctx context.Context, remote string) {
	if _, tcp := ctx.Value(connKey{}).(*connection); l.on && tcp {
		l.log.DebugContext(ctx, "worker connected", "remote", remote)
	}
}

func (l *taskLog) sent(id string) {
	if l.on {
		l.log.Debug("result sent", "task_id", id)
	}
}

// connection remembers whether a connection was seen to be a client's.
type connection struct{ client sync.Once }

type connKey struct{}

// connStats gives each connection its connection value.
type connStats struct{}

func (connStats) TagConn(ctx context.Context, info *stats.ConnTagInfo) context.Context {
	if _, tcp := info.RemoteAddr.(*net.TCPAddr); !tcp {
		return ctx
	}
	return context.WithValue(ctx, connKey{}, &connection{})
}
func (connStats) HandleConn(context.Context, stats.ConnStats)                     {}
func (connStats) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }
func (connStats) HandleRPC(context.Context, stats.RPCStats)                       {}
