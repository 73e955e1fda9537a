package functions

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"reparto/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBuiltInNames(t *testing.T) {
	if got := slices.Sorted(maps.Keys(BuiltIn())); !slices.Equal(got, []string{"echo", "sleep", "sum"}) {
		t.Errorf("got %v", got)
	}
}

func TestEchoGivesBytesBack(t *testing.T) {
	got, err := Echo(t.Context(), worker.Task{Payload: []byte("a\x00\xff|b")})
	if err != nil || string(got) != "a\x00\xff|b" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestSleepTakesItsTime(t *testing.T) {
	for payload, want := range map[string]string{"250ms": "250ms", " 90s\n": "1m30s", "0": "0s", "1h": "1h0m0s"} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			got, err := Sleep(t.Context(), worker.Task{Payload: []byte(payload)})
			if err != nil || string(got) != want || time.Since(start).String() != want {
				t.Errorf("sleep %q: got %q, %v after %v; want %s", payload, got, err, time.Since(start), want)
			}
		})
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	gone := errors.New("nobody wants it")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(gone) })
		_, err := Sleep(ctx, worker.Task{Payload: []byte("1h")})
		if !errors.Is(err, gone) {
			t.Errorf("got %v, want the context's cause", err)
		}
	})
}

func TestSleepRefusesWhatIsNoDuration(t *testing.T) {
	for _, payload := range []string{"", "5", "soon", "-1s", "1s\x00"} {
		_, err := Sleep(t.Context(), worker.Task{Payload: []byte(payload)})
		if err == nil || !strings.Contains(err.Error(), "250ms") {
			t.Errorf("sleep %q: got %v, want an error that shows what to give", payload, err)
		}
	}
}
