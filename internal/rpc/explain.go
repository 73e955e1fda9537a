package rpc

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/task"
)

func (s *taskService) ExplainTask(ctx context.Context, req *pb.ExplainTaskRequest) (*pb.ExplainTaskResponse, error) {
	if err := task.CheckID(req.GetTaskId()); err != nil {
		return nil, refuse(err)
	}
	if err := s.mayKnow(ctx, req.GetTaskId()); err != nil {
		return nil, err
	}
	x, err := s.kept.ExplainTask(ctx, req.GetTaskId())
	if err != nil {
		return nil, failed(ctx, s.log.log, err)
	}
	return explanationToWire(x), nil
}

func explanationToWire(x *dispatch.Explanation) *pb.ExplainTaskResponse {
	r := x.Record
	to := &pb.ExplainTaskResponse{TaskId: r.ID, State: pb.TaskState(r.State), Explanation: explain(x)}
	if r.State.Terminal() {
		return to
	}
	to.Workers, to.Slots, to.FreeSlots, to.Paused = int32(x.Workers), int32(x.Slots), int32(x.FreeSlots), x.Paused
	to.Position, to.WorkerId, to.Attempt = int64(x.Position), x.WorkerID, int32(x.Attempt)
	if r.State == task.Scheduled || x.Awaited {
		to.RunAt = moment(r.Due)
	}
	if r.State == task.Running && !x.Awaited {
		to.RunningFor = durationpb.New(x.Running)
		if x.LastHeard >= 0 {
			to.LastHeardAgo = durationpb.New(x.LastHeard)
		}
	}
	return to
}

// explain tells in words why a task is where it is.
func explain(x *dispatch.Explanation) string {
	r := x.Record
	if r.State.Terminal() {
		return explainEnd(r)
	}
	var says []string
	say := func(format string, args ...any) { says = append(says, fmt.Sprintf(format, args...)) }
	switch {
	case x.Awaited:
		say("It ran at worker %s when the balancer was restarted; the worker has until %s to come back for it.", x.WorkerID, clock(r.Due))
	case r.State == task.Running && x.LastHeard < 0:
		say("It runs at worker %s, attempt %d, for %s; the worker is not connected.", x.WorkerID, x.Attempt, about(x.Running))
	case r.State == task.Running:
		say("It runs at worker %s, attempt %d, for %s; the worker was last heard %s ago.", x.WorkerID, x.Attempt, about(x.Running), about(x.LastHeard))
	case r.State == task.Scheduled && len(r.Attempts) == 0:
		say("It is delayed until %s.", clock(r.Due))
	case r.State == task.Scheduled:
		say("It waits until %s, after attempt %d failed.", clock(r.Due), r.Attempts[len(r.Attempts)-1].Number)
	default:
		say("It waits for a worker; %s.", before(x.Position))
	}
	if x.StoreDown != nil {
		say("The store is unavailable, so no durable task is given out: %v.", x.StoreDown)
	}
	if r.State == task.Running {
		return strings.Join(says, " ")
	}
	if x.Paused {
		say("The function %s is paused.", r.Function)
	}
	switch {
	case x.Workers == 0:
		say("No connected worker offers the function %s.", r.Function)
	case x.FreeSlots <= 0:
		say("Connected workers that offer the function %s: %d; their slots: %d, all taken.", r.Function, x.Workers, x.Slots)
	default:
		say("Connected workers that offer the function %s: %d; their slots: %d, free of them: %d.", r.Function, x.Workers, x.Slots, x.FreeSlots)
	}
	return strings.Join(says, " ")
}

// explainEnd tells how a task ended.
func explainEnd(r *task.Record) string {
	var b strings.Builder
	switch r.State {
	case task.Succeeded:
		b.WriteString("It succeeded")
	case task.Failed:
		b.WriteString("It failed")
	case task.Cancelled:
		b.WriteString("It was cancelled")
	case task.Expired:
		b.WriteString("It expired")
	}
	fmt.Fprintf(&b, " at %s", clock(r.Finished))
	if o := &r.Outcome; o.Attempt > 0 {
		fmt.Fprintf(&b, " on attempt %d", o.Attempt)
		if o.WorkerID != "" {
			fmt.Fprintf(&b, " by worker %s", o.WorkerID)
		}
	}
	if f := whyNot(r); f != nil {
		fmt.Fprintf(&b, ": %s", f.Reason)
		if f.Message != "" {
			fmt.Fprintf(&b, " (%s)", f.Message)
		}
	}
	if !r.ForgetAt.IsZero() {
		fmt.Fprintf(&b, "; it is remembered until %s", clock(r.ForgetAt))
	}
	return b.String() + "."
}

// countedUp is how far the inside counts what is before a task.
const countedUp = 10_000

func before(position int) string {
	switch {
	case position <= 0:
		return "it is the next of its queue"
	case position >= countedUp:
		return fmt.Sprintf("%d tasks or more are before it", countedUp)
	case position == 1:
		return "about 1 task is before it"
	}
	return fmt.Sprintf("about %d tasks are before it", position)
}

// about is a span as people are told it.
func about(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
