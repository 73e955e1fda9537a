package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "reparto/gen/reparto/v1"
)

func TestHandlersRunOnThroughABreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g, late := newBalancer(t), newGate(), newGate()
		w := start(t, b, Handlers{"g": g.handle, "late": late.handle}, Options{ID: "w1", Slots: 4})
		k := b.accept(t)
		k.assign("g", 1)
		k.assign("late", 2)
		<-g.entered
		<-late.entered
		b.down()
		synctest.Wait()
		close(g.open) // finishes while there is no connection
		synctest.Wait()
		b.up()
		k = b.knock(t)
		if got := tokens(k.register.GetRunning()); got != "1:task-b:2 2:task-c:2" {
			t.Errorf("lists as running: %s", got)
		}
		synctest.Wait()
		if n := len(k.in); n != 0 {
			t.Errorf("%d frames crossed before the ack", n)
		}
		k.say(&pb.WorkResponse{Ack: &pb.Ack{}})
		wantResult(t, k.answer(), 1, "done")
		close(late.open)
		wantResult(t, k.answer(), 2, "done")
		w.stop()
		k.goodbye()
		w.wantNil()
	})
}

func tokens(running []*pb.RunningTask) string {
	parts := make([]string, 3)
	for _, r := range running {
		parts[r.GetToken()] = fmt.Sprintf("%d:%s:%d", r.GetToken(), r.GetTaskId(), r.GetAttempt())
	}
	return strings.TrimSpace(strings.Join(parts, " "))
}

func TestANewBalancerCancelsWhatItDoesNotKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := newBalancer(t), newGate()
		w := start(t, b, Handlers{"g": g.handle}, Options{Slots: 1, Prefetch: 1})
		k := b.accept(t)
		k.assign("g", 1, 2)
		<-g.entered
		k.end <- status.Error(codes.Unavailable, "bye")
		k = b.knock(t)
		if n := len(k.register.GetRunning()); n != 2 {
			t.Errorf("lists %d tasks, want the running and the waiting one", n)
		}
		k.say(&pb.WorkResponse{Ack: &pb.Ack{ServerId: "another"}})
		k.cancel(1, "SUPERSEDED")
		k.cancel(2, "SUPERSEDED")
		wantFailure(t, k.answer(), "CANCELLED")
		wantFailure(t, k.answer(), "CANCELLED")
		w.stop()
		k.goodbye()
		w.wantNil()
	})
}

func TestDialsAgainWithBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(t)
		var registered []Registration
		w := start(t, b, Handlers{"echo": echo}, Options{ID: "w1", OnRegistered: func(r Registration) { registered = append(registered, r) }})
		last := time.Now()
		var waits []time.Duration
		for range 12 {
			k := b.knock(t)
			waits = append(waits, time.Since(last).Round(time.Millisecond))
			last = time.Now()
			k.end <- status.Error(codes.ResourceExhausted, "not now")
		}
		if waits[0] != 0 || waits[1] < 50*time.Millisecond || waits[1] > 150*time.Millisecond {
			t.Errorf("the first waits were %v", waits[:2])
		}
		for _, wait := range waits[9:] {
			if wait < 3*time.Second || wait > 10*time.Second {
				t.Errorf("late waits are %v, want 3 to 10 s", waits[9:])
			}
		}
		k := b.accept(t)
		time.Sleep(2 * time.Second) // a steady session makes the backoff start anew
		k.end <- nil
		last = time.Now()
		k = b.accept(t)
		if wait := time.Since(last); wait > 150*time.Millisecond {
			t.Errorf("waited %v after a steady session", wait)
		}
		w.stop()
		k.goodbye()
		w.wantNil()
		want := Registration{WorkerID: "w1", SessionID: "ses-1", ServerID: "srv-1", Address: "passthrough:///balancer"}
		if len(registered) != 2 || registered[0] != want {
			t.Errorf("OnRegistered got %+v", registered)
		}
	})
}

func TestComesBackSoonAfterTheBalancerDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(t)
		b.down()
		w := start(t, b, Handlers{"echo": echo}, Options{})
		time.Sleep(10 * time.Minute)
		b.up()
		began := time.Now()
		k := b.accept(t)
		if took := time.Since(began); took > 11*time.Second {
			t.Errorf("came back after %v", took)
		}
		w.stop()
		k.goodbye()
		w.wantNil()
	})
}

func TestIncurableErrorsEndRun(t *testing.T) {
	for _, refusal := range []error{
		refused(codes.InvalidArgument, "SLOTS"), refused(codes.Unauthenticated, "TOKEN"), refused(codes.PermissionDenied, "FUNCTION"),
		refused(codes.Aborted, "SESSION_REPLACED"), status.Error(codes.Unimplemented, "unknown service"),
	} {
		t.Run(status.Code(refusal).String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, g := newBalancer(t), newGate()
				w := start(t, b, Handlers{"g": g.handle}, Options{ID: "w1"})
				k := b.accept(t)
				k.assign("g", 1)
				<-g.entered
				k.end <- refusal
				err := w.result() // the handler's context was cancelled, or it would not return
				if status.Code(err) != status.Code(refusal) || !strings.Contains(err.Error(), "w1") {
					t.Errorf("Run returned %v", err)
				}
			})
		})
	}
}

func TestOtherErrorsAreCuredByDialling(t *testing.T) {
	for _, trouble := range []error{
		nil, refused(codes.Aborted, "WORKER_SILENT"), status.Error(codes.Internal, "oops"), status.Error(codes.Canceled, "oops"),
		refused(codes.Unavailable, "DRAINING"),
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBalancer(t)
			w := start(t, b, Handlers{"echo": echo}, Options{})
			b.accept(t).end <- trouble
			k := b.accept(t)
			w.stop()
			k.goodbye()
			w.wantNil()
		})
	}
}

func TestABalancerThatStopsIsDialledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := newBalancer(t), newGate()
		w := start(t, b, Handlers{"g": g.handle}, Options{Slots: 4})
		k := b.accept(t)
		k.assign("g", 1)
		<-g.entered
		k.sayDrain(7 * time.Second)
		synctest.Wait()
		close(g.open)
		wantResult(t, k.answer(), 1, "done")
		if err := k.gone(); err.Error() != "EOF" {
			t.Errorf("left with %v, want its side closed", err)
		}
		k.end <- nil
		began := time.Now()
		k = b.accept(t)
		if wait := time.Since(began); wait < 7*time.Second || wait > 7200*time.Millisecond {
			t.Errorf("came back after %v, want a little more than 7 s", wait)
		}
		w.stop()
		k.goodbye()
		w.wantNil()
	})
}

func TestAbandonBreaksTheStreamWithoutAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := newBalancer(t), newGate()
		lost := errors.New("the other side has gone")
		w := start(t, b, Handlers{"g": g.handle, "lost": func(context.Context, Task) ([]byte, error) {
			return nil, fmt.Errorf("handed on: %w", Abandon(lost))
		}}, Options{Slots: 4})
		k := b.accept(t)
		k.assign("g", 1)
		<-g.entered
		k.assign("lost", 2)
		if err := w.result(); !errors.Is(err, lost) {
			t.Errorf("Run returned %v", err)
		}
		if err := k.gone(); status.Code(err) != codes.Canceled {
			t.Errorf("the stream ended with %v, want it cancelled", err)
		}
		if len(k.held) > 0 {
			t.Errorf("answered %v", k.held)
		}
	})
}

func TestAbandonWithoutAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := newBalancer(t), newGate()
		lost := errors.New("the other side has gone")
		w := start(t, b, Handlers{"f": func(ctx context.Context, task Task) ([]byte, error) {
			g.handle(ctx, task)
			return nil, Abandon(lost)
		}}, Options{})
		k := b.accept(t)
		k.assign("f", 1)
		<-g.entered
		b.down()
		time.Sleep(time.Minute)
		w.running()
		close(g.open)
		if err := w.result(); !errors.Is(err, lost) {
			t.Errorf("Run returned %v", err)
		}
	})
}
