package worker

import (
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "reparto/gen/reparto/v1"
)

func TestWhatIsReadyTravelsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := newBalancer(t), newGate()
		w := start(t, b, Handlers{"g": g.handle}, Options{Slots: 1000})
		k := b.accept(t)
		for token := range uint64(1000) {
			k.assign("g", token)
		}
		for range 1000 {
			<-g.entered
		}
		b.hold(k)
		close(g.open)
		synctest.Wait()
		k = b.accept(t)
		frames, answers := 0, 0
		for answers < 1000 {
			n := len(k.next().GetTaskResults())
			if n > 256 {
				t.Errorf("%d results in a frame", n)
			}
			answers += n
			frames++
		}
		if frames != 4 {
			t.Errorf("1000 results that were ready came in %d frames, want 4", frames)
		}
		w.stop()
		k.goodbye()
		w.wantNil()
	})
}

// hold breaks a session, so that what comes next piles up at the worker.
func (b *balancer) hold(k *talk) {
	k.end <- status.Error(codes.Unavailable, "later")
	synctest.Wait()
}

func TestTheAcksLimitsHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := newBalancer(t), newGate()
		w := start(t, b, Handlers{"g": g.handle, "echo": echo}, Options{Slots: 20})
		k := b.accept(t)
		for token := range uint64(10) {
			k.assign("g", token)
			<-g.entered
		}
		b.hold(k)
		close(g.open)
		k = b.knock(t)
		k.say(&pb.WorkResponse{Ack: &pb.Ack{Limits: &pb.WorkerLimits{MaxFrameTasks: 3, MaxPayloadBytes: 4}}})
		for answers := 0; answers < 10; {
			n := len(k.next().GetTaskResults())
			if n > 3 {
				t.Errorf("%d results in a frame of at most 3", n)
			}
			answers += n
		}
		a, c := assignment("echo", 50), assignment("echo", 51)
		a.Payload, c.Payload = []byte("1234"), []byte("12345")
		k.say(&pb.WorkResponse{AssignTasks: []*pb.AssignTask{a}})
		wantResult(t, k.answer(), 50, "1234")
		k.say(&pb.WorkResponse{AssignTasks: []*pb.AssignTask{c}})
		r := k.answer()
		wantFailure(t, r, "RESULT_TOO_LARGE")
		if m := r.GetFailure().GetMessage(); m != "the result has 5 bytes; at most 4 are allowed" || r.Result != nil {
			t.Errorf("answered %v", r)
		}
		w.stop()
		k.goodbye()
		w.wantNil()
	})
}

func TestResultsThatCouldNotBeSentStay(t *testing.T) {
	p, f := poolWith(t, 1, 2, 3), &frame{}
	p.take(f, limits{payload: 100, frameTasks: 2, frameBytes: 1000})
	if held, _ := p.count(); held != 1 || len(f.jobs) != 2 {
		t.Fatalf("took %d, holds %d", len(f.jobs), held)
	}
	p.putBack(f)
	f.reset()
	p.take(f, limits{payload: 100, frameTasks: 10, frameBytes: 1000})
	if got := tokensOf(f); len(got) != 3 || got[0] != 1 || got[1] != 2 || got[2] != 3 {
		t.Errorf("then took %v, want them in their order", got)
	}
}
