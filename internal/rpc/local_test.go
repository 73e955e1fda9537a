package rpc

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
)

// local returns a client in the process.
func (h *house) local(ctx context.Context) *LocalClient {
	c := h.s.Local().Client(ctx)
	h.t.Cleanup(c.Close)
	return c
}

// ask submits a task locally and waits for what becomes of it.
func (h *house) ask(t *pb.StreamTask) *pb.StreamOutcome {
	h.t.Helper()
	got := make(chan *pb.StreamOutcome, 2)
	h.local(h.ctx).Submit(t, func(o *pb.StreamOutcome) { got <- o })
	select {
	case o := <-got:
		return o
	case <-h.ctx.Done():
		h.t.Fatal("no outcome came")
	}
	return nil
}

// Whoever is in the process is refused with the same words as over the wire.
func TestALocalTaskIsCheckedAsAnyOther(t *testing.T) {
	h := serve(t, dispatch.Options{MaxPayload: 10}, Options{})
	c := h.client()
	for i, task := range []*pb.StreamTask{
		{Function: ""}, {Function: "a b"}, {Function: "sum", Payload: make([]byte, 11)},
		{Function: "sum", TimeoutMs: -1}, {Function: "sum", TaskId: "a b"}, {Function: "sum", FailFast: true},
	} {
		task.Number = uint64(i + 1)
		c.submit(task)
		want, got := c.outcome(task.Number).GetError(), h.ask(task).GetError()
		if got.GetReason() == "" || got.GetReason() != want.GetReason() || got.GetMessage() != want.GetMessage() || got.GetCode() != want.GetCode() {
			t.Errorf("%v: %v, want %v", task, got, want)
		}
	}
	if _, tasks := h.s.Refusals(); tasks[Refused{codes.InvalidArgument, "INVALID_ARGUMENT"}] != 8 || tasks[Refused{codes.Unavailable, "NO_WORKER"}] != 2 {
		t.Errorf("counted %v, want each of them twice", tasks)
	}
}

func TestALocalTaskThatNobodyWantsIsCancelled(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	h.client() // so that it serves
	ctx, cancel := context.WithCancel(h.ctx)
	told := make(chan *pb.StreamOutcome, 2)
	c := h.local(ctx)
	c.Submit(&pb.StreamTask{Function: "sum"}, func(o *pb.StreamOutcome) { told <- o })
	h.eventually("it waits", func() bool { return h.d.Info().Queued == 1 })
	cancel()
	if o := <-told; o != nil {
		t.Errorf("it was told %v, want nothing", o)
	}
	h.eventually("it is gone", func() bool { return h.d.Info().Queued == 0 })
	c.Submit(&pb.StreamTask{Function: "sum"}, func(o *pb.StreamOutcome) { told <- o })
	if o, n := <-told, h.d.Info().Queued; o != nil || n != 0 {
		t.Errorf("one who is gone was told %v, and %d wait", o, n)
	}
}

// Whoever is in the process makes ids that are new, and asks for none again: the
// outcomes of a busy text port would fill memory for a minute.
func TestTheOutcomeOfALocalTaskIsNotKept(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	w := h.worker("w", 1, "sum")
	told := make(chan *pb.StreamOutcome, 1)
	h.local(h.ctx).Submit(&pb.StreamTask{Function: "sum", TaskId: "text-1"}, func(o *pb.StreamOutcome) { told <- o })
	w.answer(w.task(), "3")
	if o := <-told; string(o.GetResult()) != "3" {
		t.Errorf("got %v", o)
	}
	c := h.client()
	c.submit(&pb.StreamTask{Number: 1, Function: "sum", TaskId: "text-1"}) // would get what was kept
	w.answer(w.task(), "4")
	if o := c.outcome(1); string(o.GetResult()) != "4" {
		t.Errorf("got %v", o)
	}
}

// The limits and rights of the local principal hold, and are given back.
func TestTheLocalPrincipal(t *testing.T) {
	d, _ := principals(t, map[string]string{"text": `submit: [sum], work: [sum], limits: {tasks_per_second: 0.001, burst: 2, streams: 1}`})
	h := serve(t, dispatch.Options{}, Options{Auth: d, LocalPrincipal: "text"})
	if _, err := h.tasks.GetTask(h.ctx, &pb.GetTaskRequest{}); err == nil { // so that it serves
		t.Fatal("nobody in particular may ask")
	}
	l := h.s.Local()
	err := l.Work(h.ctx, &pb.Register{Functions: []string{"other"}, Slots: 1}, nil)
	if err == nil || !strings.Contains(err.Error(), "principal text may not work for function other") {
		t.Errorf("worked for another function: %v", err)
	}
	done := errors.New("done")
	err = l.Work(h.ctx, &pb.Register{Functions: []string{"sum"}, Slots: 1}, func(ctx context.Context, ses *dispatch.Session) error {
		if err := l.Work(ctx, &pb.Register{Functions: []string{"sum"}, Slots: 1}, nil); err == nil || !strings.Contains(err.Error(), "streams at a time") {
			t.Errorf("a second worker: %v", err)
		}
		if got := h.ask(&pb.StreamTask{Function: "other"}).GetError().GetReason(); got != "MAY_NOT_SUBMIT" {
			t.Errorf("another function: %s", got)
		}
		for range 2 {
			h.local(ctx).Submit(&pb.StreamTask{Function: "sum"}, func(o *pb.StreamOutcome) {
				if o != nil {
					t.Errorf("told %v", o)
				}
			})
		}
		if got := h.ask(&pb.StreamTask{Function: "sum"}).GetError().GetReason(); got != "RATE_LIMIT" {
			t.Errorf("a third task: %s", got)
		}
		return done
	})
	if err != done {
		t.Errorf("the worker ended with %v", err)
	}
	if err := l.Work(h.ctx, &pb.Register{Functions: []string{"sum"}, Slots: 1}, func(context.Context, *dispatch.Session) error { return nil }); err != nil {
		t.Errorf("after the first has left: %v", err)
	}
}
