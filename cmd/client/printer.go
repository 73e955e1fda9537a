package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode/utf8"

	rpccode "google.golang.org/genproto/googleapis/rpc/code"

	"reparto/client"
	"reparto/internal/cli"
)

// maxSummary is how many results the summary of --log classic lists.
const maxSummary = 10_000

// printer writes results in the order in which it gets them.
type printer struct {
	out      *bufio.Writer
	stdout   *watched // under out
	stderr   io.Writer
	function string
	json     *json.Encoder // nil for text
	classic  bool          // the lines come from the log: print nothing here
	bar      *bar

	count   int // tasks
	failed  int
	summary []string
}

func newPrinter(stdout *watched, stderr io.Writer, f *submitFlags, function string) *printer {
	p := &printer{out: bufio.NewWriterSize(stdout, 64<<10), stdout: stdout, stderr: stderr, function: function, classic: f.log.Classic()}
	if f.output.Value == "json" {
		p.json = json.NewEncoder(p.out)
		p.json.SetEscapeHTML(false)
	}
	return p
}

// result prints how a task ended. The error is one of writing.
func (p *printer) result(e *entry) error {
	p.count++
	if e.err != nil {
		p.failed++
	}
	p.bar.add()
	if p.classic {
		p.remember(e)
		return p.stdout.failed()
	}
	if e.err != nil {
		p.bar.hide()
		// There is nobody to tell when this fails.
		_, _ = fmt.Fprintf(p.stderr, "task %d: %s\n", p.count, explain(e.err))
	}
	if p.json != nil {
		return p.json.Encode(p.object(e))
	}
	if e.err != nil {
		_, err := p.out.WriteString("ERROR: " + oneLine(e.err.Error()) + "\n")
		return err
	}
	_, err := p.out.Write(e.out.Result)
	if err == nil && !bytes.HasSuffix(e.out.Result, []byte("\n")) {
		err = p.out.WriteByte('\n')
	}
	return err
}

func (p *printer) remember(e *entry) {
	if len(p.summary) < maxSummary {
		text := string(e.out.Result)
		if e.err != nil {
			text = "ERROR: " + e.err.Error()
		}
		p.summary = append(p.summary, text)
	}
}

// flush shows what was printed.
func (p *printer) flush() error {
	if p.out.Buffered() > 0 {
		p.bar.hideForResults()
	}
	err := p.out.Flush()
	p.bar.show()
	return err
}

// finish shows the rest, and returns what the command ends with.
func (p *printer) finish() error {
	if err := p.flush(); err != nil {
		return err
	}
	p.bar.close()
	if p.failed == 0 {
		return nil
	}
	if p.count == 1 || p.classic {
		return cli.Exit(cli.Failed, nil)
	}
	return cli.Exit(cli.Failed, fmt.Errorf("%d of %d tasks failed", p.failed, p.count))
}

// object is a task's outcome as --output json has it.
type object struct {
	TaskID   string       `json:"task_id,omitempty"`
	Function string       `json:"function"`
	Text     *string      `json:"text,omitempty"`
	Result   []byte       `json:"result,omitempty"` // when it is not UTF-8
	Error    *errorObject `json:"error,omitempty"`
	Attempt  int          `json:"attempt,omitempty"`
	WorkerID string       `json:"worker_id,omitempty"`
}

// errorObject says why there is no result. Without code it is a worker's
// verdict, with it the balancer has none.
type errorObject struct {
	Code    string `json:"code,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message"`
	Retry   bool   `json:"retry,omitempty"` // another try may help
}

func (p *printer) object(e *entry) *object {
	o := &object{TaskID: e.out.TaskID, Function: p.function, Attempt: e.out.Attempt, WorkerID: e.out.WorkerID}
	failed, verdict := errors.AsType[*client.TaskError](e.err)
	broken, none := errors.AsType[*client.Error](e.err)
	switch {
	case verdict:
		o.TaskID, o.Attempt, o.WorkerID = failed.TaskID, failed.Attempt, failed.WorkerID
		o.Error = &errorObject{Reason: failed.Reason, Message: failed.Message, Retry: failed.Retry}
	case none:
		if broken.TaskID != "" {
			o.TaskID = broken.TaskID
		}
		o.Error = &errorObject{Code: code(broken), Reason: broken.Reason, Message: broken.Message, Retry: broken.RetryAfter > 0}
	case e.err != nil:
		o.Error = &errorObject{Code: "INVALID_ARGUMENT", Reason: "PAYLOAD_TOO_LARGE", Message: e.err.Error()}
	case utf8.Valid(e.out.Result):
		text := string(e.out.Result)
		o.Text = &text
	default:
		o.Result = e.out.Result
	}
	return o
}

// code names a status as the contract does: INVALID_ARGUMENT.
func code(err *client.Error) string { return rpccode.Code(err.Code).String() }

// explain is an error with all that is known of it, for people.
func explain(err error) string {
	text := oneLine(err.Error())
	if e, ok := errors.AsType[*client.TaskError](err); ok {
		text += " (" + clean(e.Reason)
		if e.Attempt > 0 {
			text += fmt.Sprintf(", attempt %d", e.Attempt)
		}
		if e.WorkerID != "" {
			text += ", worker " + clean(e.WorkerID)
		}
		return text + ")"
	}
	if e, ok := errors.AsType[*client.Error](err); ok {
		if e.Reason == "" {
			return text + " (" + code(e) + ")"
		}
		return text + " (" + code(e) + ", " + clean(e.Reason) + ")"
	}
	return text
}

// watched is a writer that remembers its first error, for those who write
// through a log, which drops it.
type watched struct {
	mu  sync.Mutex
	w   io.Writer
	err error
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	return n, err
}

func (w *watched) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// oneLine keeps a message on its line, and what does not print out of a terminal: a
// worker may have put anything into it.
func oneLine(s string) string {
	return clean(strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), " "))
}
