package worker

import (
	"context"
	"errors"

	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "reparto/gen/reparto/v1"
)

func TestNoMoreHandlersRunThanThereAreSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := newBalancer(t), newGate()
		w := start(t, b, Handlers{"g": g.handle}, Options{Slots: 3, Prefetch: 2})
		k := b.accept(t)
		k.assign("g", 1, 2, 3, 4, 5)
		synctest.Wait()
		if n := len(g.entered); n != 3 {
			t.Errorf("%d handlers run in 3 slots", n)
		}
		g.open <- struct{}{}
		synctest.Wait()
		if n := len(g.entered); n != 4 {
			t.Errorf("%d handlers have begun when one slot was freed, want 4", n)
		}
		close(g.open)
		for range 5 {
			k.answer()
		}
		w.stop()
		k.goodbye()
		w.wantNil()
	})
}

func TestWaitingTasksRunInTheOrderTheyCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(t)
		w := start(t, b, Handlers{"echo": echo}, Options{Slots: 1, Prefetch: 99})
		k := b.accept(t)
		for token := range uint64(100) {
			k.assign("echo", token)
		}
		for token := range uint64(100) {
			wantResult(t, k.answer(), token, "in")
		}
		w.stop()
		k.goodbye()
		w.wantNil()
	})
}

func TestAHungHandlerCostsOnlyItsSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := newBalancer(t), newGate()
		w := start(t, b, Handlers{"g": g.stubborn, "echo": echo}, Options{Slots: 2})
		k := b.accept(t)
		k.assign("g", 1)
		<-g.entered
		k.cancel(1, "CLIENT_GONE") // it does not listen
		for token := range uint64(200) {
			k.assign("echo", 2+token)
			wantResult(t, k.answer(), 2+token, "in")
		}
		close(g.open)
		wantResult(t, k.answer(), 1, "done")
		w.stop()
		k.goodbye()
		w.wantNil()
	})
}

func TestCancelOfAWaitingTaskKeepsItFromRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := newBalancer(t), newGate()
		w := start(t, b, Handlers{"g": g.handle}, Options{Slots: 1, Prefetch: 3})
		k := b.accept(t)
		k.assign("g", 1, 2, 3, 4)
		<-g.entered
		for _, token := range []uint64{3, 2, 4} { // from the middle, the front, the end
			k.cancel(token, "CLIENT_GONE")
			r := k.answer()
			wantFailure(t, r, "CANCELLED")
			if r.GetToken() != token {
				t.Errorf("answered %v, want token %d", r, token)
			}
		}
		close(g.open)
		wantResult(t, k.answer(), 1, "done")
		if n := len(g.entered); n != 0 {
			t.Errorf("%d cancelled tasks were run", n)
		}
		w.stop()
		k.goodbye()
		w.wantNil()
	})
}

func TestATaskWhoseTimeIsUpIsNotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := newBalancer(t), newGate()
		w := start(t, b, Handlers{"g": g.stubborn}, Options{Slots: 1, Prefetch: 1})
		k := b.accept(t)
		a := assignment("g", 2)
		a.TimeRemainingMs = 100
		k.say(&pb.WorkResponse{AssignTasks: []*pb.AssignTask{assignment("g", 1), a}})
		<-g.entered
		time.Sleep(time.Second)
		close(g.open)
		wantResult(t, k.answer(), 1, "done")
		wantFailure(t, k.answer(), "CANCELLED")
		w.stop()
		k.goodbye()
		w.wantNil()
	})
}

func TestUnknownFunctionIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(t)
		w := start(t, b, Handlers{"echo": echo}, Options{})
		k := b.accept(t)
		k.assign("nope", 1)
		r := k.answer()
		wantFailure(t, r, "UNKNOWN_FUNCTION")
		if !strings.Contains(r.GetFailure().GetMessage(), `"nope"`) {
			t.Errorf("answered %v", r)
		}
		w.stop()
		k.goodbye()
		w.wantNil()
	})
}

func TestABalancerThatBreaksTheContractIsLeft(t *testing.T) {
	for name, misbehave := range map[string]func(k *talk){
		"token twice": func(k *talk) { k.assign("g", 1, 1) },
		"flood": func(k *talk) {
			for token := range uint64(100) {
				k.assign("g", token)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, g := newBalancer(t), newGate()
				w := start(t, b, Handlers{"g": g.handle}, Options{Slots: 2, Prefetch: 1})
				k := b.accept(t)
				misbehave(&talk{t: discard{t}, stream: k.stream})
				if err := k.gone(); status.Code(err) != codes.Canceled {
					t.Errorf("the stream ended with %v", err)
				}
				k = b.accept(t)
				if n := len(k.register.GetRunning()); n > 3 {
					t.Errorf("lists %d tasks as running in 3 slots", n)
				}
				close(g.open)
				w.stop()
				k.goodbye()
				w.wantNil()
			})
		})
	}
}

// discard is a test to which sends on a broken stream are no error.
type discard struct{ testing.TB }

func (discard) Errorf(string, ...any) {}

func TestAnAbandonedWorkerAnswersNothing(t *testing.T) {
	lost := errors.New("lost")
	var told error
	p := poolWith(t, 1)
	p.abandoned = func(err error) { told = err }
	p.abandon(lost)
	f := &frame{}
	if p.take(f, limitsOf(nil)); !f.empty() || told != lost {
		t.Errorf("takes %v, told %v", tokensOf(f), told)
	}
}

func TestClaimsThatDoNotFitAreLeftOut(t *testing.T) {
	p := newPool(t.Context(), Handlers{}, &Options{Slots: 100}, nil)
	for token := range uint64(50) {
		*p.jobs.Add(token) = newJob(p, assignment("f", token), time.Now())
	}
	if claims, _, left := p.claims(1 << 20); len(claims) != 50 || left != 0 {
		t.Errorf("listed %d, left out %d", len(claims), left)
	}
	claims, _, left := p.claims(1000)
	if size := sizeOf(claims); len(claims) == 0 || len(claims)+left != 50 || size > 1000 {
		t.Errorf("listed %d in %d bytes, left out %d", len(claims), size, left)
	}
	if claims, _, left := p.claims(-1); len(claims) != 0 || left != 50 {
		t.Errorf("listed %d, left out %d", len(claims), left)
	}
}

// TestPoolUnderLoad has tasks come, run, wait, panic and be cancelled all at
// once: each must be answered exactly once.
func TestPoolUnderLoad(t *testing.T) { synctest.Test(t, testPoolUnderLoad) }

func testPoolUnderLoad(t *testing.T) {
	b := newBalancer(t)
	w := start(t, b, Handlers{"f": func(ctx context.Context, task Task) ([]byte, error) {
		switch task.Payload[0] % 7 {
		case 0:
			panic("seven")
		case 1:
			<-ctx.Done()
		case 2:
			ReportProgress(ctx, 50, "half")
		}
		return task.Payload, ctx.Err()
	}}, Options{Slots: 8, Prefetch: 24})
	k := b.accept(t)
	const total = 5000
	free, answered := 32, map[uint64]bool{}
	for token := uint64(0); len(answered) < total; {
		for ; free > 0 && token < total; token++ {
			free--
			a := assignment("f", token)
			a.Payload = []byte{byte(token % 7)}
			k.say(&pb.WorkResponse{AssignTasks: []*pb.AssignTask{a}})
			if token%7 < 2 { // those that wait for it, and some that panic
				k.cancel(token, "CLIENT_GONE")
			}
		}
		r := k.answer()
		if answered[r.GetToken()] {
			t.Fatalf("token %d was answered twice", r.GetToken())
		}
		if failed := r.GetFailure() != nil; failed != (r.GetToken()%7 < 2) {
			t.Errorf("answered %v", r)
		}
		answered[r.GetToken()] = true
		free++
	}
	w.stop()
	k.goodbye()
	w.wantNil()
}

func sizeOf(claims []*pb.RunningTask) int { return proto.Size(&pb.Register{Running: claims}) }
