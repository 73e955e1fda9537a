package legacy

import (
	"context"
	"errors"
	"strings"

	"reparto/client"
)

// errorPrefix begins the data of a task that failed. It is how the protocol
// tells a failure from a result, and so it can't tell a failure from a result
// that begins like one.
const errorPrefix = "ERROR: "

// reply is what is to be told to a client about one task.
type reply struct {
	id     string
	result []byte
	err    error
	size   int // what the task counts for in MaxInFlightBytes
}

// appendReply appends the RESULT line for p, and reports whether it is an ERROR.
func appendReply(b []byte, p *reply) (line []byte, failed bool) {
	if p.err != nil {
		return appendMessage(b, verbResult, p.id, errorPrefix+errorText(p.err)), true
	}
	data, err := oneLine(p.result)
	if err != nil {
		return appendMessage(b, verbResult, p.id, errorPrefix+"the result "+err.Error()+" and can't be sent as one line of text"), true
	}
	return appendMessage(b, verbResult, p.id, data), false
}

// errorText says in one line why a task has no result: a worker's own words
// where it gave a verdict, the balancer's and its reason where there is none.
func errorText(err error) string {
	var (
		task  *client.TaskError
		fault *client.Error
	)
	switch {
	case errors.As(err, &task) && task.Message != "":
		return flatten(task.Message)
	case errors.As(err, &task):
		return flatten(task.Reason)
	case errors.Is(err, client.ErrFateUnknown):
		return "the balancer was lost after it had the task, which may have run, or not (FATE_UNKNOWN)"
	case errors.As(err, &fault) && fault.Reason == "CONTEXT_ENDED", err == context.Canceled:
		return "the text adapter is shutting down" // nobody else ends the context while a client listens
	case errors.As(err, &fault) && fault.Reason != "" && fault.Message != "":
		return flatten(fault.Message + " (" + fault.Reason + ")")
	case errors.As(err, &fault):
		return flatten(fault.Message + fault.Reason)
	}
	return flatten(err.Error())
}

// flatten makes one line of a message for people.
func flatten(s string) string {
	if strings.ContainsAny(s, "\r\n") {
		s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\r' || r == '\n' }), " ")
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// failure returns the message of data that reports a failure. `ERROR:` alone is
// what is left of an empty message once the white space around its line is gone.
func failure(data string) (message string, failed bool) {
	if data == strings.TrimRight(errorPrefix, " ") {
		return "", true
	}
	return strings.CutPrefix(data, errorPrefix)
}
