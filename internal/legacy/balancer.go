package legacy

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	"reparto/client"
	"reparto/worker"
)

// Balancer is what an adapter stands before.
type Balancer interface {
	// Client returns how a text client submits, until ctx ends, which cancels what it
	// has under way. leave is to be called when all of that has its outcome.
	Client(ctx context.Context) (submit Submit, leave func())
	// Work has a worker in the rotation until ctx has ended and what it was given is
	// answered, or it can't go on, which the error tells. assign is called for one
	// task at a time, and answer must be called exactly once for each, from any
	// goroutine; perhaps only after Work has returned.
	Work(ctx context.Context, w Worker, assign func(ctx context.Context, t worker.Task, answer func(Answer))) error
}

// Submit is SubmitFunc as client.Client has it, but for its context, and that it is
// not called concurrently. done must neither block nor call the Balancer.
type Submit func(t client.Task, done func(client.Outcome, error))

// Worker is a text worker to its balancer.
type Worker struct {
	ID, Function string
	Labels       map[string]string
}

// Answer is what became of a task at a text worker.
type Answer struct {
	Result []byte
	Err    error // why there is no result: the task failed, for ReasonTextWorker
	// Abandon says that it has not failed, but its worker is gone: Work is to end
	// with Err.
	Abandon bool
}

// ReasonTextWorker is the reason of a failure that a text worker reported.
const ReasonTextWorker = "TEXT_WORKER_ERROR"

// overGRPC is a balancer elsewhere.
type overGRPC struct {
	sdk  *client.Client
	conn grpc.ClientConnInterface
	o    *Options
}

// OverGRPC returns the balancer at the other end of a connection, which stays the
// caller's. It must be closed.
func (a *Adapter) overGRPC(conn grpc.ClientConnInterface) *overGRPC {
	c := client.New(conn, client.WithConnectTimeout(a.o.ConnectTimeout), client.WithTracerProvider(a.o.TracerProvider))
	return &overGRPC{c, conn, &a.o}
}

// Client implements Balancer.
func (b *overGRPC) Client(ctx context.Context) (submit Submit, leave func()) {
	return func(t client.Task, done func(client.Outcome, error)) { b.sdk.SubmitFunc(ctx, t, done) }, func() {}
}

// Work implements Balancer.
func (b *overGRPC) Work(ctx context.Context, w Worker, assign func(context.Context, worker.Task, func(Answer))) error {
	return worker.Run(ctx, b.conn, worker.Handlers{
		w.Function: func(ctx context.Context, t worker.Task) ([]byte, error) {
			answers := make(chan Answer, 1)
			assign(ctx, t, func(a Answer) { answers <- a })
			switch a := <-answers; {
			case a.Abandon:
				return nil, worker.Abandon(a.Err)
			case ctx.Err() != nil:
				return nil, context.Cause(ctx)
			case a.Err != nil:
				return nil, worker.Fail(ReasonTextWorker, a.Err)
			default:
				return a.Result, nil
			}
		},
	}, worker.Options{
		ID: w.ID, Slots: 1, Labels: w.Labels, Log: slog.New(troubleOnly{b.o.Log.Handler()}),
		DrainTimeout: max(b.o.DrainTimeout, time.Millisecond), TracerProvider: b.o.TracerProvider,
	})
}

// troubleOnly lets pass what is worth an operator's while. The SDK tells of
// itself what the adapter tells of the text worker.
type troubleOnly struct{ slog.Handler }

func (h troubleOnly) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && h.Handler.Enabled(ctx, l)
}

func (h troubleOnly) WithAttrs(attrs []slog.Attr) slog.Handler {
	return troubleOnly{h.Handler.WithAttrs(attrs)}
}

func (h troubleOnly) WithGroup(name string) slog.Handler {
	return troubleOnly{h.Handler.WithGroup(name)}
}
