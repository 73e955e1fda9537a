package rpc

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/task"
)

func TestAckTellsTheTerms(t *testing.T) {
	h := serve(t, dispatch.Options{Heartbeat: 1500 * time.Millisecond, MaxPayload: 100}, Options{MaxMessage: 5000})
	got := h.worker("w1", 1, "sum").ack
	want := &pb.Ack{WorkerId: "w1", SessionId: got.SessionId, HeartbeatIntervalMs: 1500, ServerId: h.d.ID(),
		Limits: &pb.WorkerLimits{MaxPayloadBytes: 100, MaxMessageBytes: 5000, MaxFrameTasks: 256}, AcknowledgesResults: true}
	if !proto.Equal(got, want) || got.SessionId == "" {
		t.Errorf("ack %v, want %v", got, want)
	}
	if got := h.worker("", 1, "sum").ack; len(got.WorkerId) != 36 {
		t.Errorf("a nameless worker was called %q, want a UUID", got.WorkerId)
	}
}

func TestFirstFrameMustRegister(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	reg := func() *pb.Register { return &pb.Register{WorkerId: "w1", Slots: 1, Functions: []string{"f"}} }
	many := make([]string, task.MaxWorkerFuncs+1)
	for i := range many {
		many[i] = fmt.Sprint("f", i)
	}
	register := refused{codes.InvalidArgument, "REGISTER", "register", false}
	for what, c := range map[string]struct {
		frame *pb.WorkRequest
		want  refused
	}{
		"empty":              {&pb.WorkRequest{}, register},
		"heartbeat":          {&pb.WorkRequest{Heartbeat: &pb.Heartbeat{}}, register},
		"with results":       {&pb.WorkRequest{Register: reg(), TaskResults: []*pb.TaskResult{{}}}, register},
		"with progress":      {&pb.WorkRequest{Register: reg(), Progress: []*pb.Progress{{}}}, register},
		"with heartbeat":     {&pb.WorkRequest{Register: reg(), Heartbeat: &pb.Heartbeat{}}, register},
		"with drain":         {&pb.WorkRequest{Register: reg(), Drain: &pb.Drain{}}, register},
		"no function":        {&pb.WorkRequest{Register: &pb.Register{Slots: 1}}, refused{codes.InvalidArgument, "FUNCTIONS", "functions", false}},
		"bad function":       {&pb.WorkRequest{Register: &pb.Register{Slots: 1, Functions: []string{"a b"}}}, refused{codes.InvalidArgument, "FUNCTIONS", "functions", false}},
		"function twice":     {&pb.WorkRequest{Register: &pb.Register{Slots: 1, Functions: []string{"a", "a"}}}, refused{codes.InvalidArgument, "FUNCTIONS", "functions", false}},
		"too many functions": {&pb.WorkRequest{Register: &pb.Register{Slots: 1, Functions: many}}, refused{codes.InvalidArgument, "FUNCTIONS", "functions", false}},
		"no slot":            {&pb.WorkRequest{Register: &pb.Register{Functions: []string{"f"}}}, refused{codes.InvalidArgument, "SLOTS", "slots", false}},
		"negative slots":     {&pb.WorkRequest{Register: &pb.Register{Functions: []string{"f"}, Slots: -1}}, refused{codes.InvalidArgument, "SLOTS", "slots", false}},
		"too many slots":     {&pb.WorkRequest{Register: &pb.Register{Functions: []string{"f"}, Slots: 65537}}, refused{codes.InvalidArgument, "SLOTS", "slots", false}},
		"bad worker id":      {&pb.WorkRequest{Register: &pb.Register{WorkerId: "a b", Functions: []string{"f"}, Slots: 1}}, refused{codes.InvalidArgument, "WORKER_ID", "worker_id", false}},
		"bad labels":         {&pb.WorkRequest{Register: &pb.Register{Labels: map[string]string{"": ""}, Functions: []string{"f"}, Slots: 1}}, refused{codes.InvalidArgument, "LABELS", "labels", false}},
		"runs more":          {&pb.WorkRequest{Register: &pb.Register{Running: make([]*pb.RunningTask, 2), Functions: []string{"f"}, Slots: 1}}, refused{codes.InvalidArgument, "RUNNING", "running", false}},
	} {
		t.Run(what, func(t *testing.T) {
			w := h.openWork()
			w.send(c.frame)
			wants(t, w.end(), c.want)
		})
	}
	w := h.openWork()
	w.stream.CloseSend()
	wants(t, w.end(), register)
	if n := h.d.Info().Sessions; n != 0 {
		t.Errorf("%d sessions, want none", n)
	}
	h.worker("most", task.MaxSlots, many[:task.MaxWorkerFuncs]...)
}

func TestRegisterLimit(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{RegisterLimit: 20 * time.Millisecond})
	err := h.openWork().end()
	wants(t, err, refused{codes.DeadlineExceeded, "REGISTER_LIMIT", "", false})
	if !strings.Contains(err.Error(), "20ms") {
		t.Errorf("%v, want the limit named", err)
	}
}

func TestSecondRegisterEndsTheStream(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	w := h.worker("w1", 1, "f")
	w.send(&pb.WorkRequest{Register: &pb.Register{WorkerId: "w1", Slots: 1, Functions: []string{"f"}}})
	wants(t, w.end(), refused{codes.InvalidArgument, "REGISTER", "register", false})
	h.eventually("the session is gone", func() bool { return h.d.Info().Sessions == 0 })
}

func TestFrameOfResultsAtItsLimit(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	w := h.worker("w1", 512, "f")
	c := h.client()
	for i := range uint64(2) {
		var frame []*pb.StreamTask
		for j := range uint64(256) {
			frame = append(frame, streamTask(i*256+j, "f", ""))
		}
		c.submit(frame...)
	}
	var got []*pb.TaskResult
	for len(got) < 512 {
		f := w.recv()
		if len(f.AssignTasks) > 256 {
			t.Fatalf("a frame of %d assignments", len(f.AssignTasks))
		}
		for _, a := range f.AssignTasks {
			got = append(got, &pb.TaskResult{TaskId: a.TaskId, Attempt: a.Attempt, Token: a.Token, Result: []byte("r")})
		}
	}
	w.send(&pb.WorkRequest{TaskResults: got[:256]})
	for range 256 {
		for len(c.got) == 0 {
			f, err := c.stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			c.got = f.Outcomes
		}
		c.got = c.got[1:]
	}
	w.send(&pb.WorkRequest{TaskResults: append(got[256:], &pb.TaskResult{})})
	err := w.end()
	wants(t, err, refused{codes.InvalidArgument, "TASK_RESULTS", "task_results", false})
	if !strings.Contains(err.Error(), "257") {
		t.Errorf("%v, want the number named", err)
	}
}

func TestAnswersThatNobodyAskedForAreIgnored(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	w := h.worker("w1", 1, "f")
	got := submitting(h, &pb.SubmitRequest{Function: "f"})
	a := w.task()
	w.send(&pb.WorkRequest{TaskResults: []*pb.TaskResult{
		{}, {TaskId: a.TaskId, Attempt: a.Attempt, Token: a.Token + 1<<32, Result: []byte("wrong")}, {TaskId: "unknown", Token: 1 << 63},
	}, Progress: []*pb.Progress{{Token: 77}}})
	w.answer(a, "right")
	w.answer(a, "again")
	if r := <-got; r.err != nil || string(r.resp.Result) != "right" {
		t.Fatalf("%v, %v", r.resp, r.err)
	}
}

func TestReplacedSession(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	old := h.worker("w1", 2, "f")
	keep, drop := submitting(h, &pb.SubmitRequest{Function: "f", TaskId: "keep"}), (<-chan submitted)(nil)
	a := old.task()
	drop = submitting(h, &pb.SubmitRequest{Function: "f", TaskId: "drop"})
	b := old.task()
	fresh := h.register(&pb.Register{WorkerId: "w1", Slots: 2, Functions: []string{"f"}, Running: []*pb.RunningTask{
		{TaskId: a.TaskId, Attempt: a.Attempt, Token: a.Token}, {TaskId: "gone", Attempt: 1, Token: 5},
	}})
	wants(t, old.end(), refused{codes.Aborted, "SESSION_REPLACED", "", false})
	if c := fresh.cancelled(); c.TaskId != "gone" || c.Token != 5 || c.Reason != task.CancelSuperseded {
		t.Fatalf("cancel %v, want the task that is not known", c)
	}
	fresh.fail(&pb.AssignTask{TaskId: "gone", Attempt: 1, Token: 5}, &pb.Failure{Reason: "CANCELLED"})
	again := fresh.task() // its slot is free now
	if again.TaskId != b.TaskId || again.Attempt != 2 {
		t.Fatalf("assignment %v, want attempt 2 of %s", again, b.TaskId)
	}
	fresh.answer(a, "kept") // under its old token
	fresh.answer(again, "again")
	if r := <-keep; r.err != nil || string(r.resp.Result) != "kept" || r.resp.Attempt != 1 {
		t.Errorf("kept task: %v, %v", r.resp, r.err)
	}
	if r := <-drop; r.err != nil || string(r.resp.Result) != "again" || r.resp.Attempt != 2 {
		t.Errorf("other task: %v, %v", r.resp, r.err)
	}
}

func TestClaimAfterABreak(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	w := h.worker("w1", 1, "f")
	got := submitting(h, &pb.SubmitRequest{Function: "f"})
	a := w.task()
	w.stream.CloseSend() // gone, with its task
	if err := w.end(); err != nil {
		t.Fatalf("a worker that closes its side ends with %v, want OK", err)
	}
	h.eventually("the task is queued again", func() bool { return h.d.Info().Queued == 1 })
	w = h.register(&pb.Register{WorkerId: "w1", Slots: 1, Functions: []string{"f"}, Running: []*pb.RunningTask{
		{TaskId: a.TaskId, Attempt: a.Attempt, Token: a.Token}}})
	w.answer(a, "still mine")
	if r := <-got; r.err != nil || string(r.resp.Result) != "still mine" || r.resp.Attempt != 1 {
		t.Fatalf("%v, %v", r.resp, r.err)
	}
}

func TestBrokenWorkersTasksMove(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	first, other := h.worker("w1", 1, "f"), h.worker("w2", 1, "f")
	got := submitting(h, &pb.SubmitRequest{Function: "f"})
	first.task()
	first.send(&pb.WorkRequest{Register: &pb.Register{}}) // ends its stream
	a := other.task()
	if a.Attempt != 2 {
		t.Fatalf("assignment %v, want attempt 2", a)
	}
	other.answer(a, "x")
	if r := <-got; r.err != nil || r.resp.WorkerId != "w2" {
		t.Fatalf("%v, %v", r.resp, r.err)
	}
}

func TestHeartbeats(t *testing.T) {
	h := serve(t, dispatch.Options{Heartbeat: 300 * time.Millisecond}, Options{})
	w := h.worker("w1", 1, "f")
	for range 2 { // nothing else is said in either direction
		f, err := w.stream.Recv()
		if err != nil || f.Heartbeat == nil || len(f.AssignTasks)+len(f.CancelTasks) > 0 {
			t.Fatalf("%v, %v; want a heartbeat", f, err)
		}
		w.send(&pb.WorkRequest{Heartbeat: &pb.Heartbeat{}})
	}
}

func TestSilentWorkerIsToldSo(t *testing.T) {
	h := serve(t, dispatch.Options{Heartbeat: 20 * time.Millisecond}, Options{})
	w := h.worker("w1", 1, "f") // it reads, and never says a word
	wants(t, w.end(), refused{codes.Aborted, "WORKER_SILENT", "", true})
	h.eventually("the session is gone", func() bool { return h.d.Info().Sessions == 0 })
}

func TestWorkerThatDrainsGetsItsEcho(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	w := h.worker("w1", 2, "f")
	got := submitting(h, &pb.SubmitRequest{Function: "f"})
	a := w.task()
	w.send(&pb.WorkRequest{Drain: &pb.Drain{}})
	if f := w.recv(); f.Drain == nil || f.Drain.ReconnectAfterMs != 0 {
		t.Fatalf("%v, want a drain in return", f)
	}
	next := submitting(h, &pb.SubmitRequest{Function: "f"})
	h.eventually("the next task waits", func() bool { return h.d.Info().Queued == 1 })
	w.answer(a, "x")
	if r := <-got; r.err != nil {
		t.Fatal(r.err)
	}
	w.stream.CloseSend()
	if err := w.end(); err != nil {
		t.Fatalf("the stream ended with %v, want OK", err)
	}
	h.worker("w2", 1, "f").work(echo)
	if r := <-next; r.err != nil || r.resp.Attempt != 1 {
		t.Fatalf("%v, %v", r.resp, r.err)
	}
}

// A worker that never reads its stream: what it was given fills its window, so
// that a send to it blocks. The others go on; its tasks move.
func TestWorkerThatNeverReads(t *testing.T) {
	h := serve(t, dispatch.Options{Heartbeat: time.Second, SendLimit: 100 * time.Millisecond}, Options{})
	stuck := h.worker("stuck", many, "large")
	c := h.client()
	payload := strings.Repeat("x", large)
	c.submit(streamTask(0, "large", payload))
	h.eventually("the first is given out", func() bool { return h.d.Info().Running+h.d.Info().Queued == 1 })
	for i := range uint64(many - 1) {
		c.submit(streamTask(i+1, "large", payload))
	}
	h.worker("other", 4, "large", "small").work(func(*pb.AssignTask) *pb.TaskResult { return &pb.TaskResult{Result: []byte("ok")} })
	c.submit(streamTask(1000, "small", "")) // undisturbed
	if o := c.outcome(1000); string(o.Result) != "ok" {
		t.Fatalf("small task: %v", o)
	}
	for i := range uint64(many) {
		o := c.outcome(i)
		if string(o.Result) != "ok" || o.WorkerId != "other" || (i == 0 && o.Attempt != 2) {
			t.Fatalf("task %d: %v, want it done by the other worker, the first in attempt 2", i, o)
		}
	}
	wants(t, stuck.end(), refused{codes.Aborted, "SEND_BLOCKED", "", true})
	resp, err := h.admin.ListWorkers(h.ctx, &pb.ListWorkersRequest{})
	if err != nil || slices.ContainsFunc(resp.Workers, func(w *pb.Worker) bool { return w.WorkerId == "stuck" }) {
		t.Fatalf("%v, %v: the stuck worker is still listed", resp, err)
	}
}
