package rpc

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/task"
)

func TestExplain(t *testing.T) {
	base := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	in := task.Task{ID: "a", Function: "sum"}
	record := func(s task.State, attempts ...task.Attempt) *task.Record {
		return &task.Record{Task: in, State: s, Due: base, Attempts: attempts}
	}
	end := func(s task.State, o task.Outcome) *task.Record {
		return &task.Record{Task: in, State: s, Finished: base, ForgetAt: base.Add(time.Hour), Outcome: o}
	}
	const kept = "; it is remembered until 2026-01-02T04:04:05Z."
	for want, x := range map[string]dispatch.Explanation{
		"It waits for a worker; it is the next of its queue. No connected worker offers the function sum.": {
			Record: record(task.Queued)},
		"It waits for a worker; about 7 tasks are before it. Connected workers that offer the function sum: 2; their slots: 8, all taken.": {
			Record: record(task.Queued), Workers: 2, Slots: 8, Position: 7},
		"It waits for a worker; about 1 task is before it. Connected workers that offer the function sum: 1; their slots: 1, free of them: 1.": {
			Record: record(task.Queued), Workers: 1, Slots: 1, FreeSlots: 1, Position: 1},
		"It waits for a worker; 10000 tasks or more are before it. The function sum is paused. Connected workers that offer the function sum: 1; their slots: 4, free of them: 3.": {
			Record: record(task.Queued), Paused: true, Workers: 1, Slots: 4, FreeSlots: 3, Position: 10000},
		"It waits for a worker; it is the next of its queue. The store is unavailable, so no durable task is given out: no space left. No connected worker offers the function sum.": {
			Record: record(task.Queued), StoreDown: errors.New("no space left")},
		"It is delayed until 2026-01-02T03:04:05Z. Connected workers that offer the function sum: 1; their slots: 1, free of them: 1.": {
			Record: record(task.Scheduled), Workers: 1, Slots: 1, FreeSlots: 1},
		"It waits until 2026-01-02T03:04:05Z, after attempt 3 failed. No connected worker offers the function sum.": {
			Record: record(task.Scheduled, task.Attempt{Number: 2}, task.Attempt{Number: 3})},
		"It runs at worker w1, attempt 2, for 1m5s; the worker was last heard 1.2s ago.": {
			Record: record(task.Running), WorkerID: "w1", Attempt: 2, Running: 65*time.Second + 300*time.Millisecond, LastHeard: 1234 * time.Millisecond, Paused: true},
		"It runs at worker w1, attempt 1, for 12ms; the worker is not connected.": {
			Record: record(task.Running), WorkerID: "w1", Attempt: 1, Running: 12 * time.Millisecond, LastHeard: -1},
		"It ran at worker w1 when the balancer was restarted; the worker has until 2026-01-02T03:04:05Z to come back for it. The store is unavailable, so no durable task is given out: gone.": {
			Record: record(task.Running), WorkerID: "w1", Awaited: true, StoreDown: errors.New("gone"), LastHeard: -1},
		"It succeeded at 2026-01-02T03:04:05Z on attempt 1 by worker w1" + kept: {
			Record: end(task.Succeeded, task.Outcome{Attempt: 1, WorkerID: "w1"}), StoreDown: errors.New("gone")},
		"It failed at 2026-01-02T03:04:05Z on attempt 3 by worker w1: HANDLER_ERROR (boom)" + kept: {
			Record: end(task.Failed, task.Outcome{Attempt: 3, WorkerID: "w1", Failure: &task.Failure{Reason: "HANDLER_ERROR", Message: "boom"}})},
		"It failed at 2026-01-02T03:04:05Z on attempt 3: ATTEMPT_TIMEOUT" + kept: {
			Record: end(task.Failed, task.Outcome{Attempt: 3, Failure: &task.Failure{Reason: "ATTEMPT_TIMEOUT"}})},
		"It was cancelled at 2026-01-02T03:04:05Z: TASK_CANCELLED (the task was cancelled)" + kept: {
			Record: end(task.Cancelled, task.Outcome{})},
		"It expired at 2026-01-02T03:04:05Z: TASK_EXPIRED (the task's time limit passed while it waited for a worker)" + kept: {
			Record: end(task.Expired, task.Outcome{})},
	} {
		if got := explain(&x); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestExplanationToWire(t *testing.T) {
	base := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	full := dispatch.Explanation{Workers: 1, Slots: 2, FreeSlots: 1, Paused: true, Position: 5, WorkerID: "w1", Running: time.Minute, LastHeard: time.Second, Attempt: 2}
	same := func(change func(*pb.ExplainTaskResponse)) *pb.ExplainTaskResponse {
		to := &pb.ExplainTaskResponse{TaskId: "a", Workers: 1, Slots: 2, FreeSlots: 1, Paused: true, Position: 5, WorkerId: "w1", Attempt: 2}
		change(to)
		return to
	}
	for what, c := range map[string]struct {
		state   task.State
		awaited bool
		heard   time.Duration
		want    *pb.ExplainTaskResponse
	}{
		"queued": {task.Queued, false, 1, same(func(to *pb.ExplainTaskResponse) {})},
		"scheduled": {task.Scheduled, false, 1, same(func(to *pb.ExplainTaskResponse) {
			to.RunAt = timestamppb.New(base)
		})},
		"running": {task.Running, false, time.Second, same(func(to *pb.ExplainTaskResponse) {
			to.RunningFor, to.LastHeardAgo = durationpb.New(time.Minute), durationpb.New(time.Second)
		})},
		"running out of sight": {task.Running, false, -1, same(func(to *pb.ExplainTaskResponse) { to.RunningFor = durationpb.New(time.Minute) })},
		"awaited":              {task.Running, true, -1, same(func(to *pb.ExplainTaskResponse) { to.RunAt = timestamppb.New(base) })},
		"over":                 {task.Succeeded, false, 1, &pb.ExplainTaskResponse{TaskId: "a"}},
	} {
		x := full
		x.Record, x.Awaited, x.LastHeard = &task.Record{Task: task.Task{ID: "a", Function: "f"}, State: c.state, Due: base}, c.awaited, c.heard
		got := explanationToWire(&x)
		if got.Explanation == "" {
			t.Errorf("%s: nothing is said", what)
		}
		got.Explanation, c.want.State = "", pb.TaskState(c.state)
		if !proto.Equal(got, c.want) {
			t.Errorf("%s: got\n%v\nwant\n%v", what, got, c.want)
		}
	}
}

func TestExplainTask(t *testing.T) {
	h, k := serveShelf(t, dispatch.Options{})
	k.put(&task.Record{Task: task.Task{ID: "a", Function: "f"}, State: task.Queued})
	x, err := h.tasks.ExplainTask(h.ctx, &pb.ExplainTaskRequest{TaskId: "a"})
	if err != nil || x.State != pb.TaskState_TASK_STATE_QUEUED || x.Slots != 8 || x.Explanation == "" {
		t.Errorf("%v, %v", x, err)
	}
}
