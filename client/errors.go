package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "reparto/gen/reparto/v1"
)

// TaskError says that the task failed: a worker's verdict, or the balancer's
// that it gave up on it.
type TaskError struct {
	TaskID string
	// Reason is a word such as HANDLER_ERROR, PANIC or WORKER_LOST, or a worker's
	// own.
	Reason  string
	Message string
	// Retry says that the worker asked for another attempt and there was none
	// left.
	Retry    bool
	Attempt  int
	WorkerID string
}

func (e *TaskError) Error() string { return cmp.Or(e.Message, e.Reason, "the task failed") }

// Error says that there is no verdict, and why.
type Error struct {
	Code codes.Code
	// Reason is one of the contract's, such as QUEUE_FULL, or the SDK's own:
	// NO_CONNECTION, FATE_UNKNOWN, CLIENT_CLOSED.
	Reason  string
	Message string
	// RetryAfter is when another try may help; 0 when none will.
	RetryAfter time.Duration
	// Metadata may be shared with other errors: read it, and don't change it.
	Metadata map[string]string
	TaskID   string
	cause    error
}

func (e *Error) Error() string { return cmp.Or(e.Message, e.Reason, e.Code.String()) }

// Unwrap makes errors.Is find context.Canceled, context.DeadlineExceeded and
// ErrFateUnknown.
func (e *Error) Unwrap() error { return e.cause }

// GRPCStatus makes status.Code and status.FromError work on it.
func (e *Error) GRPCStatus() *status.Status {
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Domain: domain, Reason: e.Reason, Metadata: e.Metadata}}
	if e.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)})
	}
	st := status.New(e.Code, e.Message)
	if with, err := st.WithDetails(details...); err == nil {
		return with
	}
	return st
}

const domain = "reparto"

// ErrFateUnknown is found, by errors.Is, in the error of a task that had been
// sent when the connection broke, and was not marked Idempotent.
var ErrFateUnknown = errors.New("the task's fate is unknown")

func (c *Client) errClosed(id string) error {
	if c.why != nil {
		return c.why
	}
	return &Error{Code: codes.Canceled, Reason: "CLIENT_CLOSED", Message: "the client was closed", TaskID: id}
}

func errFateUnknown(id string, broke error) error {
	return &Error{
		Code: codes.Unavailable, Reason: "FATE_UNKNOWN", TaskID: id, cause: ErrFateUnknown,
		Message: fmt.Sprintf("the connection broke after the task was sent (%v): it may have run, or not; set Idempotent if it may run twice", broke),
	}
}

// errNoConnection is for a task that has waited for a stream as long as it may;
// last is why there was none.
func (c *Client) errNoConnection(id string, last error) error {
	return &Error{
		Code: codes.Unavailable, Reason: "NO_CONNECTION", RetryAfter: time.Second, TaskID: id,
		Message: fmt.Sprintf("no connection to %s in time (connect timeout %v): %s", c.target, c.opt.connectTimeout, words(last)),
	}
}

// errExpired is for a task whose time limit passed while it waited for a stream.
func (c *Client) errExpired(id string, last error) error {
	return &Error{
		Code: codes.DeadlineExceeded, Reason: "TASK_EXPIRED", TaskID: id, cause: context.DeadlineExceeded,
		Message: fmt.Sprintf("the task's time limit passed while there was no connection to %s: %s", c.target, words(last)),
	}
}

func words(err error) string {
	if err == nil {
		return "it has not answered yet"
	}
	return status.Convert(err).Message()
}

func errContext(ctx context.Context, id string) error {
	err := ctx.Err()
	code := codes.Canceled
	if errors.Is(err, context.DeadlineExceeded) {
		code = codes.DeadlineExceeded
	}
	return &Error{Code: code, Reason: "CONTEXT_ENDED", Message: "no outcome before the context ended: " + err.Error(), TaskID: id, cause: err}
}

// fromFrame is the error that the balancer sent in a frame.
func fromFrame(e *pb.Error, id string) *Error {
	out := &Error{
		Code: codes.Code(e.GetCode()), Reason: e.GetReason(), Message: e.GetMessage(), TaskID: id,
		RetryAfter: time.Duration(e.GetRetryAfterMs()) * time.Millisecond, Metadata: e.GetMetadata(),
	}
	switch out.Code {
	case codes.OK: // an error is one, whatever it says
		out.Code = codes.Unknown
	case codes.DeadlineExceeded:
		out.cause = context.DeadlineExceeded
	case codes.Canceled:
		out.cause = context.Canceled
	}
	return out
}

// fromStatus is the error that ended a stream.
func fromStatus(err error) *Error {
	st := status.Convert(err)
	out := &Error{Code: st.Code(), Message: st.Message()}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == domain {
				out.Reason, out.Metadata = d.GetReason(), d.GetMetadata()
			}
		case *errdetails.RetryInfo:
			out.RetryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	return out
}

// hopeless reports whether dialling again can't cure the error.
func (e *Error) hopeless() bool {
	switch e.Code {
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented:
		return true
	}
	return false
}

// neverRan reports whether the balancer says that no worker had the task.
func neverRan(e *pb.Error) bool {
	n := e.GetMetadata()["attempts"]
	return n == "" || n == "0"
}
