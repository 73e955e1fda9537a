package bench

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc"

	pb "reparto/gen/reparto/v1"
	"reparto/worker"
)

// runWorker is a worker process: with the SDK, or the simplest that works.
func runWorker(ctx context.Context, c config, say func(string, any)) error {
	conn, err := grpc.NewClient(c.Address, worker.DialOptions(nil)...)
	if err != nil {
		return err
	}
	defer conn.Close()
	if c.Kind == "raw" {
		return rawWorker(ctx, conn, rawSlots, func() { say("ready", nil) })
	}
	return worker.Run(ctx, conn, worker.Handlers{
		function: func(_ context.Context, t worker.Task) ([]byte, error) { return t.Payload, nil },
	}, worker.Options{OnRegistered: func(worker.Registration) { say("ready", nil) }})
}

// rawSlots is more than any benchmark has in flight.
const rawSlots = 4096

// rawWorker answers in its receive loop, a frame of results for a frame of
// tasks, and a heartbeat with a heartbeat.
func rawWorker(ctx context.Context, conn grpc.ClientConnInterface, slots int32, ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := pb.NewWorkerServiceClient(conn).Work(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&pb.WorkRequest{Register: &pb.Register{Functions: []string{function}, Slots: slots}}); err != nil {
		return err
	}
	if _, err := stream.Recv(); err != nil {
		return err
	}
	ready()
	for {
		in, err := stream.Recv()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		out := &pb.WorkRequest{Heartbeat: in.Heartbeat, TaskResults: make([]*pb.TaskResult, len(in.AssignTasks))}
		for i, t := range in.AssignTasks {
			out.TaskResults[i] = &pb.TaskResult{TaskId: t.TaskId, Attempt: t.Attempt, Token: t.Token, Result: t.Payload}
		}
		if err := stream.Send(out); err != nil {
			return err
		}
	}
}

// runSessions holds many idle sessions, so many on each connection.
func runSessions(ctx context.Context, c config, say func(string, any)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	ready := make(chan struct{}, c.Sessions)
	limit := make(chan struct{}, 256) // sessions that register at once
	for i := 0; i < c.Sessions; i += c.PerConn {
		conn, err := grpc.NewClient(c.Address, worker.DialOptions(nil)...)
		if err != nil {
			return err
		}
		defer conn.Close()
		for range min(c.PerConn, c.Sessions-i) {
			select {
			case limit <- struct{}{}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			wg.Go(func() {
				err := rawWorker(ctx, conn, 1, func() { <-limit; ready <- struct{}{} })
				if err != nil {
					cancel(fmt.Errorf("a session ended: %w", err))
				}
			})
		}
	}
	for range c.Sessions {
		select {
		case <-ready:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	say("ready", nil)
	wg.Wait()
	if err := context.Cause(ctx); err != context.Canceled {
		return err
	}
	return nil
}
