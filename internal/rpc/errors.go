package rpc

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/task"
)

// domain is the ErrorInfo domain of all our errors.
const domain = "reparto"

// bug is all that a peer learns of one.
const bug = "a bug in the balancer; its log has the details"

// retryHint is what a client is told to wait when trying again may help.
const retryHint = 500 * time.Millisecond

// refusal is an error on its way to a peer: as the status of a call, or in a
// frame of a stream.
type refusal struct {
	code       codes.Code
	reason     string
	message    string
	field      string // for errors about a field
	retryAfter time.Duration
	metadata   map[string]string
	framed     *pb.Error // what frame has made of it
}

func (r *refusal) Error() string { return r.message }

// GRPCStatus is how the grpc package turns the error of a handler into a status.
func (r *refusal) GRPCStatus() *status.Status {
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Domain: domain, Reason: r.reason, Metadata: r.metadata}}
	if r.field != "" {
		details = append(details, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: r.field, Description: r.message, Reason: r.reason},
		}})
	}
	if r.retryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(r.retryAfter)})
	}
	st := status.New(r.code, r.message)
	if with, err := st.WithDetails(details...); err == nil {
		return with
	}
	return st // our own details always marshal; the code and message stand anyway
}

// frame is the error as it travels in a frame. It is made once: only one goroutine
// may ask for it, and nobody may change it.
func (r *refusal) frame() *pb.Error {
	if r.framed == nil {
		r.framed = &pb.Error{
			Code: int32(r.code), Reason: r.reason, Message: r.message,
			RetryAfterMs: r.retryAfter.Milliseconds(), Metadata: maps.Clone(r.metadata),
		}
	}
	return r.framed
}

// frameError is any error as it travels in a frame. What is not a refusal is a
// bug, whose details stay here.
func frameError(err error) *pb.Error {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.frame()
	}
	return &pb.Error{Code: int32(codes.Internal), Reason: "INTERNAL", Message: bug}
}

func invalid(field, problem string) *refusal {
	reason := strings.ReplaceAll(strings.ToUpper(field), ".", "_")
	return &refusal{
		code: codes.InvalidArgument, reason: reason, field: field, message: field + ": " + problem,
	}
}

// refuse is the table of errors: what the inside says, and the code and reason
// under which a peer learns it.
func refuse(err error) error {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r
	}
	if bad, ok := errors.AsType[*task.InvalidError](err); ok {
		return invalid(bad.Field, bad.Problem)
	}
	if full, ok := errors.AsType[*dispatch.QueueFullError](err); ok {
		return &refusal{
			code: codes.ResourceExhausted, reason: "QUEUE_FULL", message: full.Error(), retryAfter: retryHint,
			metadata: map[string]string{"limit": strconv.Itoa(full.Max)},
		}
	}
	if store, ok := errors.AsType[*dispatch.StoreError](err); ok {
		return &refusal{
			code: codes.Unavailable, reason: "STORE_UNAVAILABLE", message: store.Error(), retryAfter: retryHint,
		}
	}
	for _, row := range refusalOf {
		if errors.Is(err, row.err) {
			return &refusal{code: row.code, reason: row.reason, message: row.err.Error(), retryAfter: row.retryAfter}
		}
	}
	return err
}

var refusalOf = []struct {
	err        error
	code       codes.Code
	reason     string
	retryAfter time.Duration
}{
	{dispatch.ErrNoWorker, codes.Unavailable, "NO_WORKER", retryHint},
	{dispatch.ErrDraining, codes.Unavailable, "DRAINING", retryHint},
	{dispatch.ErrClosed, codes.Unavailable, "DRAINING", retryHint},
	{dispatch.ErrIDConflict, codes.AlreadyExists, "TASK_ID_CONFLICT", 0},
	{dispatch.ErrTaskNotFound, codes.NotFound, "TASK_NOT_FOUND", 0},
	{dispatch.ErrNotFinished, codes.FailedPrecondition, "TASK_NOT_FINISHED", 0},
	{dispatch.ErrWorkerNotFound, codes.NotFound, "WORKER_NOT_FOUND", 0},
	{dispatch.ErrWorkerIDTaken, codes.PermissionDenied, "WORKER_ID_TAKEN", 0},
	{dispatch.ErrReplaced, codes.Aborted, "SESSION_REPLACED", 0},
	{dispatch.ErrSilent, codes.Aborted, "WORKER_SILENT", retryHint},
	{dispatch.ErrSendBlocked, codes.Aborted, "SEND_BLOCKED", retryHint},
	{errSlowConsumer, codes.ResourceExhausted, "SLOW_CONSUMER", retryHint},
}

var errSlowConsumer = errors.New("the outcomes that wait to be read passed the outbox limit; read faster, or have less in flight")

// failed is the error of a call that asked the inside something: a refusal, the
// end of the call itself, or a bug, whose details go to the log and no further.
func failed(ctx context.Context, log *slog.Logger, err error) error {
	if over := ctx.Err(); over != nil && errors.Is(err, over) {
		return status.FromContextError(over).Err()
	}
	if r, ok := errors.AsType[*refusal](refuse(err)); ok {
		return r
	}
	log.ErrorContext(ctx, "a call failed in a way that no table knows", "error", err)
	return &refusal{code: codes.Internal, reason: "INTERNAL", message: bug}
}

// noVerdict is the error of a task that ended without a worker's verdict; nil
// when there is one.
func noVerdict(o *task.Outcome) *refusal {
	switch {
	case o.State == task.Cancelled && o.Failure != nil && o.Failure.Reason == task.CancelShutdown:
		return &refusal{
			code: codes.Unavailable, reason: "DRAINING", message: o.Failure.Message, retryAfter: retryHint,
			metadata: map[string]string{"attempts": strconv.Itoa(o.Attempt)},
		}
	case o.State == task.Cancelled:
		return &refusal{code: codes.Canceled, reason: "TASK_CANCELLED", message: "the task was cancelled"}
	case o.State == task.Expired:
		where, state := "while it waited for a worker", task.Queued
		if o.WasRunning {
			where, state = "while a worker ran it", task.Running
		}
		return &refusal{
			code: codes.DeadlineExceeded, reason: "TASK_EXPIRED", message: "the task's time limit passed " + where,
			metadata: map[string]string{"state": state.String(), "attempts": strconv.Itoa(o.Attempt)},
		}
	}
	return nil
}
