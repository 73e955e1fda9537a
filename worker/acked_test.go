package worker

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "reparto/gen/reparto/v1"
)

// acceptKeeping accepts a worker as a balancer that acknowledges results.
func (b *balancer) acceptKeeping(t *testing.T) *talk {
	t.Helper()
	k := b.knock(t)
	k.say(&pb.WorkResponse{Ack: &pb.Ack{
		WorkerId: k.register.GetWorkerId(), SessionId: "ses", HeartbeatIntervalMs: 5000, AcknowledgesResults: true,
	}})
	go k.beat()
	return k
}

var errBroken = status.Error(codes.Unavailable, "the balancer was killed")

// A result is sent again until it is acknowledged, and never after that.
func TestAResultIsKeptUntilItIsAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(t)
		w := start(t, b, Handlers{"echo": echo}, Options{Slots: 2})
		k := b.acceptKeeping(t)
		k.assign("echo", 1, 2)
		k.answer()
		k.answer()
		k.say(&pb.WorkResponse{AckedTokens: []uint64{1}})
		synctest.Wait()
		k.end <- errBroken

		k = b.acceptKeeping(t)
		if r := k.register.GetRunning(); len(r) != 1 || r[0].GetToken() != 2 || !r[0].GetFinished() {
			t.Fatalf("claimed are %v, want token 2 as finished", r)
		}
		wantResult(t, k.answer(), 2, "in")
		k.say(&pb.WorkResponse{AckedTokens: []uint64{2, 77}})
		synctest.Wait()
		k.end <- errBroken

		k = b.acceptKeeping(t)
		if r := k.register.GetRunning(); len(r) != 0 {
			t.Fatalf("claimed are %v, though all is acknowledged", r)
		}
		w.stop()
		k.drained()
		k.sayDrain(0)
		k.gone()
		w.wantNil()
	})
}

// A worker that leaves stays until its results are acknowledged.
func TestLeavingWaitsForAcknowledgements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(t)
		w := start(t, b, Handlers{"echo": echo}, Options{})
		k := b.acceptKeeping(t)
		k.assign("echo", 1)
		k.answer()
		w.stop()
		k.drained()
		k.sayDrain(0)
		time.Sleep(10 * time.Second)
		w.running()
		k.say(&pb.WorkResponse{AckedTokens: []uint64{1}})
		k.gone()
		w.wantNil()
	})
}

// A balancer that does not acknowledge is sent what was kept, and no more is.
func TestAnOlderBalancer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(t)
		w := start(t, b, Handlers{"echo": echo}, Options{})
		k := b.acceptKeeping(t)
		k.assign("echo", 1)
		k.answer()
		k.end <- errBroken
		k = b.accept(t)
		wantResult(t, k.answer(), 1, "in")
		w.stop()
		k.drained()
		k.sayDrain(0)
		k.gone()
		w.wantNil()
	})
}

// A worker that is asked to leave finishes, and does not dial again.
func TestAskedToLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := newBalancer(t), newGate()
		w := start(t, b, Handlers{"g": g.handle}, Options{Slots: 1})
		k := b.acceptKeeping(t)
		k.assign("g", 1)
		<-g.entered
		k.say(&pb.WorkResponse{Drain: &pb.Drain{Leave: true}})
		time.Sleep(10 * time.Second)
		w.running()
		close(g.open)
		wantResult(t, k.answer(), 1, "done")
		k.say(&pb.WorkResponse{AckedTokens: []uint64{1}})
		k.gone()
		k.end <- nil
		w.wantNil()
	})
}
