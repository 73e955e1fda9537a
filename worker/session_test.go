package worker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "reparto/gen/reparto/v1"
)

func TestHeartbeatsFlowWhenNothingElseDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(t)
		w := start(t, b, Handlers{"echo": echo}, Options{})
		k := b.accept(t) // tells an interval of 5 s
		began := time.Now()
		for i := range 10 {
			if m := k.next(); m.GetHeartbeat() == nil {
				t.Errorf("got %v, want a heartbeat", m)
			}
			if at := time.Since(began); at != time.Duration(i+1)*5*time.Second {
				t.Errorf("heartbeat %d came after %v", i, at)
			}
		}
		time.Sleep(3 * time.Second)
		k.assign("echo", 1) // its answer counts as well
		wantResult(t, k.answer(), 1, "in")
		began = time.Now()
		k.next()
		if at := time.Since(began); at < 4900*time.Millisecond || at > 5*time.Second {
			t.Errorf("the heartbeat came %v after an answer", at)
		}
		w.stop()
		k.goodbye()
		w.wantNil()
	})
}

func TestALoopThatIsStuckSendsNoHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stuck := newBalancer(t), make(chan struct{})
		w := start(t, b, Handlers{"echo": echo}, Options{Log: slog.New(&stuckLog{stuck: stuck})})
		k := b.accept(t)
		k.next()
		k.assign("echo", 1) // the log line of it does not return
		time.Sleep(time.Minute)
		if n := len(k.in); n != 0 {
			t.Errorf("%d frames came from a stuck worker", n)
		}
		close(stuck)
		wantResult(t, k.answer(), 1, "in") // the balancer has gone on beating
		w.stop()
		k.goodbye()
		w.wantNil()
	})
}

// stuckLog blocks where a task is logged.
type stuckLog struct {
	slog.TextHandler
	stuck chan struct{}
}

func (l *stuckLog) Enabled(context.Context, slog.Level) bool { return true }
func (l *stuckLog) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *stuckLog) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "task received" {
		<-l.stuck
	}
	return nil
}

func TestASilentBalancerIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(t)
		w := start(t, b, Handlers{"echo": echo}, Options{})
		k := b.accept(t)
		time.Sleep(time.Minute)
		w.running()
		k.mute.Store(true)
		began := time.Now()
		if err := k.gone(); status.Code(err) != codes.Canceled {
			t.Errorf("the stream ended with %v", err)
		}
		if took := time.Since(began); took < 15*time.Second-time.Millisecond || took > 20*time.Second {
			t.Errorf("left after %v of silence, want three intervals of 5 s", took)
		}
		k = b.accept(t)
		w.stop()
		k.goodbye()
		w.wantNil()
	})
}

func TestABalancerThatDoesNotAnswerTheRegistrationIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(t)
		w := start(t, b, Handlers{"echo": echo}, Options{})
		k := b.knock(t)
		began := time.Now()
		k.gone()
		if took := time.Since(began); took != registrationTimeout {
			t.Errorf("left after %v", took)
		}
		k = b.accept(t)
		w.stop()
		k.goodbye()
		w.wantNil()
	})
}

func TestAFirstFrameWithoutAnAckIsNoRegistration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(t)
		w := start(t, b, Handlers{"echo": echo}, Options{})
		k := b.knock(t)
		k.assign("echo", 1)
		k.gone()
		if len(k.held) > 0 {
			t.Error("a task was answered before the registration was")
		}
		k = b.accept(t)
		w.stop()
		k.goodbye()
		w.wantNil()
	})
}

func TestATaskMayTravelWithTheAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(t)
		w := start(t, b, Handlers{"echo": echo}, Options{})
		k := b.knock(t)
		k.say(&pb.WorkResponse{Ack: &pb.Ack{}, AssignTasks: []*pb.AssignTask{assignment("echo", 1)}})
		wantResult(t, k.answer(), 1, "in")
		w.stop()
		k.goodbye()
		w.wantNil()
	})
}

func TestEndOfContextDuringRegistration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(t)
		w := start(t, b, Handlers{"echo": echo}, Options{})
		k := b.knock(t)
		w.stop()
		synctest.Wait()
		k.say(&pb.WorkResponse{Ack: &pb.Ack{}})
		k.goodbye() // like anybody else
		w.wantNil()
	})
}

func TestLargeAssignmentsArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(t)
		w := start(t, b, Handlers{"len": func(_ context.Context, task Task) ([]byte, error) {
			if len(task.Payload) != 20<<20 {
				return nil, errors.New("cut")
			}
			return []byte("whole"), nil
		}}, Options{})
		k := b.accept(t)
		a := assignment("len", 1)
		a.Payload = make([]byte, 20<<20) // far beyond gRPC's default
		k.say(&pb.WorkResponse{AssignTasks: []*pb.AssignTask{a}})
		wantResult(t, k.answer(), 1, "whole")
		w.stop()
		k.goodbye()
		w.wantNil()
	})
}

func TestLogTellsTheStory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == "retry_in" {
				return slog.Attr{}
			}
			return a
		}}))
		b := newBalancer(t)
		w := start(t, b, Handlers{"echo": echo, "bad": func(context.Context, Task) ([]byte, error) { return nil, errors.New("no") }}, Options{ID: "w1", Log: log})
		k := b.accept(t)
		k.assign("echo", 1)
		k.answer()
		synctest.Wait()
		k.assign("bad", 2)
		k.answer()
		synctest.Wait()
		k.end <- status.Error(codes.Unavailable, "bye")
		k = b.accept(t)
		w.stop()
		k.goodbye()
		w.wantNil()
		want := `
level=INFO msg=connected worker_id=w1 address=passthrough:///balancer
level=DEBUG msg=registering worker_id=w1
level=INFO msg=registered worker_id=w1 session_id=ses-1 server_id=srv-1 slots=512
level=DEBUG msg=ready worker_id=w1
level=DEBUG msg="task received" worker_id=w1 task_id=task-b function=echo attempt=2 payload=in
level=DEBUG msg="result sent" worker_id=w1 task_id=task-b
level=DEBUG msg="task received" worker_id=w1 task_id=task-c function=bad attempt=2 payload=in
level=DEBUG msg="task failed" worker_id=w1 task_id=task-c error=no
level=DEBUG msg="result sent" worker_id=w1 task_id=task-c
level=WARN msg="connection lost" worker_id=w1 error="rpc error: code = Unavailable desc = bye"
level=INFO msg=connected worker_id=w1 address=passthrough:///balancer
level=DEBUG msg=registering worker_id=w1
level=INFO msg=registered worker_id=w1 session_id=ses-1 server_id=srv-1 slots=512
level=DEBUG msg=ready worker_id=w1
level=INFO msg=disconnected worker_id=w1
`
		if got := out.String(); got != strings.TrimPrefix(want, "\n") {
			t.Errorf("got\n%s\nwant%s", got, want)
		}
	})
}
