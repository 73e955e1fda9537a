package worker

import (
	"context"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	pb "reparto/gen/reparto/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRunAnswersTasksAndLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(t)
		seen := make(chan Task, 1)
		w := start(t, b, Handlers{
			"echo": func(ctx context.Context, task Task) ([]byte, error) {
				seen <- task
				return echo(ctx, task)
			},
		}, Options{ID: "w1", Slots: 3, Prefetch: 2, Build: "v1", Labels: map[string]string{"zone": "a"}})
		k := b.accept(t)
		r := k.register
		if r.GetWorkerId() != "w1" || r.GetSlots() != 5 || r.GetBuild() != "v1" || r.GetLabels()["zone"] != "a" ||
			len(r.GetFunctions()) != 1 || r.GetFunctions()[0] != "echo" || len(r.GetRunning()) != 0 {
			t.Errorf("registered as %v", r)
		}
		a := assignment("echo", 7)
		a.Metadata = map[string]string{"k": "v"}
		k.say(&pb.WorkResponse{AssignTasks: []*pb.AssignTask{a}})
		wantResult(t, k.answer(), 7, "in")
		task := <-seen
		if task.ID != taskID(7) || task.Function != "echo" || task.Attempt != 2 || string(task.Payload) != "in" || task.Metadata["k"] != "v" {
			t.Errorf("the handler got %+v", task)
		}
		w.stop()
		k.goodbye()
		w.wantNil()
	})
}

func TestRunWithAnEndedContextDialsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Run(ctx, nil, Handlers{"echo": echo}, Options{}); err != nil {
		t.Errorf("Run returned %v", err)
	}
}

func TestRunRefusesBadOptionsAtOnce(t *testing.T) {
	if err := Run(t.Context(), nil, nil, Options{}); err == nil {
		t.Error("no handlers were accepted")
	}
}

func TestHandlersSeeTheValuesOfRunsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		b := newBalancer(t)
		ctx, stop := context.WithCancel(context.WithValue(t.Context(), key{}, "v"))
		done := make(chan error, 1)
		go func() {
			done <- Run(ctx, b.conn, Handlers{"f": func(ctx context.Context, _ Task) ([]byte, error) {
				return []byte(ctx.Value(key{}).(string)), nil
			}}, Options{})
		}()
		k := b.accept(t)
		k.assign("f", 1)
		wantResult(t, k.answer(), 1, "v")
		stop()
		k.goodbye()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
