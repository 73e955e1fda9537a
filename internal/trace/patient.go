package trace

import (
	"context"
	"log/slog"
	"sync"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

const (
	tries    = 3
	pause    = time.Second // before the second try; twice as long before the third
	logEvery = time.Minute
)

// patient is an exporter that tries again for a few seconds, so that a collector may
// be restarted, and that says once in a while that spans are lost. The batch
// processor calls it from one goroutine.
type patient struct {
	sdk.SpanExporter
	log     *slog.Logger
	leaving chan struct{}
	left    sync.Once

	lost   int       // spans, since it was last said
	logged time.Time // when it was last said; zero while all is well
}

func newPatient(e sdk.SpanExporter, log *slog.Logger) *patient {
	return &patient{SpanExporter: e, log: log, leaving: make(chan struct{})}
}

// leave has it try nothing twice from now on.
func (p *patient) leave() { p.left.Do(func() { close(p.leaving) }) }

// ExportSpans implements sdk.SpanExporter. An error is logged here, once in a
// while, and not returned: whoever got it would log each.
func (p *patient) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := p.SpanExporter.ExportSpans(ctx, spans)
	for n := 1; err != nil && n < tries && p.wait(ctx, time.Duration(n)*pause); n++ {
		err = p.SpanExporter.ExportSpans(ctx, spans)
	}
	if err == nil {
		if !p.logged.IsZero() {
			p.log.Info("traces are sent again", "spans_lost", p.lost)
			p.logged, p.lost = time.Time{}, 0
		}
		return nil
	}
	p.lost += len(spans)
	if now := time.Now(); p.logged.IsZero() || now.Sub(p.logged) >= logEvery {
		p.log.Warn("traces can't be sent, and are lost; tasks go on", "error", err, "spans_lost", p.lost)
		p.logged, p.lost = now, 0
	}
	return nil
}

// wait reports whether there is time for another try.
func (p *patient) wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.leaving:
	case <-ctx.Done():
	}
	return false
}

// quiet logs what the SDK complains of, each complaint once a minute at most. It may
// be called concurrently.
type quiet struct {
	log *slog.Logger

	mu     sync.Mutex
	logged map[string]time.Time // at most maxComplaints
}

const maxComplaints = 100

func newQuiet(log *slog.Logger) *quiet { return &quiet{log: log, logged: map[string]time.Time{}} }

// Handle implements otel.ErrorHandler.
func (q *quiet) Handle(err error) {
	now, complaint := time.Now(), err.Error()
	q.mu.Lock()
	defer q.mu.Unlock()
	if last, said := q.logged[complaint]; said && now.Sub(last) < logEvery {
		return
	}
	if len(q.logged) >= maxComplaints {
		clear(q.logged)
	}
	q.logged[complaint] = now
	q.log.Warn("traces", "error", err)
}
