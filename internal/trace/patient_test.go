package trace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// shaky is an exporter whose next tries fail.
type shaky struct {
	*tracetest.InMemoryExporter
	fail  int
	tries int
}

const always = 1 << 30

func (s *shaky) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	s.tries++
	if s.fail > 0 {
		s.fail--
		return errors.New("connection refused")
	}
	return s.InMemoryExporter.ExportSpans(ctx, spans)
}

func newShaky() (*shaky, *patient, *bytes.Buffer) {
	var log bytes.Buffer
	e := &shaky{InMemoryExporter: tracetest.NewInMemoryExporter()}
	return e, newPatient(e, slog.New(slog.NewTextHandler(&log, nil))), &log
}

var twoSpans = tracetest.SpanStubs{{Name: "a"}, {Name: "b"}}.Snapshots()

func TestACollectorMayBeAwayForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, p, log := newShaky()
		e.fail = 2
		if err := p.ExportSpans(t.Context(), twoSpans); err != nil {
			t.Error(err)
		}
		if n := len(e.GetSpans()); n != 2 || e.tries != 3 || log.Len() > 0 {
			t.Errorf("%d spans arrived in %d tries, and the log says %q", n, e.tries, log)
		}
	})
}

// While the collector is away it is said once a minute that spans are lost, with
// their number, and once that all is well again.
func TestLostSpansAreSaidOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, p, log := newShaky()
		e.fail = always
		for range 10 { // 15 s each, of which 3 are its own
			if err := p.ExportSpans(t.Context(), twoSpans); err != nil {
				t.Error(err) // it would be logged each time
			}
			time.Sleep(12 * time.Second)
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 3 || !strings.Contains(lines[0], "spans_lost=2") || !strings.Contains(lines[0], "connection refused") || !strings.Contains(lines[1], "spans_lost=8") {
			t.Errorf("in two and a half minutes the log says\n%s", log)
		}
		log.Reset()
		e.fail = 0
		for range 3 {
			if err := p.ExportSpans(t.Context(), twoSpans); err != nil {
				t.Error(err)
			}
		}
		if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "sent again") || !strings.Contains(got, "spans_lost=2") {
			t.Errorf("when it is back the log says %q", got)
		}
	})
}

// Who leaves does not wait for a collector that refuses.
func TestWhoLeavesTriesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, p, _ := newShaky()
		e.fail = always
		began := time.Now()
		time.AfterFunc(100*time.Millisecond, p.leave) // in mid-wait
		if err := p.ExportSpans(t.Context(), twoSpans); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 100*time.Millisecond {
			t.Errorf("it left after %v", took)
		}
		p.leave() // twice is fine
		if err := p.ExportSpans(t.Context(), twoSpans); err != nil || e.tries != 2 {
			t.Errorf("%d tries in all, %v", e.tries, err)
		}
	})
}

// A collector that takes no single batch as it is, e.g. for one span in it, is told of
// once a minute; another complaint at once.
func TestTheSameComplaintIsLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		q := newQuiet(slog.New(slog.NewTextHandler(&log, nil)))
		for range 12 { // two minutes
			q.Handle(errors.New("partial success"))
			time.Sleep(10 * time.Second)
		}
		q.Handle(errors.New("another"))
		if got := log.String(); strings.Count(got, "partial success") != 2 || strings.Count(got, "another") != 1 {
			t.Errorf("the log says\n%s", got)
		}
		for i := range 10 * maxComplaints {
			q.Handle(fmt.Errorf("number %d", i))
		}
		if n := len(q.logged); n > maxComplaints {
			t.Errorf("%d complaints are remembered", n)
		}
	})
}
