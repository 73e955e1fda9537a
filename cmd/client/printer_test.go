package main

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/grpc/codes"

	"reparto/client"
)

func TestExplain(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&client.TaskError{Reason: "PANIC", Message: "it\nbroke", Attempt: 2, WorkerID: "w"}, "it broke (PANIC, attempt 2, worker w)"},
		{&client.TaskError{Reason: "WORKER_LOST", Message: "gone"}, "gone (WORKER_LOST)"},
		{&client.Error{Code: codes.DeadlineExceeded, Reason: "TASK_EXPIRED", Message: "late"}, "late (DEADLINE_EXCEEDED, TASK_EXPIRED)"},
		{&client.Error{Code: codes.Canceled, Message: "odd"}, "odd (CANCELLED)"},
		{errors.New("plain"), "plain"},
	} {
		if got := explain(c.err); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestSummaryIsBounded(t *testing.T) {
	var out, errs bytes.Buffer
	p := &printer{stdout: &watched{w: &out}, stderr: &errs, classic: true}
	for range maxSummary + 5 {
		if err := p.result(&entry{out: client.Outcome{Result: []byte("x")}}); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.summary) != maxSummary || p.count != maxSummary+5 {
		t.Errorf("%d results are kept of %d", len(p.summary), p.count)
	}
}
