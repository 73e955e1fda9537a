package legacy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// A verb is a message's first field.
type verb string

const (
	verbTask       verb = "TASK"
	verbResult     verb = "RESULT"
	verbRegister   verb = "REGISTER"
	verbAck        verb = "ACK"
	verbAssign     verb = "ASSIGN_TASK"
	verbTaskResult verb = "TASK_RESULT"
)

// message is one line of the protocol, taken apart. id and data point into the
// line that they were parsed from.
type message struct {
	verb verb
	id   []byte
	// data is the rest of the line and may hold '|'. REGISTER and ACK have none.
	data []byte
}

var (
	errNotUTF8 = errors.New("is not valid UTF-8")
	errVerb    = errors.New("does not begin with a verb of the protocol and '|'")
)

// parse takes a line apart; the white space around it does not count. The error
// says what is wrong with the line, to be read after "the line".
func parse(line []byte) (message, error) {
	line = bytes.TrimSpace(line)
	if !utf8.Valid(line) {
		return message{}, errNotUTF8
	}
	head, rest, found := bytes.Cut(line, []byte{'|'})
	v := knownVerb(head)
	if !found || v == "" {
		return message{}, errVerb
	}
	if v == verbRegister || v == verbAck {
		if bytes.IndexByte(rest, '|') >= 0 {
			return message{}, fmt.Errorf("has more than the two fields of %s|worker_id", v)
		}
		return message{verb: v, id: rest}, nil
	}
	id, data, found := bytes.Cut(rest, []byte{'|'})
	if !found {
		return message{}, fmt.Errorf("has two fields; it must be %s|task_id|data", v)
	}
	return message{verb: v, id: id, data: data}, nil
}

// knownVerb returns the verb that head spells, or "".
func knownVerb(head []byte) verb {
	switch v := verb(head); v { // does not allocate: the string does not escape
	case verbTask:
		return verbTask
	case verbResult:
		return verbResult
	case verbRegister:
		return verbRegister
	case verbAck:
		return verbAck
	case verbAssign:
		return verbAssign
	case verbTaskResult:
		return verbTaskResult
	}
	return ""
}

// selfContained reports whether a message without a line end can be taken for
// whole once its sender has gone quiet: it parses, and it names somebody.
func selfContained(line []byte) bool {
	m, err := parse(line)
	return err == nil && len(m.id) > 0
}

// appendMessage appends the line `verb|id|data\n`.
func appendMessage[D []byte | string](b []byte, v verb, id string, data D) []byte {
	b = slices.Grow(b, len(v)+len(id)+len(data)+len("||\n"))
	b = appendShort(b, v, id)
	b[len(b)-1] = '|'
	b = append(b, data...)
	return append(b, '\n')
}

// appendShort appends the line `verb|id\n`.
func appendShort(b []byte, v verb, id string) []byte {
	b = append(b, v...)
	b = append(b, '|')
	b = append(b, id...)
	return append(b, '\n')
}

// errLineBreak is why a text can't travel as the last field of a line.
var errLineBreak = errors.New("holds a line break")

// oneLine returns data as it can travel in the last field of a line, without
// the line breaks at its end, which the protocol does not preserve anyway. A
// line break within would be read as the end of the message, and changing it
// into something else would falsify the data unseen: so that is an error, as is
// what is not UTF-8. The error is to be read after "the result" and the like.
func oneLine(data []byte) ([]byte, error) {
	data = bytes.TrimRight(data, "\r\n")
	if bytes.ContainsAny(data, "\r\n") {
		return nil, errLineBreak
	}
	if !utf8.Valid(data) {
		return nil, errNotUTF8
	}
	return data, nil
}
