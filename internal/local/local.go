// Package local is the balancer to a text adapter in its own process: what an adapter
// elsewhere does by gRPC goes to the border without a connection.
package local

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"reparto/client"
	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/legacy"
	"reparto/internal/rpc"
	"reparto/internal/task"
	"reparto/worker"
)

// Balancer implements legacy.Balancer. It may be used concurrently.
type Balancer struct{ border *rpc.Local }

// New returns the balancer behind a border.
func New(border *rpc.Local) *Balancer { return &Balancer{border} }

// Client implements legacy.Balancer. Nothing can get lost between here and the
// balancer, so it does not matter whether a task is Idempotent.
func (b *Balancer) Client(ctx context.Context) (submit legacy.Submit, leave func()) {
	c := b.border.Client(ctx)
	var wire pb.StreamTask // used again and again
	return func(t client.Task, done func(client.Outcome, error)) {
		wire.Function, wire.Payload, wire.TaskId, wire.Metadata = t.Function, t.Payload, t.ID, t.Metadata
		wire.TimeoutMs, wire.AttemptTimeoutMs = millis(t.Timeout), millis(t.AttemptTimeout)
		wire.MaxAttempts, wire.FailFast, wire.Priority = int32(t.MaxAttempts), t.FailFast, int32(t.Priority)
		c.Submit(&wire, func(o *pb.StreamOutcome) { done(verdict(o)) })
		wire.Payload, wire.Metadata = nil, nil // so that an idle client holds none
	}, c.Close
}

// millis rounds up, so that a wish for less than a millisecond is not one for the
// default.
func millis(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }

// verdict is what an outcome says; nil is that nobody waits for one.
func verdict(o *pb.StreamOutcome) (client.Outcome, error) {
	if o == nil {
		return client.Outcome{}, &client.Error{Code: codes.Canceled, Reason: "CONTEXT_ENDED", Message: "the task is not wanted any more"}
	}
	if e := o.Error; e != nil {
		return client.Outcome{}, &client.Error{
			Code: codes.Code(e.Code), Reason: e.Reason, Message: e.Message, TaskID: o.TaskId,
			RetryAfter: time.Duration(e.RetryAfterMs) * time.Millisecond, Metadata: e.Metadata,
		}
	}
	if f := o.Failure; f != nil {
		return client.Outcome{}, &client.TaskError{
			TaskID: o.TaskId, Reason: f.Reason, Message: f.Message, Retry: f.Retry, Attempt: int(o.Attempt), WorkerID: o.WorkerId,
		}
	}
	return client.Outcome{TaskID: o.TaskId, Result: o.Result, Attempt: int(o.Attempt), WorkerID: o.WorkerId}, nil
}

// Work implements legacy.Balancer.
func (b *Balancer) Work(ctx context.Context, w legacy.Worker, assign func(context.Context, worker.Task, func(legacy.Answer))) error {
	s := &session{leave: ctx, assign: assign}
	reg := &pb.Register{WorkerId: w.ID, Functions: []string{w.Function}, Slots: 1, Labels: w.Labels}
	for {
		reg.Running = s.claims()
		err := b.border.Work(context.WithoutCancel(ctx), reg, s.serve)
		// A process that was stopped for a while has not heard itself. Its worker
		// knows nothing of that, and may still be at work.
		if !errors.Is(err, dispatch.ErrSilent) {
			return err
		}
	}
}

// maxMessage is how much of a failure's message is kept, in bytes.
const maxMessage = 8 << 10

// failure is that of a task that a text worker has answered.
func failure(err error) *task.Failure {
	message := strings.ToValidUTF8(err.Error(), "\uFFFD")
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "")
	}
	return &task.Failure{Reason: legacy.ReasonTextWorker, Message: message}
}
