package worker

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"
)

// Options tune a worker. The zero value works.
type Options struct {
	// ID names the worker, [A-Za-z0-9._:@-]{1,128}. Two workers under one ID push
	// each other out: the later one stays. Empty: the host's name and eight random
	// hexadecimal digits, new for each Run.
	ID string
	// Slots is how many handlers run at once, 1 to 65536. 0: 512, which does not
	// throttle short tasks; set it lower when each task needs much of something,
	// e.g. to runtime.NumCPU() for work that computes.
	Slots int
	// Prefetch is how many more tasks than Slots the worker takes, so that the
	// next one is already here when a handler returns. They wait here, out of the
	// reach of other workers: worth it for very short tasks only. Slots and
	// Prefetch together are at most 65536. 0: none.
	Prefetch int
	// Labels and Build (the worker's version) are shown to operators. Labels have
	// at most 64 entries and 16 KiB, Build at most 1024 bytes.
	Labels map[string]string
	Build  string
	// Log gets what happens: sessions at INFO, what goes wrong at WARN and ERROR,
	// every task at DEBUG. nil: nothing is logged.
	Log *slog.Logger
	// DrainTimeout is how long the worker may go on with what it holds once ctx
	// has ended. After that, the contexts of the handlers are cancelled, tasks that
	// wait for a slot are given back, and a second later Run returns, with
	// whatever is not finished left behind. It also bounds how long Run waits for
	// handlers that it had to cancel because of an error. 0: no limit; negative:
	// refused.
	DrainTimeout time.Duration
	// OnRegistered is called after each registration, so once more after each
	// break. It is called from the loop that hands out tasks: it must not block.
	// nil: not called.
	OnRegistered func(Registration)
	// TracerProvider has the worker make an OpenTelemetry span, of kind CONSUMER,
	// around each call of a handler: a child of the span that the task's metadata
	// name (traceparent, tracestate). The handler's context has it, so that spans
	// of its own become children. A failure is the span's status. nil: no spans, at
	// no cost.
	TracerProvider trace.TracerProvider
}

// Registration tells of a session that the balancer has accepted.
type Registration struct {
	// WorkerID is the worker's name, as in Options.ID.
	WorkerID string
	// SessionID names the session in the balancer's log.
	SessionID string
	// ServerID names the run of the balancer; another one after its restart.
	ServerID string
	// Address is what was dialled, as far as the connection tells.
	Address string
}

const (
	defaultSlots     = 512
	maxSlots         = 65536
	maxFunctions     = 256
	maxNameLen       = 128
	maxLabels        = 64
	maxLabelBytes    = 16 << 10
	maxBuildLen      = 1024
	functionSpecials = "._/-"
	workerIDSpecials = "._:@-"
)

// complete validates and fills in the defaults. The result shares nothing that
// its caller might still change.
func (o Options) complete(h Handlers) (Options, error) {
	if err := o.validate(h); err != nil {
		return o, fmt.Errorf("worker: %w", err)
	}
	if o.ID == "" {
		o.ID = randomID()
	}
	if o.Slots == 0 {
		o.Slots = min(defaultSlots, maxSlots-o.Prefetch)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Labels = maps.Clone(o.Labels)
	return o, nil
}

func (o *Options) validate(h Handlers) error {
	if len(h) == 0 {
		return fmt.Errorf("no handlers: a worker offers 1 to %d functions", maxFunctions)
	}
	if len(h) > maxFunctions {
		return fmt.Errorf("%d handlers: a worker offers at most %d functions", len(h), maxFunctions)
	}
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if err := checkName("function", name, functionSpecials); err != nil {
			return err
		}
		if h[name] == nil {
			return fmt.Errorf("function %q has a nil handler", name)
		}
	}
	if o.ID != "" {
		if err := checkName("Options.ID", o.ID, workerIDSpecials); err != nil {
			return err
		}
	}
	switch {
	case o.Slots < 0 || o.Slots > maxSlots:
		return fmt.Errorf("Options.Slots is %d: give 1 to %d, or 0 for %d", o.Slots, maxSlots, defaultSlots)
	case o.Prefetch < 0 || o.Prefetch > maxSlots-max(o.Slots, 1):
		return fmt.Errorf("Options.Prefetch is %d: Slots and Prefetch together are at most %d", o.Prefetch, maxSlots)
	case o.DrainTimeout < 0:
		return fmt.Errorf("Options.DrainTimeout is %v: give a time, or 0 for no limit", o.DrainTimeout)
	case len(o.Build) > maxBuildLen || !utf8.ValidString(o.Build):
		return fmt.Errorf("Options.Build: at most %d bytes of UTF-8 are allowed", maxBuildLen)
	}
	return checkLabels(o.Labels)
}

func checkName(what, s, specials string) error {
	if s == "" || len(s) > maxNameLen {
		return fmt.Errorf("%s %q has %d characters: give 1 to %d", what, cut(s, maxNameLen), len(s), maxNameLen)
	}
	if i := strings.IndexFunc(s, func(c rune) bool { return !nameRune(c, specials) }); i >= 0 {
		c, _ := utf8.DecodeRuneInString(s[i:])
		return fmt.Errorf("%s %q has %q in it: letters, digits and %s are allowed", what, s, c, specials)
	}
	return nil
}

func nameRune(c rune, specials string) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune(specials, c)
}

func checkLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return fmt.Errorf("Options.Labels has %d entries: at most %d are allowed", len(labels), maxLabels)
	}
	size := 0
	for k, v := range labels {
		if k == "" || !utf8.ValidString(k) || !utf8.ValidString(v) {
			return fmt.Errorf("Options.Labels: the entry %q=%q needs a key, and both must be UTF-8", k, v)
		}
		size += len(k) + len(v)
	}
	if size > maxLabelBytes {
		return fmt.Errorf("Options.Labels has %d bytes: at most %d are allowed", size, maxLabelBytes)
	}
	return nil
}

// randomID is the host's name, so that a person knows the worker, and a random
// part, so that no other bears it.
func randomID() string {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return idFor(host)
}

func idFor(host string) string {
	host = strings.Map(func(c rune) rune {
		if nameRune(c, workerIDSpecials) {
			return c
		}
		return -1
	}, host)
	if host == "" {
		host = "worker"
	}
	var random [4]byte
	rand.Read(random[:]) // never fails
	return cut(host, maxNameLen-9) + "-" + hex.EncodeToString(random[:])
}

// cut returns the first n bytes of s at most, and no broken character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
