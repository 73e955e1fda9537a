package worker

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestLeavingFinishesWhatIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := newBalancer(t), newGate()
		w := start(t, b, Handlers{"g": g.handle}, Options{Slots: 1, Prefetch: 1})
		k := b.accept(t)
		k.assign("g", 1, 2)
		<-g.entered
		w.stop()
		k.drained()
		k.sayDrain(0)
		time.Sleep(time.Minute)
		w.running()
		close(g.open)
		wantResult(t, k.answer(), 1, "done")
		wantResult(t, k.answer(), 2, "done") // it waited for the slot, and was run
		if err := k.gone(); err.Error() != "EOF" {
			t.Errorf("left with %v, want its side closed", err)
		}
		k.end <- nil
		w.wantNil()
	})
}

func TestLeavingWaitsForTheBalancersDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(t)
		w := start(t, b, Handlers{"echo": echo}, Options{})
		k := b.accept(t)
		w.stop()
		k.drained()
		k.assign("echo", 3) // it crossed the drain
		wantResult(t, k.answer(), 3, "in")
		w.running()
		k.sayDrain(0)
		k.gone()
		w.wantNil() // although the balancer does not end the stream
	})
}

func TestDrainTimeoutCancelsHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := newBalancer(t), newGate()
		w := start(t, b, Handlers{"g": g.handle}, Options{Slots: 1, Prefetch: 1, DrainTimeout: 5 * time.Second})
		k := b.accept(t)
		k.assign("g", 1, 2)
		<-g.entered
		w.stop()
		began := time.Now()
		k.drained()
		k.sayDrain(0)
		wantFailure(t, k.answer(), "CANCELLED")
		wantFailure(t, k.answer(), "CANCELLED")
		k.gone()
		k.end <- nil
		w.wantNil()
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestDrainTimeoutLeavesStubbornHandlersBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := newBalancer(t), newGate()
		w := start(t, b, Handlers{"g": g.stubborn}, Options{Slots: 2, DrainTimeout: 5 * time.Second})
		k := b.accept(t)
		k.assign("g", 1, 2, 3)
		w.stop()
		began := time.Now()
		k.drained()
		k.sayDrain(0)
		err := w.result()
		if took := time.Since(began); took != 6*time.Second {
			t.Errorf("left after %v", took)
		}
		if err == nil || !strings.Contains(err.Error(), "2 handlers did not stop") || !strings.Contains(err.Error(), "2 tasks were left unanswered") {
			t.Errorf("Run returned %v", err)
		}
		close(g.open) // or the goroutines of the handlers would outlive the test
	})
}

func TestDrainTimeoutWithoutADrainBackIsNoError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(t)
		w := start(t, b, Handlers{"echo": echo}, Options{DrainTimeout: 5 * time.Second})
		b.accept(t)
		w.stop()
		w.wantNil()
	})
}

func TestLeavingDeliversResultsOverANewSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := newBalancer(t), newGate()
		w := start(t, b, Handlers{"g": g.handle}, Options{Slots: 4})
		k := b.accept(t)
		k.assign("g", 1)
		<-g.entered
		b.down()
		synctest.Wait()
		w.stop()
		time.Sleep(time.Minute) // the handler has all the time it wants
		w.running()
		close(g.open)
		synctest.Wait()
		b.up()
		began := time.Now()
		k = b.accept(t)
		if took := time.Since(began); took > 1300*time.Millisecond {
			t.Errorf("a leaving worker waited %v with its results", took)
		}
		if got := k.register.GetSlots(); got != 1 {
			t.Errorf("a leaving worker with one task asks for %d slots", got)
		}
		k.drained()
		wantResult(t, k.answer(), 1, "done")
		k.sayDrain(0)
		k.gone()
		k.end <- nil
		w.wantNil()
	})
}

func TestLeavingGivesUpWithoutAConnection(t *testing.T) {
	for _, drainTimeout := range []time.Duration{0, 20 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			b, g := newBalancer(t), newGate()
			w := start(t, b, Handlers{"g": g.handle}, Options{Slots: 4, DrainTimeout: drainTimeout})
			k := b.accept(t)
			k.assign("g", 1)
			<-g.entered
			b.down()
			synctest.Wait()
			close(g.open)
			synctest.Wait()
			w.stop()
			began := time.Now()
			err := w.result()
			if err == nil || !strings.Contains(err.Error(), "1 tasks were left unanswered") {
				t.Errorf("Run returned %v", err)
			}
			if took := time.Since(began); took < 10*time.Second || took > 22*time.Second {
				t.Errorf("with DrainTimeout %v it took %v", drainTimeout, took)
			}
		})
	}
}

func TestLeavingWithNothingHeldAndNoConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(t)
		b.down()
		w := start(t, b, Handlers{"echo": echo}, Options{})
		time.Sleep(time.Minute)
		w.running()
		w.stop()
		began := time.Now()
		w.wantNil()
		if took := time.Since(began); took > 300*time.Millisecond {
			t.Errorf("took %v to leave", took)
		}
	})
}

func TestAHungHandlerIsWaitedForAfterAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := newBalancer(t), newGate()
		w := start(t, b, Handlers{"g": g.stubborn}, Options{})
		k := b.accept(t)
		k.assign("g", 1)
		<-g.entered
		k.end <- refused(codes.PermissionDenied, "FUNCTION")
		time.Sleep(time.Hour)
		w.running()
		close(g.open)
		if err := w.result(); status.Code(err) != codes.PermissionDenied {
			t.Errorf("Run returned %v", err)
		}
	})
}

func TestLeavingGivesUpOnABalancerThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := newBalancer(t), newGate()
		w := start(t, b, Handlers{"g": g.handle}, Options{})
		k := b.accept(t)
		k.assign("g", 1)
		<-g.entered
		b.hold(k)
		w.stop()
		synctest.Wait()
		close(g.open)
		b.knock(t).end <- status.Error(codes.Unavailable, "later") // it dialled while the handler ran
		k = b.knock(t)
		began := time.Now()
		time.Sleep(5 * time.Second)
		k.end <- status.Error(codes.Unavailable, "later")
		b.knock(t) // and now there is no answer at all
		if err := w.result(); err == nil || !strings.Contains(err.Error(), "no connection to deliver results on") {
			t.Errorf("Run returned %v", err)
		}
		if took := time.Since(began); took > 10*time.Second || took < 9*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestLeavingGoesOnWhileABalancerIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, open := newBalancer(t), make(chan struct{})
		w := start(t, b, Handlers{"big": func(context.Context, Task) ([]byte, error) {
			<-open
			return make([]byte, 600<<10), nil // two don't fit into a frame
		}}, Options{Slots: 3})
		k := b.accept(t)
		k.assign("big", 1, 2, 3)
		b.hold(k)
		close(open)
		synctest.Wait()
		w.stop()
		b.deaf.Store(true)
		k = b.accept(t)              // the first result gets stuck on its way, the second in Send
		time.Sleep(14 * time.Second) // longer than without any connection
		b.deaf.Store(false)
		k.end <- status.Error(codes.Unavailable, "bye")
		k = b.accept(t)
		if n := len(k.register.GetRunning()); n != 2 {
			t.Errorf("lists %d tasks as running, want those whose result was not sent", n)
		}
		k.drained()
		for range 2 {
			if r := k.answer(); len(r.GetResult()) != 600<<10 {
				t.Errorf("answered with %d bytes", len(r.GetResult()))
			}
		}
		k.sayDrain(0)
		k.gone()
		k.end <- nil
		w.wantNil()
	})
}

func TestLeavingInTheMiddleOfADial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(t)
		b.limbo.Store(true)
		w := start(t, b, Handlers{"echo": echo}, Options{})
		time.Sleep(time.Second)
		w.stop()
		began := time.Now()
		w.wantNil()
		if took := time.Since(began); took > 0 {
			t.Errorf("took %v to leave", took)
		}
	})
}
