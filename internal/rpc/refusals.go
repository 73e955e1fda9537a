package rpc

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
)

// Refused is what a call or a task was refused with. There are few: fields that are
// wrong all have the reason INVALID_ARGUMENT.
type Refused struct {
	Code   codes.Code
	Reason string
}

// refusals counts what is refused, and tells operators of what they may have to do
// with: who has no rights, and which limits are reached.
type refusals struct {
	log   *slog.Logger
	calls sync.Map // Refused to *refusalCount
	tasks sync.Map // likewise, in calls that go on
}

// refusalCount counts one kind.
type refusalCount struct {
	n      atomic.Uint64
	quiet  atomic.Int64  // no line before then, in nanoseconds
	untold atomic.Uint64 // since the last line
}

// quietFor is how long there is no further line about refusals of one kind.
const quietFor = time.Second

// Refusals tells how many calls were refused, those of Submit among them, and how
// many tasks one by one, on streams and in batches.
func (s *Server) Refusals() (calls, tasks map[Refused]uint64) {
	return counted(&s.refused.calls), counted(&s.refused.tasks)
}

func counted(from *sync.Map) map[Refused]uint64 {
	counts := map[Refused]uint64{}
	from.Range(func(k, v any) bool {
		counts[k.(Refused)] = v.(*refusalCount).n.Load()
		return true
	})
	return counts
}

// call notes how a call ended.
func (r *refusals) call(ctx context.Context, err error) error {
	if err != nil {
		r.count(ctx, &r.calls, err, 1)
	}
	return err
}

// task notes that n tasks were refused with the same error.
func (r *refusals) task(ctx context.Context, err error, n int) {
	if n > 0 {
		r.count(ctx, &r.tasks, err, n)
	}
}

func (r *refusals) count(ctx context.Context, in *sync.Map, err error, n int) {
	why, ok := errors.AsType[*refusal](err)
	if !ok || why.code == codes.Canceled || why.code == codes.DeadlineExceeded {
		return // a verdict, or the caller's own
	}
	key := Refused{why.code, why.reason}
	if why.field != "" && why.reason != "PAYLOAD_TOO_LARGE" {
		key.Reason = "INVALID_ARGUMENT"
	}
	v, ok := in.Load(key)
	if !ok {
		v, _ = in.LoadOrStore(key, &refusalCount{})
	}
	c := v.(*refusalCount)
	c.n.Add(uint64(n))
	switch why.code {
	case codes.Unauthenticated, codes.PermissionDenied, codes.ResourceExhausted:
		r.tell(ctx, c, key, err, n)
	}
}

// tell writes a line, unless there was one just now.
func (r *refusals) tell(ctx context.Context, c *refusalCount, key Refused, err error, n int) {
	c.untold.Add(uint64(n))
	now, quiet := time.Now().UnixNano(), c.quiet.Load()
	if now < quiet || !c.quiet.CompareAndSwap(quiet, now+int64(quietFor)) {
		return
	}
	remote := ""
	if p, ok := peer.FromContext(ctx); ok {
		remote = p.Addr.String()
	}
	r.log.WarnContext(ctx, "refused", "code", key.Code.String(), "reason", key.Reason, "count", c.untold.Swap(0),
		"principal", callerOf(ctx).owner(), "remote", remote, "error", err)
}

// unary and stream see how calls end; they come before all that may refuse one.
func (r *refusals) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	resp, err := handler(ctx, req)
	return resp, r.call(ctx, err)
}

func (r *refusals) stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return r.call(ss.Context(), handler(srv, ss))
}
