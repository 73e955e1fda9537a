package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode"

	"google.golang.org/grpc/codes"

	"reparto/client"
	"reparto/internal/cli"
	"reparto/worker"
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

func TestJSONOutput(t *testing.T) {
	b := startBalancer(t, worker.Handlers{"bytes": func(context.Context, worker.Task) ([]byte, error) { return []byte{0xff, 0}, nil }})
	for _, c := range []struct{ args, want string }{
		{"--id a sum 1,2", `{"task_id":"a","function":"sum","text":"3","attempt":1,"worker_id":"w1"}`},
		{"--id b bytes x", `{"task_id":"b","function":"bytes","result":"/wA=","attempt":1,"worker_id":"w1"}`},
		{"--id d echo <&>", `{"task_id":"d","function":"echo","text":"<&>","attempt":1,"worker_id":"w1"}`},
		{"--id c sum x", `{"task_id":"c","function":"sum","error":{"reason":"HANDLER_ERROR","message":"invalid literal for int() with base 10: 'x'"},"attempt":1,"worker_id":"w1"}`},
	} {
		_, out, _ := submit(t, b, "", append([]string{"--output", "json"}, strings.Fields(c.args)...)...)
		if out != c.want+"\n" {
			t.Errorf("%s: got %s, want %s", c.args, out, c.want)
		}
	}
	code, out, _ := submit(t, b, "", "--output", "json", "--fail-fast", "nobody", "x")
	var got object
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != cli.Failed || got.Error == nil || got.Error.Code != "UNAVAILABLE" || got.Error.Reason != "NO_WORKER" || got.Text != nil {
		t.Errorf("exit code %d, %s", code, out)
	}
	if _, out, _ = submit(t, b, "", "--output", "json", "echo", ""); !strings.Contains(out, `"text":""`) {
		t.Errorf("an empty result is %s", out)
	}
}

// A worker's words can't move the cursor or clear the screen.
func TestWhatAWorkerSaysStaysText(t *testing.T) {
	err := &client.TaskError{Reason: "R\x1b[2J", Message: "one\ntwo\x1b]0;title\a\u202e", WorkerID: "w\x00"}
	for _, got := range []string{explain(err), oneLine(err.Error())} {
		if strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q holds what does not print", got)
		}
	}
}
