package rpc

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/task"
)

func TestStatesHaveTheNumbersOfTheContract(t *testing.T) {
	for s := task.Scheduled; s <= task.Expired; s++ {
		if got, want := pb.TaskState(s).String(), "TASK_STATE_"+s.String(); got != want {
			t.Errorf("%v is %s on the wire", s, got)
		}
	}
}

func TestRecordToWire(t *testing.T) {
	base := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	ts := func(s int) *timestamppb.Timestamp { return timestamppb.New(base.Add(time.Duration(s) * time.Second)) }
	tm := func(s int) time.Time { return ts(s).AsTime() }
	asked := task.Task{
		ID: "a", Function: "f", Payload: []byte("p"), Metadata: map[string]string{"k": "v"}, Priority: 2, MaxAttempts: 4, Deadline: tm(100),
		Durable: &task.Durable{RunAt: tm(5)},
	}
	attempts := []task.Attempt{
		{Number: 1, WorkerID: "w1", Started: tm(6), Ended: tm(7), Failure: &task.Failure{Reason: "R", Message: "m", Retry: true}},
		{Number: 2, WorkerID: "w2", Started: tm(8)},
	}
	wireAttempts := []*pb.Attempt{
		{Attempt: 1, WorkerId: "w1", StartTime: ts(6), EndTime: ts(7), Failure: &pb.Failure{Reason: "R", Message: "m", Retry: true}},
		{Attempt: 2, WorkerId: "w2", StartTime: ts(8)},
	}
	wired := func(change func(*pb.Task)) *pb.Task {
		to := &pb.Task{
			TaskId: "a", Function: "f", Payload: []byte("p"), Metadata: map[string]string{"k": "v"}, Priority: 2, MaxAttempts: 4,
			EnqueueTime: ts(0), RunAt: ts(5), ExpireTime: ts(100),
		}
		change(to)
		return to
	}
	for what, c := range map[string]struct {
		r    task.Record
		want *pb.Task
	}{
		"running": {
			task.Record{Task: asked, Enqueued: base, State: task.Running, Due: tm(3), FailedAttempts: 1, LostAttempts: 2, Attempts: attempts},
			wired(func(to *pb.Task) {
				to.State, to.FailedAttempts, to.LostAttempts, to.Attempts = pb.TaskState_TASK_STATE_RUNNING, 1, 2, wireAttempts
			})},
		"scheduled": {
			task.Record{Task: asked, Enqueued: base, State: task.Scheduled, Due: tm(9)},
			wired(func(to *pb.Task) { to.State, to.RunAt = pb.TaskState_TASK_STATE_SCHEDULED, ts(9) })},
		"succeeded": {
			task.Record{Task: asked, Enqueued: base, State: task.Succeeded, Finished: tm(20), ForgetAt: tm(30), Outcome: task.Outcome{State: task.Succeeded, Result: []byte("out")}},
			wired(func(to *pb.Task) {
				to.State, to.FinishTime, to.ForgetTime, to.Result = pb.TaskState_TASK_STATE_SUCCEEDED, ts(20), ts(30), []byte("out")
			})},
		"failed": {
			task.Record{Task: asked, Enqueued: base, State: task.Failed, Finished: tm(20), ForgetAt: tm(30), Outcome: task.Outcome{Failure: &task.Failure{Reason: "R"}}},
			wired(func(to *pb.Task) {
				to.State, to.FinishTime, to.ForgetTime, to.Failure = pb.TaskState_TASK_STATE_FAILED, ts(20), ts(30), &pb.Failure{Reason: "R"}
			})},
		"expired": {
			task.Record{Task: asked, Enqueued: base, State: task.Expired, Finished: tm(20), ForgetAt: tm(30), Outcome: task.Outcome{WasRunning: true}},
			wired(func(to *pb.Task) {
				to.State, to.FinishTime, to.ForgetTime = pb.TaskState_TASK_STATE_EXPIRED, ts(20), ts(30)
				to.Failure = &pb.Failure{Reason: "TASK_EXPIRED", Message: "the task's time limit passed while a worker ran it"}
			})},
		"a store's bare one": {task.Record{Task: task.Task{ID: "a"}, State: task.Queued}, &pb.Task{TaskId: "a", State: pb.TaskState_TASK_STATE_QUEUED}},
	} {
		if got := recordToWire(&c.r); !proto.Equal(got, c.want) {
			t.Errorf("%s: got\n%v\nwant\n%v", what, got, c.want)
		}
	}
}
