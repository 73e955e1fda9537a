package rpc

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/store/memory"
	"reparto/internal/task"
)

// breakable is a store that fails when it is told to.
type breakable struct {
	*memory.Store
	mu    sync.Mutex
	cause error
}

func (b *breakable) fail(cause error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cause = cause
}

func (b *breakable) Write(changes []task.Change) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cause != nil {
		return b.cause
	}
	return b.Store.Write(changes)
}

// enqueue hands over one task that must be taken.
func (h *house) enqueue(f *pb.EnqueueTask) string {
	h.t.Helper()
	resp, err := h.tasks.Enqueue(h.ctx, &pb.EnqueueRequest{Tasks: []*pb.EnqueueTask{f}})
	if err != nil || resp.Results[0].Error != nil {
		h.t.Fatalf("%v: %v, %v", f, resp, err)
	}
	return resp.Results[0].TaskId
}

func (h *house) explains(id string) *pb.ExplainTaskResponse {
	h.t.Helper()
	x, err := h.tasks.ExplainTask(h.ctx, &pb.ExplainTaskRequest{TaskId: id})
	if err != nil {
		h.t.Fatal(err)
	}
	return x
}

// TestLifeOfADurableTask goes from the client's call to the worker and back,
// with all that can be asked on the way.
func TestLifeOfADurableTask(t *testing.T) {
	h := serve(t, dispatch.Options{Store: memory.New(), StoreName: "memory:"}, Options{})
	if _, err := h.admin.PauseFunction(h.ctx, &pb.PauseFunctionRequest{Function: "f"}); err != nil {
		t.Fatal(err)
	}
	w := h.worker("w1", 1, "f")
	first, urgent := h.enqueue(&pb.EnqueueTask{Function: "f", Payload: []byte("first"), Priority: 5}), h.enqueue(&pb.EnqueueTask{Function: "f", Priority: 1})
	x := h.explains(first)
	if x.State != pb.TaskState_TASK_STATE_QUEUED || !x.Paused || x.Workers != 1 || x.FreeSlots != 1 {
		t.Errorf("a task that waits: %v", x)
	}
	if r, err := h.tasks.WaitTask(h.ctx, &pb.WaitTaskRequest{TaskId: first, Timeout: durationpb.New(1)}); err != nil || r.Done {
		t.Errorf("%v, %v: want an answer without an outcome", r, err)
	}
	if list, err := h.admin.ListFunctions(h.ctx, &pb.ListFunctionsRequest{}); err != nil || !list.Functions[0].Paused || list.Functions[0].Queued != 2 {
		t.Errorf("%v, %v: want f paused, and a wait that ended to leave its task there", list, err)
	}
	if r, err := h.admin.ResumeFunction(h.ctx, &pb.ResumeFunctionRequest{Function: "f"}); err != nil || !r.WasPaused {
		t.Fatal(r, err)
	}
	a := w.task()
	if a.TaskId != urgent {
		t.Errorf("%s came first, want the urgent one", a.TaskId)
	}
	if x = h.explains(urgent); x.State != pb.TaskState_TASK_STATE_RUNNING || x.WorkerId != "w1" || x.LastHeardAgo == nil {
		t.Errorf("a task that runs: %v", x)
	}
	w.answer(a, "out")
	b := w.task()
	w.fail(b, &pb.Failure{Reason: "BROKEN"})
	r, err := h.tasks.WaitTask(h.ctx, &pb.WaitTaskRequest{TaskId: first})
	if err != nil || !r.Done || r.Task.Failure.GetReason() != "BROKEN" || string(r.Task.Payload) != "first" || len(r.Task.Attempts) != 1 || r.Task.ForgetTime == nil {
		t.Errorf("%v, %v: want the failure", r, err)
	}
	if _, err := h.tasks.RetryTask(h.ctx, &pb.RetryTaskRequest{TaskId: first}); err != nil {
		t.Fatal(err)
	}
	c := w.task()
	if c.TaskId != first || c.Attempt != 2 || !slices.Contains(w.acked, a.Token) || !slices.Contains(w.acked, b.Token) {
		t.Errorf("%v, acknowledged %v: want the second attempt, and both results taken", c, w.acked)
	}
	_, err = h.tasks.RetryTask(h.ctx, &pb.RetryTaskRequest{TaskId: first})
	wants(t, err, refused{codes.FailedPrecondition, "TASK_NOT_FINISHED", "", false})
	if r, err := h.tasks.CancelTask(h.ctx, &pb.CancelTaskRequest{TaskId: first}); err != nil || r.Task.State != pb.TaskState_TASK_STATE_CANCELLED {
		t.Errorf("%v, %v", r, err)
	}
	if got := w.cancelled(); got.Token != c.Token {
		t.Errorf("%v, want the cancel", got)
	}
	list, err := h.tasks.ListTasks(h.ctx, &pb.ListTasksRequest{State: pb.TaskState_TASK_STATE_SUCCEEDED})
	if err != nil || len(list.Tasks) != 1 || list.Tasks[0].TaskId != urgent {
		t.Errorf("%v, %v: want the one that succeeded", list, err)
	}
	if x = h.explains(urgent); x.State != pb.TaskState_TASK_STATE_SUCCEEDED || x.Explanation == "" {
		t.Errorf("a task that is over: %v", x)
	}
	if _, err := h.admin.DrainWorker(h.ctx, &pb.DrainWorkerRequest{WorkerId: "w1"}); err != nil {
		t.Fatal(err)
	}
	if f := w.recv(); f.Drain == nil || !f.Drain.Leave {
		t.Errorf("%v, want the worker to be told to leave", f)
	}
}

// TestAStoreThatFails: what needs the disk is refused, and what does not goes on.
func TestAStoreThatFails(t *testing.T) {
	store := &breakable{Store: memory.New()}
	h := serve(t, dispatch.Options{Store: store}, Options{})
	h.worker("w1", 4, "f").work(echo)
	id := h.enqueue(&pb.EnqueueTask{Function: "f", Payload: []byte("x")})
	if r, err := h.tasks.WaitTask(h.ctx, &pb.WaitTaskRequest{TaskId: id}); err != nil || string(r.Task.Result) != "x" {
		t.Fatal(r, err)
	}
	store.fail(errors.New("no space left"))
	resp, err := h.tasks.Enqueue(h.ctx, &pb.EnqueueRequest{Tasks: []*pb.EnqueueTask{{Function: "f"}, {Function: "f", TaskId: "mine"}}})
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range []string{"", "mine"} {
		if r := resp.Results[i]; r.TaskId != id || r.Error.GetReason() != "STORE_UNAVAILABLE" || r.Error.GetRetryAfterMs() == 0 {
			t.Errorf("task %d: %v", i, r)
		}
	}
	if info, err := h.admin.GetServerInfo(h.ctx, &pb.GetServerInfoRequest{}); err != nil || info.StoreError == "" {
		t.Errorf("%v, %v: want the operator to see it", info, err)
	}
	_, err = h.admin.PauseFunction(h.ctx, &pb.PauseFunctionRequest{Function: "f"})
	wants(t, err, refused{codes.Unavailable, "STORE_UNAVAILABLE", "", true})
	if r, err := h.tasks.Submit(h.ctx, &pb.SubmitRequest{Function: "f", Payload: []byte("y")}); err != nil || string(r.Result) != "y" {
		t.Errorf("%v, %v: Submit goes on without a store", r, err)
	}
	store.fail(nil)
	h.eventually("the store is seen to work again", func() bool { return h.d.Info().StoreError == nil })
	h.enqueue(&pb.EnqueueTask{Function: "f", TaskId: "mine"})
}

// TestAWorkerClaimsWhatItRanBeforeARestart: it lists what it runs and what it
// has finished, and neither is run again.
func TestAWorkerClaimsWhatItRanBeforeARestart(t *testing.T) {
	store := memory.New()
	before := serve(t, dispatch.Options{Store: store}, Options{})
	w := before.worker("w1", 2, "f")
	var claims []*pb.RunningTask
	for i := range 2 {
		before.enqueue(&pb.EnqueueTask{Function: "f", TaskId: fmt.Sprint("t", i)})
		a := w.task()
		claims = append(claims, &pb.RunningTask{TaskId: a.TaskId, Attempt: a.Attempt, Token: a.Token, Finished: i == 1})
	}
	before.d.Close() // first, so that a stream that ends gives no task back
	before.s.Close()

	after := serve(t, dispatch.Options{Store: store}, Options{})
	if x := after.explains("t0"); x.WorkerId != "w1" || x.RunAt == nil || x.RunningFor != nil {
		t.Errorf("a task that waits for its worker: %v", x)
	}
	w = after.register(&pb.Register{WorkerId: "w1", Functions: []string{"f"}, Slots: 1, Running: claims})
	if !w.ack.AcknowledgesResults {
		t.Error("the ack does not say that results are acknowledged")
	}
	for _, c := range claims {
		w.answer(&pb.AssignTask{TaskId: c.TaskId, Attempt: c.Attempt, Token: c.Token}, "out-"+c.TaskId)
		r, err := after.tasks.WaitTask(after.ctx, &pb.WaitTaskRequest{TaskId: c.TaskId})
		if err != nil || !r.Done || string(r.Task.Result) != "out-"+c.TaskId || len(r.Task.Attempts) != 1 {
			t.Errorf("%s: %v, %v; want the result of its only attempt", c.TaskId, r, err)
		}
	}
}

func TestWithoutAStoreEnqueueRefusesAll(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	resp, err := h.tasks.Enqueue(h.ctx, &pb.EnqueueRequest{Tasks: []*pb.EnqueueTask{{Function: "f", TaskId: "a"}}})
	if err != nil || resp.Results[0].Error.GetReason() != "STORE_UNAVAILABLE" {
		t.Errorf("%v, %v", resp, err)
	}
	for name, call := range aboutOne(h, "a") {
		if _, err := call(); err == nil {
			t.Errorf("%s found a task where none is kept", name)
		}
	}
	if list, err := h.tasks.ListTasks(h.ctx, &pb.ListTasksRequest{}); err != nil || len(list.Tasks) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	if was, err := h.d.PauseFunction(h.ctx, "f", true); was || err != nil {
		t.Errorf("a pause needs no store: %v, %v", was, err)
	}
}
