package rpc

import (
	"context"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/task"
)

// Hand is what the border wants of whoever lets an operator step in, as
// dispatch.Dispatcher does.
type Hand interface {
	// PauseFunction tells whether the function was paused, once the change is on
	// disk.
	PauseFunction(ctx context.Context, name string, paused bool) (was bool, err error)
	// DrainWorker is false when no worker of that id is connected.
	DrainWorker(workerID string) bool
}

func (s *adminService) PauseFunction(ctx context.Context, req *pb.PauseFunctionRequest) (*pb.PauseFunctionResponse, error) {
	was, err := s.pause(ctx, req.GetFunction(), true)
	if err != nil {
		return nil, err
	}
	return &pb.PauseFunctionResponse{WasPaused: was}, nil
}

func (s *adminService) ResumeFunction(ctx context.Context, req *pb.ResumeFunctionRequest) (*pb.ResumeFunctionResponse, error) {
	was, err := s.pause(ctx, req.GetFunction(), false)
	if err != nil {
		return nil, err
	}
	return &pb.ResumeFunctionResponse{WasPaused: was}, nil
}

func (s *adminService) pause(ctx context.Context, function string, paused bool) (was bool, err error) {
	if err := task.CheckFunction(function); err != nil {
		return false, refuse(err)
	}
	if was, err = s.hand.PauseFunction(ctx, function, paused); err != nil {
		return false, failed(ctx, s.log, err)
	}
	return was, nil
}

func (s *adminService) DrainWorker(_ context.Context, req *pb.DrainWorkerRequest) (*pb.DrainWorkerResponse, error) {
	if err := task.CheckWorkerID(req.GetWorkerId()); err != nil {
		return nil, refuse(err)
	}
	if !s.hand.DrainWorker(req.GetWorkerId()) {
		return nil, refuse(dispatch.ErrWorkerNotFound)
	}
	return &pb.DrainWorkerResponse{}, nil
}
