package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	pb "reparto/gen/reparto/v1"
)

func TestErrorsBecomeFailures(t *testing.T) {
	plain := errors.New("disk is full")
	for name, c := range map[string]struct {
		err  error
		want *pb.Failure
	}{
		"plain":         {plain, &pb.Failure{Reason: "HANDLER_ERROR", Message: "disk is full"}},
		"retry":         {Retry(plain, 0), &pb.Failure{Reason: "HANDLER_ERROR", Message: "disk is full", Retry: true}},
		"retry later":   {Retry(plain, 1500*time.Microsecond), &pb.Failure{Reason: "HANDLER_ERROR", Message: "disk is full", Retry: true, RetryAfterMs: 2}},
		"retry never":   {Retry(plain, -time.Second), &pb.Failure{Reason: "HANDLER_ERROR", Message: "disk is full", Retry: true}},
		"fatal":         {Fatal(Retry(plain, time.Second)), &pb.Failure{Reason: "HANDLER_ERROR", Message: "disk is full"}},
		"fatal inside":  {Retry(Fatal(plain), time.Second), &pb.Failure{Reason: "HANDLER_ERROR", Message: "disk is full", Retry: true, RetryAfterMs: 1000}},
		"reason":        {Fail("NO_SPACE", plain), &pb.Failure{Reason: "NO_SPACE", Message: "disk is full"}},
		"reason, retry": {Fail("NO_SPACE", Retry(plain, time.Second)), &pb.Failure{Reason: "NO_SPACE", Message: "disk is full", Retry: true, RetryAfterMs: 1000}},
		"retry, reason": {Retry(Fail("NO_SPACE", plain), time.Second), &pb.Failure{Reason: "NO_SPACE", Message: "disk is full", Retry: true, RetryAfterMs: 1000}},
		"wrapped":       {fmt.Errorf("save: %w", Fail("NO_SPACE", plain)), &pb.Failure{Reason: "NO_SPACE", Message: "save: disk is full"}},
		"empty reason":  {Fail("", plain), &pb.Failure{Reason: "HANDLER_ERROR", Message: "disk is full"}},
		"not UTF-8":     {Fail("A\xffB", errors.New("x\xffy")), &pb.Failure{Reason: "A?B", Message: "x\uFFFDy"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBalancer(t)
				w := start(t, b, Handlers{"f": func(context.Context, Task) ([]byte, error) { return []byte("ignored"), c.err }}, Options{})
				k := b.accept(t)
				k.assign("f", 1)
				r := k.answer()
				f := r.GetFailure()
				if f.GetReason() != c.want.Reason || f.GetMessage() != c.want.Message || f.GetRetry() != c.want.Retry ||
					f.GetRetryAfterMs() != c.want.RetryAfterMs || len(r.GetResult()) > 0 {
					t.Errorf("answered %v, want %v", r, c.want)
				}
				w.stop()
				k.goodbye()
				w.wantNil()
			})
		})
	}
}

func TestWrappersOfNothingAreNothing(t *testing.T) {
	for _, err := range []error{Retry(nil, time.Second), Fatal(nil), Fail("X", nil), Abandon(nil)} {
		if err != nil {
			t.Errorf("got %v", err)
		}
	}
}

func TestWrappersKeepTheError(t *testing.T) {
	plain := errors.New("disk is full")
	for _, err := range []error{Retry(plain, time.Second), Fatal(plain), Fail("X", plain), Abandon(plain)} {
		if !errors.Is(err, plain) || err.Error() != plain.Error() {
			t.Errorf("got %v", err)
		}
	}
}

func TestLongTextsAreCut(t *testing.T) {
	f := newFailure(strings.Repeat("R", 200), strings.Repeat("é", 5000))
	if len(f.Reason) != 128 || len(f.Message) != 8<<10 || !utf8.ValidString(f.Message) {
		t.Errorf("%d bytes of reason, %d of message", len(f.Reason), len(f.Message))
	}
}
