package client

import (
	"context"

	"google.golang.org/grpc"

	pb "reparto/gen/reparto/v1"
)

// Pause gives out no more tasks of a function, and tells whether it was paused
// already. What runs goes on, and tasks are still accepted.
func (c *Client) Pause(ctx context.Context, function string) (was bool, err error) {
	var resp *pb.PauseFunctionResponse
	err = c.ask(ctx, "", func(ctx context.Context) (err error) {
		resp, err = c.admin.PauseFunction(ctx, &pb.PauseFunctionRequest{Function: function}, grpc.WaitForReady(true))
		return err
	})
	return resp.GetWasPaused(), err
}

// Resume ends a pause, and tells whether there was one.
func (c *Client) Resume(ctx context.Context, function string) (was bool, err error) {
	var resp *pb.ResumeFunctionResponse
	err = c.ask(ctx, "", func(ctx context.Context) (err error) {
		resp, err = c.admin.ResumeFunction(ctx, &pb.ResumeFunctionRequest{Function: function}, grpc.WaitForReady(true))
		return err
	})
	return resp.GetWasPaused(), err
}

// DrainWorker gives a worker no more tasks and tells it to leave when it has
// finished what it holds; an *Error with reason WORKER_NOT_FOUND when none of
// that id is connected.
func (c *Client) DrainWorker(ctx context.Context, workerID string) error {
	return c.ask(ctx, "", func(ctx context.Context) error {
		_, err := c.admin.DrainWorker(ctx, &pb.DrainWorkerRequest{WorkerId: workerID}, grpc.WaitForReady(true))
		return err
	})
}
