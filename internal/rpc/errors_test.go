package rpc

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"reparto/internal/dispatch"
	"reparto/internal/task"
)

func TestTableOfErrors(t *testing.T) {
	for _, c := range []struct {
		err  error
		want refused
	}{
		{&task.InvalidError{Field: "task_id", Problem: "is bad"}, refused{codes.InvalidArgument, "TASK_ID", "task_id", false}},
		{&dispatch.QueueFullError{Limit: "tasks waiting", Max: 7}, refused{codes.ResourceExhausted, "QUEUE_FULL", "", true}},
		{dispatch.ErrNoWorker, refused{codes.Unavailable, "NO_WORKER", "", true}},
		{dispatch.ErrDraining, refused{codes.Unavailable, "DRAINING", "", true}},
		{dispatch.ErrClosed, refused{codes.Unavailable, "DRAINING", "", true}},
		{dispatch.ErrIDConflict, refused{codes.AlreadyExists, "TASK_ID_CONFLICT", "", false}},
		{dispatch.ErrTaskNotFound, refused{codes.NotFound, "TASK_NOT_FOUND", "", false}},
		{dispatch.ErrNotFinished, refused{codes.FailedPrecondition, "TASK_NOT_FINISHED", "", false}},
		{dispatch.ErrWorkerNotFound, refused{codes.NotFound, "WORKER_NOT_FOUND", "", false}},
		{&dispatch.StoreError{Cause: errors.New("x")}, refused{codes.Unavailable, "STORE_UNAVAILABLE", "", true}},
		{dispatch.ErrReplaced, refused{codes.Aborted, "SESSION_REPLACED", "", false}},
		{dispatch.ErrSilent, refused{codes.Aborted, "WORKER_SILENT", "", true}},
		{dispatch.ErrSendBlocked, refused{codes.Aborted, "SEND_BLOCKED", "", true}},
		{errSlowConsumer, refused{codes.ResourceExhausted, "SLOW_CONSUMER", "", true}},
	} {
		for _, err := range []error{c.err, fmt.Errorf("wrapped: %w", c.err), refuse(c.err)} {
			got := refuse(err)
			wants(t, got, c.want)
			f := frameError(got)
			if codes.Code(f.Code) != c.want.code || f.Reason != c.want.reason || f.Message != status.Convert(got).Message() ||
				(f.RetryAfterMs > 0) != c.want.retry {
				t.Errorf("%v in a frame: %v, want the same as in a status", c.err, f)
			}
		}
	}
	if m := wants(t, refuse(&dispatch.QueueFullError{Limit: "x", Max: 7}), refused{codes.ResourceExhausted, "QUEUE_FULL", "", true}); m["limit"] != "7" {
		t.Errorf("metadata %v, want the limit", m)
	}
}

func TestBugsKeepTheirDetails(t *testing.T) {
	secret := errors.New("secret")
	if f := frameError(refuse(secret)); codes.Code(f.Code) != codes.Internal || f.Reason != "INTERNAL" || f.Message != bug {
		t.Errorf("a bug in a frame: %v", f)
	}
}

func TestNoVerdict(t *testing.T) {
	shutdown := &task.Failure{Reason: task.CancelShutdown, Message: "stopping"}
	for _, c := range []struct {
		o    task.Outcome
		want refused
		meta map[string]string
	}{
		{task.Outcome{State: task.Expired}, refused{codes.DeadlineExceeded, "TASK_EXPIRED", "", false}, map[string]string{"state": "QUEUED", "attempts": "0"}},
		{task.Outcome{State: task.Expired, WasRunning: true, Attempt: 2}, refused{codes.DeadlineExceeded, "TASK_EXPIRED", "", false}, map[string]string{"state": "RUNNING", "attempts": "2"}},
		{task.Outcome{State: task.Cancelled}, refused{codes.Canceled, "TASK_CANCELLED", "", false}, nil},
		{task.Outcome{State: task.Cancelled, Failure: shutdown, Attempt: 1}, refused{codes.Unavailable, "DRAINING", "", true}, map[string]string{"attempts": "1"}},
	} {
		if got := wants(t, noVerdict(&c.o), c.want); fmt.Sprint(got) != fmt.Sprint(c.meta) {
			t.Errorf("%+v: metadata %v, want %v", c.o, got, c.meta)
		}
	}
	for _, o := range []task.Outcome{{State: task.Succeeded}, {State: task.Failed, Failure: shutdown}} {
		if r := noVerdict(&o); r != nil {
			t.Errorf("%v is a verdict, and became %v", o.State, r)
		}
	}
}
