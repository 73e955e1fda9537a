package worker

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"

	pb "reparto/gen/reparto/v1"
)

// reports returns what the worker has told so far, by token.
func (k *talk) reports() map[uint64][]*pb.Progress {
	synctest.Wait()
	all := map[uint64][]*pb.Progress{}
	for len(k.in) > 0 {
		m := <-k.in
		for _, p := range m.GetProgress() {
			all[p.GetToken()] = append(all[p.GetToken()], p)
		}
		k.held = append(k.held, m.GetTaskResults()...)
	}
	return all
}

func TestProgressReachesTheBalancer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := newBalancer(t), newGate()
		w := start(t, b, Handlers{"f": func(ctx context.Context, task Task) ([]byte, error) {
			derived, stop := context.WithCancel(ctx)
			defer stop()
			ReportProgress(derived, 12.5, "reading")
			return g.handle(ctx, task)
		}}, Options{})
		k := b.accept(t)
		k.assign("f", 7)
		<-g.entered
		if got := k.reports()[7]; len(got) != 1 || got[0].GetPercent() != 12.5 || got[0].GetMessage() != "reading" {
			t.Errorf("told %v", got)
		}
		close(g.open)
		wantResult(t, k.answer(), 7, "done")
		w.stop()
		k.goodbye()
		w.wantNil()
	})
}

func TestProgressIsToldAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, step := newBalancer(t), make(chan string)
		w := start(t, b, Handlers{"f": func(ctx context.Context, _ Task) ([]byte, error) {
			for message := range step {
				ReportProgress(ctx, 50, message)
			}
			return nil, nil
		}}, Options{})
		k := b.accept(t)
		k.assign("f", 7)
		for _, message := range []string{"reading", "writing", "writing"} {
			step <- message
			if got := k.reports()[7]; len(got) != 1 || got[0].GetMessage() != message {
				t.Errorf("told %v, want %s", got, message)
			}
		}
		close(step)
		k.answer()
		w.stop()
		k.goodbye()
		w.wantNil()
	})
}

func TestTheLastWordOfProgressCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := newBalancer(t), newGate()
		told := make(chan struct{})
		w := start(t, b, Handlers{"f": func(ctx context.Context, task Task) ([]byte, error) {
			g.entered <- task
			<-told
			for i := range 100 {
				ReportProgress(ctx, float64(i), fmt.Sprint(i))
			}
			return g.handle(ctx, task)
		}}, Options{Slots: 300})
		k := b.accept(t)
		for token := range uint64(300) {
			k.assign("f", token)
			<-g.entered
		}
		b.hold(k)
		close(told) // they report while there is no connection
		k = b.accept(t)
		got := k.reports()
		for token := range uint64(300) {
			if p := got[token]; len(p) != 1 || p[0].GetMessage() != "99" {
				t.Fatalf("of token %d it told %v, want the last report only", token, p)
			}
		}
		close(g.open)
		for range 300 {
			k.answer()
		}
		w.stop()
		k.goodbye()
		w.wantNil()
	})
}

func TestProgressIsMadeFitForTheWire(t *testing.T) {
	for _, c := range []struct {
		percent float64
		message string
		want    float64
		wantLen int
	}{
		{-1, "", 0, 0}, {101, "", 100, 0}, {math.NaN(), "", 0, 0}, {math.Inf(1), "", 100, 0},
		{50, strings.Repeat("x", 1024), 50, 1024}, {50, strings.Repeat("é", 513), 50, 1024}, {50, "\xff", 50, 3},
	} {
		p := poolWith(t, 1)
		j := p.find(1)
		j.state = running
		ReportProgress(j, c.percent, c.message)
		if got := j.progress; got.GetPercent() != c.want || len(got.GetMessage()) != c.wantLen {
			t.Errorf("%v, %d bytes became %v, %d bytes", c.percent, len(c.message), got.GetPercent(), len(got.GetMessage()))
		}
	}
}

func TestProgressOutsideARunningHandlerIsNothing(t *testing.T) {
	ReportProgress(t.Context(), 50, "nobody")
	p := poolWith(t, 1)
	ReportProgress(p.find(1), 50, "finished")
	if len(p.news) > 0 {
		t.Error("a finished task has news")
	}
}
