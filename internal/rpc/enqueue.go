package rpc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/status"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/task"
)

// Keeper is what the border wants of whoever keeps durable tasks, as
// dispatch.Dispatcher does.
type Keeper interface {
	// Enqueue takes a batch of valid durable tasks and returns once they are on
	// disk, or refused.
	Enqueue(ctx context.Context, batch []dispatch.Enqueuing)
	CancelTask(ctx context.Context, id string) (*task.Record, error)
	RetryTask(ctx context.Context, id string) (*task.Record, error)
}

// maxEnqueue is the most tasks of a batch.
const maxEnqueue = 1000

func (s *taskService) Enqueue(ctx context.Context, req *pb.EnqueueRequest) (*pb.EnqueueResponse, error) {
	n := len(req.GetTasks())
	if n == 0 || n > maxEnqueue {
		return nil, invalid("tasks", fmt.Sprintf("has %d tasks; give 1 to %d", n, maxEnqueue))
	}
	all, resp := make([]pb.Enqueued, n), &pb.EnqueueResponse{Results: make([]*pb.Enqueued, n)}
	batch, places := make([]dispatch.Enqueuing, 0, n), make([]*pb.Enqueued, 0, n)
	in := enqueuing{limits: &s.limits, now: wallClock(time.Now())}
	for i, f := range req.GetTasks() {
		to := &all[i]
		resp.Results[i] = to
		t, err := in.task(f)
		if err == nil {
			err = admit(ctx, in.now, &t)
		}
		if err != nil {
			s.refused.task(ctx, err, 1)
			to.TaskId, to.Error = f.GetTaskId(), frameError(err)
			continue
		}
		s.log.received(ctx, &t)
		batch, places = append(batch, dispatch.Enqueuing{Task: t}), append(places, to)
	}
	if len(batch) == 0 {
		return resp, nil
	}
	s.keeper.Enqueue(ctx, batch)
	for i := range batch {
		b, to := &batch[i], places[i]
		if over := ctx.Err(); over != nil && errors.Is(b.Err, over) {
			return nil, status.FromContextError(over).Err()
		}
		to.TaskId, to.Existed = b.Task.ID, b.Existed
		if b.Err != nil {
			err := failed(ctx, s.log.log, b.Err)
			s.refused.task(ctx, err, 1)
			to.Error = frameError(err)
			if !b.Task.OwnID {
				to.TaskId = "" // nothing bears it
			}
		}
	}
	return resp, nil
}
