package rpc

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/auth"
	"reparto/internal/dispatch"
	"reparto/internal/store/memory"
)

// What is about a task tells others no more than what is about none.
func TestATaskOfAnotherIsNone(t *testing.T) {
	d, as := principals(t, map[string]string{"owner": `submit: ["*"]`, "other": `submit: ["*"]`, "boss": `administer: true`})
	h := serve(t, dispatch.Options{Store: memory.New()}, Options{Auth: d})
	resp, err := h.tasks.Enqueue(as(h.ctx, "owner"), &pb.EnqueueRequest{Tasks: []*pb.EnqueueTask{{Function: "f", TaskId: "mine"}}})
	if err != nil || resp.Results[0].Error != nil {
		t.Fatal(err, resp)
	}
	none := refused{code: codes.NotFound, reason: "TASK_NOT_FOUND"}
	for _, id := range []string{"mine", "nobodys"} {
		_, err := h.tasks.GetTask(as(h.ctx, "other"), &pb.GetTaskRequest{TaskId: id})
		wants(t, err, none)
		_, err = h.tasks.CancelTask(as(h.ctx, "other"), &pb.CancelTaskRequest{TaskId: id})
		wants(t, err, none)
	}
	for name, n := range map[string]int{"owner": 1, "other": 0, "boss": 1} {
		list, err := h.tasks.ListTasks(as(h.ctx, name), &pb.ListTasksRequest{})
		if err != nil || len(list.Tasks) != n {
			t.Errorf("%s lists %v, %v; want %d", name, list, err, n)
		}
	}
	// The id is taken, also for the same content.
	again, err := h.tasks.Enqueue(as(h.ctx, "other"), &pb.EnqueueRequest{Tasks: []*pb.EnqueueTask{{Function: "f", TaskId: "mine"}}})
	if err != nil || again.Results[0].Error.GetReason() != "TASK_ID_CONFLICT" {
		t.Errorf("another's id: %v, %v", again, err)
	}
	got, err := h.tasks.GetTask(as(h.ctx, "owner"), &pb.GetTaskRequest{TaskId: "mine"})
	if err != nil || got.Task.State != pb.TaskState_TASK_STATE_QUEUED {
		t.Errorf("its owner finds %v, %v", got, err)
	}
}

// A worker that is connected can't be pushed out by another principal's.
func TestAnothersWorkerIDIsTaken(t *testing.T) {
	d, as := principals(t, map[string]string{"farm": `work: ["*"]`, "thief": `work: ["*"]`})
	h := serve(t, dispatch.Options{}, Options{Auth: d})
	register := func(name string) error {
		stream, err := h.work.Work(as(h.ctx, name))
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(&pb.WorkRequest{Register: &pb.Register{WorkerId: "w1", Slots: 1, Functions: []string{"f"}}})
		_, err = stream.Recv()
		return err
	}
	if err := register("farm"); err != nil {
		t.Fatal(err)
	}
	wants(t, register("thief"), refused{code: codes.PermissionDenied, reason: "WORKER_ID_TAKEN"})
	if err := register("farm"); err != nil {
		t.Errorf("its own principal: %v", err)
	}
}

// One task of a frame that may not be submitted is refused; its neighbours go on.
func TestAFrameWithATaskThatMayNotBe(t *testing.T) {
	d, as := principals(t, map[string]string{"p": `submit: ["a.*"]`})
	h := serve(t, dispatch.Options{}, Options{Auth: d})
	stream, err := h.tasks.SubmitStream(as(h.ctx, "p"))
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(&pb.SubmitStreamRequest{Tasks: []*pb.StreamTask{
		{Number: 1, Function: "b", FailFast: true}, {Number: 2, Function: "a.x", FailFast: true},
	}})
	reasons := map[uint64]string{}
	for len(reasons) < 2 {
		frame, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range frame.GetOutcomes() {
			reasons[o.Number] = o.Error.GetReason()
		}
	}
	if reasons[1] != "MAY_NOT_SUBMIT" || reasons[2] != "NO_WORKER" {
		t.Errorf("%v, want the first refused and the second taken", reasons)
	}
}

// A stream ends when what was shown for it expires, though nothing changes.
func TestAStreamEndsWithItsToken(t *testing.T) {
	token, hash := auth.NewToken()
	file := filepath.Join(t.TempDir(), "auth.yaml")
	yaml := fmt.Sprintf("principals:\n  - {name: p, tokens: [{hash: %q, expires: %s}], submit: ['*']}\n",
		hash, time.Now().Add(time.Second).UTC().Format(time.RFC3339Nano))
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := auth.Open(file, auth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h := serve(t, dispatch.Options{}, Options{Auth: d})
	stream, err := h.tasks.SubmitStream(metadata.AppendToOutgoingContext(h.ctx, "authorization", "Bearer "+token))
	for err == nil {
		_, err = stream.Recv()
	}
	wants(t, err, refused{code: codes.Unauthenticated, reason: "TOKEN_EXPIRED"})
}
