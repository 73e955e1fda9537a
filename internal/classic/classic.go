// Package classic is a log handler that writes the terminal lines of the
// programs that Reparto replaces, in Spanish and to the letter, for people and
// scripts that look for them.
//
//	log := slog.New(classic.New(os.Stdout, classic.Options{Role: classic.Worker, WorkerID: "worker_abc123"}))
//	log.Debug("result sent", "task_id", "task_xyz789")
//	// [WORKER worker_abc123] Resultado enviado para tarea task_xyz789
//
// A line comes from an event: a log record with a known message and attributes.
// The tables in lines.go are the list of them. An event is written whatever its
// level. What is no event is left out below WARN, and written in a form of its
// own from there on: nothing that went wrong is hidden.
package classic

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// Role is whose lines are written.
type Role uint8

// The three programs there were.
const (
	LoadBalancer Role = iota
	Worker
	Client
)

// Options say whose lines are written. The zero value is a load balancer's.
type Options struct {
	Role Role
	// WorkerID is shown in each line of a Worker; unused by the others.
	WorkerID string
}

// New returns a handler that writes to w, a line at a time and one Write for
// each. It may be used concurrently.
func New(w io.Writer, o Options) slog.Handler {
	out := &output{w: w, role: o.Role}
	switch o.Role {
	case LoadBalancer:
		out.prefix = "[LOAD BALANCER] "
	case Worker:
		out.prefix = "[WORKER " + printable(o.WorkerID) + "] "
	case Client:
		out.prefix = "[CLIENT] "
	}
	return &handler{out: out}
}

// output is what a handler shares with those derived from it.
type output struct {
	role   Role
	prefix string

	mu      sync.Mutex
	w       io.Writer
	started bool // "Iniciado en …" was written
}

type handler struct {
	out   *output
	attrs []slog.Attr // from With, keys with their groups
	group string      // "a.b."
}

// Enabled is always true: an event counts, not its level.
func (h *handler) Enabled(context.Context, slog.Level) bool { return true }

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.attrs = append([]slog.Attr{}, h.attrs...)
	for _, a := range attrs {
		next.attrs = appendAttr(next.attrs, h.group, a)
	}
	return &next
}

func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	next := *h
	next.group += name + "."
	return &next
}

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	e := event{message: r.Message, attrs: make([]slog.Attr, 0, r.NumAttrs()+len(h.attrs))}
	r.Attrs(func(a slog.Attr) bool {
		e.attrs = appendAttr(e.attrs, h.group, a)
		return true
	})
	// After the record's own, so that those count if a key is there twice.
	e.attrs = append(e.attrs, h.attrs...)

	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	text, known := h.out.render(e)
	if !known {
		if r.Level < slog.LevelWarn {
			return nil
		}
		text = h.out.prefix + e.readable() + "\n"
	}
	if text == "" {
		return nil
	}
	_, err := io.WriteString(h.out.w, text)
	return err
}

// appendAttr appends a, and in place of a group what is in it.
func appendAttr(attrs []slog.Attr, group string, a slog.Attr) []slog.Attr {
	a.Value = a.Value.Resolve()
	if a.Value.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, inner := range a.Value.Group() {
			attrs = appendAttr(attrs, group, inner)
		}
		return attrs
	}
	if a.Key == "" && a.Value.Any() == nil {
		return attrs
	}
	a.Key = group + a.Key
	return append(attrs, a)
}

// event is a log record, looked at by the keys of its attributes.
type event struct {
	message string
	attrs   []slog.Attr
}

// get returns the attribute as text that is fit for a line; "" if it is not
// there.
func (e event) get(key string) string {
	for _, a := range e.attrs {
		if a.Key == key {
			return text(a.Value)
		}
	}
	return ""
}

// list returns an attribute that is a list of texts.
func (e event) list(key string) []string {
	for _, a := range e.attrs {
		if l, ok := a.Value.Any().([]string); ok && a.Key == key {
			return l
		}
	}
	return nil
}

func (e event) readable() string {
	var b strings.Builder
	b.WriteString(printable(e.message))
	for _, a := range e.attrs {
		b.WriteString(" " + printable(a.Key) + "=")
		if v := text(a.Value); v == "" || strings.ContainsAny(v, " =\"") {
			b.WriteString(`"` + strings.ReplaceAll(v, `"`, `\"`) + `"`)
		} else {
			b.WriteString(v)
		}
	}
	return b.String()
}

func text(v slog.Value) string {
	if b, ok := v.Any().([]byte); ok {
		return printable(string(b))
	}
	return printable(v.String())
}
