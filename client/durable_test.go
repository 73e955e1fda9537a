package client

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "reparto/gen/reparto/v1"
)

func TestWaitGoesOn(t *testing.T) {
	k := newKeeper(t)
	k.wait = func(n int) (*pb.WaitTaskResponse, error) {
		switch n {
		case 1:
			return &pb.WaitTaskResponse{Task: &pb.Task{TaskId: "t"}}, nil
		case 2:
			return nil, errBroken
		}
		return &pb.WaitTaskResponse{Done: true, Task: &pb.Task{
			TaskId: "t", State: pb.TaskState_TASK_STATE_SUCCEEDED, Result: []byte("r"), Attempts: []*pb.Attempt{{Attempt: 1}, {Attempt: 2, WorkerId: "w"}},
		}}, nil
	}
	out, err := k.client().Wait(t.Context(), "t")
	if err != nil || out.TaskID != "t" || string(out.Result) != "r" || out.Attempt != 2 || out.WorkerID != "w" || k.waits != 3 {
		t.Errorf("%+v, %v after %d calls", out, err, k.waits)
	}
}

func TestWaitTellsHowATaskEnded(t *testing.T) {
	k := newKeeper(t)
	var task *pb.Task
	k.wait = func(int) (*pb.WaitTaskResponse, error) { return &pb.WaitTaskResponse{Done: true, Task: task}, nil }
	c := k.client()
	task = &pb.Task{TaskId: "t", State: pb.TaskState_TASK_STATE_FAILED, Failure: &pb.Failure{Reason: "BAD", Message: "no", Retry: true}, Attempts: []*pb.Attempt{{Attempt: 3, WorkerId: "w"}}}
	_, err := c.Wait(t.Context(), "t")
	if f, ok := errors.AsType[*TaskError](err); !ok || *f != (TaskError{TaskID: "t", Reason: "BAD", Message: "no", Retry: true, Attempt: 3, WorkerID: "w"}) {
		t.Errorf("%+v", err)
	}
	task = &pb.Task{TaskId: "t", State: pb.TaskState_TASK_STATE_CANCELLED}
	_, err = c.Wait(t.Context(), "t")
	if e := wantError(t, err, "TASK_CANCELLED"); e.Code != codes.Canceled || !errors.Is(e, context.Canceled) {
		t.Errorf("%+v", e)
	}
	task = &pb.Task{TaskId: "t", State: pb.TaskState_TASK_STATE_EXPIRED}
	_, err = c.Wait(t.Context(), "t")
	if e := wantError(t, err, "TASK_EXPIRED"); e.Code != codes.DeadlineExceeded || !errors.Is(e, context.DeadlineExceeded) {
		t.Errorf("%+v", e)
	}
}

// The balancer answers a short time limit a little before it: that is no reason
// to ask again and again.
func TestWaitForAShortTime(t *testing.T) {
	k := newKeeper(t)
	k.wait = func(int) (*pb.WaitTaskResponse, error) { return &pb.WaitTaskResponse{}, nil }
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := k.client().Wait(ctx, "t")
	if e := wantError(t, err, "CONTEXT_ENDED"); !errors.Is(e, context.DeadlineExceeded) || k.waits != 1 {
		t.Errorf("%+v after %d calls", e, k.waits)
	}
}

// A call's own time limit may be noticed by the balancer first.
func TestABalancerWithAFasterClock(t *testing.T) {
	k := newKeeper(t)
	k.wait = func(int) (*pb.WaitTaskResponse, error) { return nil, status.Error(codes.DeadlineExceeded, "") }
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := k.client().Wait(ctx, "t")
	if e := wantError(t, err, "CONTEXT_ENDED"); !errors.Is(e, context.DeadlineExceeded) {
		t.Errorf("%+v", e)
	}
}

func TestListGoesOverEmptyPages(t *testing.T) {
	k := newKeeper(t)
	k.list = func(req *pb.ListTasksRequest) (*pb.ListTasksResponse, error) {
		if req.GetState() != pb.TaskState_TASK_STATE_FAILED || req.GetFunction() != "f" {
			t.Errorf("asked for %v", req)
		}
		switch req.GetPageToken() {
		case "":
			return &pb.ListTasksResponse{NextPageToken: "1", Tasks: []*pb.Task{{TaskId: "a"}}}, nil
		case "1":
			return &pb.ListTasksResponse{NextPageToken: "2"}, nil
		}
		return &pb.ListTasksResponse{Tasks: []*pb.Task{{TaskId: "b"}, {TaskId: "c"}}}, nil
	}
	tasks := k.client().List(t.Context(), Filter{State: Failed, Function: "f"})
	for range 2 { // each walk begins anew
		got := ""
		for info, err := range tasks {
			if err != nil {
				t.Fatal(err)
			}
			if got += info.ID; info.ID == "b" {
				break
			}
		}
		if got != "ab" {
			t.Errorf("got %s", got)
		}
	}
}

// An unknown state must not list all there are.
func TestListOfAnUnknownState(t *testing.T) {
	n := 0
	for _, err := range newKeeper(t).client().List(t.Context(), Filter{State: "failed"}) {
		n++
		wantError(t, err, "STATE")
	}
	if n != 1 {
		t.Errorf("%d errors", n)
	}
}
