package legacy

import (
	"context"
	"errors"
	"strings"
	"testing"

	"reparto/client"
)

func TestErrorText(t *testing.T) {
	for want, err := range map[string]error{
		"no":                             &client.TaskError{Reason: "HANDLER_ERROR", Message: "no"},
		"a b":                            &client.TaskError{Message: "a\r\n\nb\n"},
		"WORKER_LOST":                    &client.TaskError{Reason: "WORKER_LOST"},
		"the queue is full (QUEUE_FULL)": &client.Error{Reason: "QUEUE_FULL", Message: "the queue is full"},
		"gone":                           &client.Error{Message: "gone"},
		"x \uFFFD":                       errors.New("x \xff"),
	} {
		if got := errorText(err); got != want {
			t.Errorf("%v: got %q, want %q", err, got, want)
		}
	}
}

func TestErrorTextOfTheAdaptersOwn(t *testing.T) {
	const stopping = "the text adapter is shutting down"
	for _, err := range []error{context.Canceled, &client.Error{Reason: "CONTEXT_ENDED", Message: "no outcome"}} {
		if got := errorText(err); got != stopping {
			t.Errorf("%v: got %q", err, got)
		}
	}
	if got := errorText(client.ErrFateUnknown); !strings.Contains(got, "may have run, or not") {
		t.Errorf("got %q", got)
	}
}

func TestFailure(t *testing.T) {
	for data, want := range map[string]struct {
		message string
		failed  bool
	}{"ERROR: no": {"no", true}, "ERROR:": {"", true}, "ERROR:no": {"ERROR:no", false}, "15": {"15", false}, "": {"", false}} {
		if message, failed := failure(data); message != want.message || failed != want.failed {
			t.Errorf("%q: got %q, %v", data, message, failed)
		}
	}
}
