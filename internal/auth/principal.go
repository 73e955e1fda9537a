package auth

import "strings"

// Principal is who a caller is and what it may do, by one state of the file.
// Nobody changes it.
type Principal struct {
	Name   string
	Limits Limits

	submit, work []pattern
	administer   bool
}

// Limits of one principal. 0 means what holds for everybody.
type Limits struct {
	// Connections and Streams are how many it may have open at a time.
	Connections int `yaml:"connections"`
	Streams     int `yaml:"streams"`
	// TasksInFlight and QueuedBytes bound its tasks without an outcome.
	TasksInFlight int   `yaml:"tasks_in_flight"`
	QueuedBytes   int64 `yaml:"queued_bytes"`
	// TasksPerSecond is how many it may bring, after the first Burst; without a
	// Burst, as many as in a second.
	TasksPerSecond float64 `yaml:"tasks_per_second"`
	Burst          int     `yaml:"burst"`
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
