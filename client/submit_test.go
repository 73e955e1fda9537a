package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "reparto/gen/reparto/v1"
)

func TestSubmitReturnsTheOutcomeOfItsOwnTask(t *testing.T) {
	c := newTestClient(t, echoing(t))
	var done sync.WaitGroup
	for i := range 500 {
		done.Go(func() {
			want := fmt.Sprint("payload ", i)
			out, err := c.Submit(t.Context(), Task{Function: "echo", Payload: []byte(want), ID: fmt.Sprint("id", i)})
			if err != nil || string(out.Result) != want || out.TaskID != fmt.Sprint("id", i) || out.Attempt != 1 || out.WorkerID != "w" {
				t.Errorf("got %+v, %v; want %s", out, err, want)
			}
		})
	}
	done.Wait()
}

func TestSubmitSendsEverythingThatATaskSays(t *testing.T) {
	b := newBalancer(t)
	c := newTestClient(t, b)
	done := submitting(t.Context(), c, Task{
		Function: "f", Payload: []byte("p"), ID: "i", Metadata: map[string]string{"k": "v"}, Timeout: time.Hour,
		AttemptTimeout: 1500 * time.Microsecond, MaxAttempts: 7, FailFast: true,
	})
	s := b.stream()
	got := s.tasks(1)[0]
	if got.GetFunction() != "f" || string(got.GetPayload()) != "p" || got.GetTaskId() != "i" || got.GetMetadata()["k"] != "v" ||
		got.GetAttemptTimeoutMs() != 2 || got.GetMaxAttempts() != 7 || !got.GetFailFast() {
		t.Errorf("sent %v", got)
	}
	if ms := got.GetTimeoutMs(); ms > 3_600_000 || ms < 3_500_000 {
		t.Errorf("the timeout went as %d ms", ms)
	}
	s.answer(&pb.StreamOutcome{Number: got.GetNumber(), TaskId: "i"})
	if e := wait(t, done); e.err != nil {
		t.Error(e.err)
	}
}

func TestTheContextsDeadlineGoesAlong(t *testing.T) {
	b := newBalancer(t)
	c := newTestClient(t, b)
	var s *stream
	for _, test := range []struct {
		ctx, task time.Duration
		low, high int64
	}{
		{time.Minute, 0, 50_000, 60_000},
		{time.Minute, time.Hour, 50_000, 60_000},
		{time.Hour, time.Minute, 50_000, 60_000},
		{1000 * time.Hour, 0, 86_400_000, 86_400_000}, // the balancer's most, since nobody asked for more
		{0, 1000 * time.Hour, 3_599_000_000, 3_600_000_000},
		{0, 24 * time.Hour, 86_300_000, 86_400_000}, // never more than was asked
		{0, -time.Second, -1000, -1000},             // the balancer's to refuse
		{0, 0, 0, 0},
	} {
		ctx, cancel := t.Context(), context.CancelFunc(func() {})
		if test.ctx > 0 {
			ctx, cancel = context.WithTimeout(ctx, test.ctx)
		}
		submitting(ctx, c, Task{Function: "f", Timeout: test.task})
		if s == nil {
			s = b.stream()
		}
		if ms := s.tasks(1)[0].GetTimeoutMs(); ms < test.low || ms > test.high {
			t.Errorf("context %v, task %v: sent %d ms", test.ctx, test.task, ms)
		}
		cancel()
	}
}

func TestAFailureIsATaskError(t *testing.T) {
	b := newBalancer(t)
	c := newTestClient(t, b)
	done := submitting(t.Context(), c, Task{Function: "f"})
	s := b.stream()
	s.answer(&pb.StreamOutcome{Number: s.tasks(1)[0].GetNumber(), TaskId: "i", Attempt: 2, WorkerId: "w",
		Failure: &pb.Failure{Reason: "PANIC", Message: "oh no", Retry: true}})
	e, ok := errors.AsType[*TaskError](wait(t, done).err)
	if want := (TaskError{"i", "PANIC", "oh no", true, 2, "w"}); !ok || *e != want {
		t.Errorf("got %+v", e)
	}
}

func TestAnErrorOfTheBalancerKeepsItsReason(t *testing.T) {
	b := newBalancer(t)
	c := newTestClient(t, b)
	done := submitting(t.Context(), c, Task{Function: "f"})
	s := b.stream()
	s.answer(&pb.StreamOutcome{Number: s.tasks(1)[0].GetNumber(), Error: &pb.Error{
		Code: int32(codes.ResourceExhausted), Reason: "QUEUE_FULL", Message: "full", RetryAfterMs: 500}})
	err := wait(t, done).err
	e := wantError(t, err, "QUEUE_FULL")
	if status.Code(err) != codes.ResourceExhausted || e.RetryAfter != 500*time.Millisecond || len(status.Convert(err).Details()) != 2 {
		t.Errorf("got %+v, %v", e, status.Convert(err).Details())
	}
}

func TestCancelledBeforeItWasSentIsNotSent(t *testing.T) {
	b := newBalancer(t)
	b.down()
	c := newTestClient(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	done := submitting(ctx, c, Task{Function: "unwanted"})
	cancel()
	if err := wait(t, done).err; !errors.Is(err, context.Canceled) || status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	}
	b.up()
	submitting(t.Context(), c, Task{Function: "wanted"})
	if got := b.stream().tasks(1)[0].GetFunction(); got != "wanted" {
		t.Errorf("%s was sent", got)
	}
}

func TestCancelledAfterItWasSentIsCancelledAtTheBalancer(t *testing.T) {
	b := newBalancer(t)
	c := newTestClient(t, b)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	done := submitting(ctx, c, Task{Function: "f"})
	s := b.stream()
	first := s.tasks(1)[0].GetNumber()
	if err := wait(t, done).err; !errors.Is(err, context.DeadlineExceeded) || status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
	if got := s.frame().GetCancelNumbers(); len(got) != 1 || got[0] != first {
		t.Errorf("cancelled %v, want %d", got, first)
	}
	// Its slot's next user must not get its late outcome.
	next := submitting(t.Context(), c, Task{Function: "f"})
	second := s.tasks(1)[0].GetNumber()
	if uint32(first) != uint32(second) || first == second {
		t.Errorf("numbers %x and %x: want one slot and two generations", first, second)
	}
	s.answer(&pb.StreamOutcome{Number: first, Result: []byte("late")}, &pb.StreamOutcome{Number: second, Result: []byte("right")})
	if e := wait(t, next); string(e.out.Result) != "right" {
		t.Errorf("got %+v", e)
	}
}

func TestInFlightIsBounded(t *testing.T) {
	b := newBalancer(t)
	c := newTestClient(t, b, WithMaxInFlight(2))
	first := submitting(t.Context(), c, Task{Function: "f"})
	s := b.stream()
	number := s.tasks(1)[0].GetNumber()
	submitting(t.Context(), c, Task{Function: "f"})
	s.tasks(1)
	ctx, cancel := context.WithCancel(t.Context())
	third := submitting(ctx, c, Task{Function: "f"})
	waitingForRoom(t, c, 1)
	cancel()
	if err := wait(t, third).err; !errors.Is(err, context.Canceled) {
		t.Errorf("without room, got %v", err)
	}
	fourth := submitting(t.Context(), c, Task{Function: "fourth"})
	waitingForRoom(t, c, 1)
	s.answer(&pb.StreamOutcome{Number: number})
	wait(t, first)
	got := s.tasks(1)[0]
	if got.GetFunction() != "fourth" {
		t.Errorf("sent %v", got)
	}
	s.answer(&pb.StreamOutcome{Number: got.GetNumber()})
	if e := wait(t, fourth); e.err != nil {
		t.Error(e.err)
	}
}

func waitingForRoom(t *testing.T, c *Client, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d wait for room", n), func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.room.waiting) == n
	})
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	timeout := time.After(patience)
	for !is() {
		select {
		case <-poll.C:
		case <-timeout:
			t.Fatal("never: " + what)
		}
	}
}

func TestWhatIsTooLargeHarmsNobodyElse(t *testing.T) {
	b := echoing(t)
	b.limits.MaxPayloadBytes, b.limits.MaxMessageBytes = 100, 1000
	c := newTestClient(t, b)
	for _, test := range []struct {
		task   Task
		reason string
	}{
		{Task{Function: "f", Payload: make([]byte, 100)}, ""},
		{Task{Function: "f", Payload: make([]byte, 101)}, "PAYLOAD_TOO_LARGE"},
		{Task{Function: "f", Metadata: map[string]string{"k": strings.Repeat("v", 1000)}}, "PAYLOAD_TOO_LARGE"},
		{Task{Function: "\xff"}, "FUNCTION"},
		{Task{Function: "f", ID: "\xff"}, "TASK_ID"},
		{Task{Function: "f", Metadata: map[string]string{"k": "\xff"}}, "METADATA"},
	} {
		_, err := c.Submit(t.Context(), test.task)
		if test.reason == "" {
			if err != nil {
				t.Errorf("%+v: %v", test.task, err)
			}
			continue
		}
		if e := wantError(t, err, test.reason); e.Code != codes.InvalidArgument {
			t.Errorf("got %v", e.Code)
		}
	}
}

func TestSubmitFuncFromWithinItselfAtTheBound(t *testing.T) {
	c := newTestClient(t, echoing(t), WithMaxInFlight(2))
	const chains, length = 8, 50
	var finished sync.WaitGroup
	for range chains {
		finished.Add(1)
		left := length
		var next func(Outcome, error)
		next = func(_ Outcome, err error) {
			if err != nil {
				t.Error(err)
			}
			if left--; left == 0 {
				finished.Done()
				return
			}
			c.SubmitFunc(t.Context(), Task{Function: "echo"}, next)
		}
		go c.SubmitFunc(t.Context(), Task{Function: "echo"}, next)
	}
	finished.Wait()
}

func TestExactlyOneEndWhateverHappens(t *testing.T) {
	b := echoing(t)
	c := New(b.conn, WithMaxInFlight(64))
	var ends, begun atomic.Int64
	var done sync.WaitGroup
	for g := range 8 {
		done.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 1))
			for range 300 {
				ctx, cancel := context.WithCancel(t.Context())
				if rng.IntN(3) == 0 {
					time.AfterFunc(time.Duration(rng.IntN(300))*time.Microsecond, cancel)
				}
				begun.Add(1)
				if rng.IntN(2) == 0 {
					c.Submit(ctx, Task{Function: "echo", Idempotent: true})
					ends.Add(1)
					cancel()
				} else {
					c.SubmitFunc(ctx, Task{Function: "echo", Idempotent: true}, func(Outcome, error) {
						ends.Add(1)
						cancel()
					})
				}
				if g == 0 && rng.IntN(60) == 0 {
					b.down()
					b.up()
				}
			}
		})
	}
	done.Wait()
	c.Close()
	if ends.Load() != begun.Load() {
		t.Errorf("%d tasks had %d ends", begun.Load(), ends.Load())
	}
	if c.room.taken != 0 || len(c.room.waiting) != 0 {
		t.Errorf("%d are still in flight, %d wait", c.room.taken, len(c.room.waiting))
	}
}

// What becomes of a call of SubmitFunc that waits for room is told to its function
// too, before Close returns.
func TestSubmitFuncThatGetsNoRoom(t *testing.T) {
	b := newBalancer(t)
	c := newTestClient(t, b, WithMaxInFlight(1))
	ends(t.Context(), c, 1)
	b.stream().tasks(1)
	var returned sync.WaitGroup
	done := make(chan ended, 50)
	submit := func(ctx context.Context, n int) {
		for range n {
			returned.Go(func() {
				c.SubmitFunc(ctx, Task{Function: "f"}, func(out Outcome, err error) { done <- ended{out, err} })
			})
		}
		waitingForRoom(t, c, n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	submit(ctx, 10)
	cancel()
	for range 10 {
		if e := wait(t, done); !errors.Is(e.err, context.Canceled) {
			t.Errorf("its context has ended: %v", e.err)
		}
	}
	submit(t.Context(), 50)
	c.Close()
	if len(done) != 50 {
		t.Errorf("%d of 50 were told by the time the Client was closed", len(done))
	}
	returned.Wait()
	for range len(done) {
		wantError(t, (<-done).err, "CLIENT_CLOSED")
	}
}
