package auth

import (
	"regexp"
	"strings"
)

// Principal is who a caller is and what it may do, by one state of the file.
// Nobody changes it.
type Principal struct {
	Name   string
	Limits Limits

	submit, work []pattern
	administer   bool
}

// Limits of one principal. 0 means the balancer's default for everybody. In the
// file their names are those of the fields in lower case, such as tasks_in_flight;
// all are from 0 to 1e9, QueuedBytes to 1e15.
type Limits struct {
	// Connections and Streams are how many it may have open at a time.
	Connections, Streams int
	// TasksInFlight bounds its tasks without an outcome.
	TasksInFlight int
	// TasksPerSecond is how many it may bring, after the first Burst.
	TasksPerSecond float64
	Burst          int
	// QueuedBytes bounds the payloads of its tasks that wait.
	QueuedBytes int64
}

func (l *Limits) read(n node) error {
	f, err := n.fields("connections", "streams", "tasks_in_flight", "tasks_per_second", "burst", "queued_bytes")
	if err != nil {
		return err
	}
	for name, v := range f {
		var count int64
		switch name {
		case "queued_bytes":
			l.QueuedBytes, err = v.count(1e15)
		case "tasks_per_second":
			l.TasksPerSecond, err = v.rate(1e9)
		default:
			count, err = v.count(1e9)
		}
		if err != nil {
			return err
		}
		switch name {
		case "connections":
			l.Connections = int(count)
		case "streams":
			l.Streams = int(count)
		case "tasks_in_flight":
			l.TasksInFlight = int(count)
		case "burst":
			l.Burst = int(count)
		}
	}
	return nil
}

// MaySubmit reports whether it may submit tasks for the function.
func (p *Principal) MaySubmit(function string) bool { return anyMatches(p.submit, function) }

// MayWork reports whether it may run tasks of the function.
func (p *Principal) MayWork(function string) bool { return anyMatches(p.work, function) }

// MaySubmitAny reports whether there is any function that it may submit for.
func (p *Principal) MaySubmitAny() bool { return len(p.submit) > 0 }

// MayWorkAny reports whether there is any function that it may work for.
func (p *Principal) MayWorkAny() bool { return len(p.work) > 0 }

// Administers reports whether it may see everything and step in.
func (p *Principal) Administers() bool { return p.administer }

// pattern matches names: * stands for any characters, also none, and everything
// else for itself. It is kept cut at its stars.
type pattern []string

func newPattern(s string) pattern { return strings.Split(s, "*") }

// functions is what a pattern of names of functions is made of: of anything else
// it would match none.
var functions = regexp.MustCompile(`^[A-Za-z0-9._/*-]{1,128}$`)

func patterns(n node) ([]pattern, error) {
	var found []pattern
	return found, each(n, func(n node) error {
		text, err := n.text()
		if err != nil {
			return err
		}
		if !functions.MatchString(text) {
			return n.errorf("is %.140q, which no function is called; want 1 to 128 letters, digits and . _ / -, and * for any of them", text)
		}
		found = append(found, newPattern(text))
		return nil
	})
}

func anyMatches(patterns []pattern, s string) bool {
	for _, p := range patterns {
		if p.matches(s) {
			return true
		}
	}
	return false
}

func (p pattern) matches(s string) bool {
	last := len(p) - 1
	if last == 0 {
		return s == p[0]
	}
	s, ok := strings.CutPrefix(s, p[0])
	if !ok {
		return false
	}
	for _, part := range p[1:last] {
		i := strings.Index(s, part) // the first is as good as any: a star follows
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return strings.HasSuffix(s, p[last])
}
