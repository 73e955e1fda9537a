package main

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc"

	"reparto/client"
	pb "reparto/gen/reparto/v1"
	"reparto/worker"
)

// dial connects with the settings of Reparto's commands.
func dial(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient(address, worker.DialOptions(nil)...)
}

func openUnary(_ context.Context, c config, _ told) (way, error) {
	conn, err := dial(c.Address)
	if err != nil {
		return way{}, err
	}
	tasks := pb.NewTaskServiceClient(conn)
	return way{
		call: func(ctx context.Context, _ int, payload []byte) ([]byte, error) {
			resp, err := tasks.Submit(ctx, &pb.SubmitRequest{Function: function, Payload: payload})
			return resp.GetResult(), err
		},
		close: func() { _ = conn.Close() },
	}, nil
}

// A frame has at most so many tasks, and so many bytes unless it is one task.
const (
	frameTasks = 256
	frameBytes = 1 << 20
)

// openFramed is the raw stream: frames of what waits, numbers that are slots.
func openFramed(ctx context.Context, c config, tell told) (way, error) {
	conn, err := dial(c.Address)
	if err != nil {
		return way{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	stream, err := pb.NewTaskServiceClient(conn).SubmitStream(ctx)
	if err != nil {
		cancel()
		return way{}, err
	}
	out := newQueue[*pb.StreamTask]()
	var wg sync.WaitGroup
	both := func(do func() error) {
		wg.Go(func() {
			if err := do(); err != nil && ctx.Err() == nil {
				tell(-1, nil, err)
			}
		})
	}
	both(func() error {
		return out.drain(ctx, min(frameTasks, max(1, frameBytes/(c.Size+1))), func(tasks []*pb.StreamTask) error {
			return stream.Send(&pb.SubmitStreamRequest{Tasks: tasks})
		})
	})
	both(func() error {
		for {
			frame, err := stream.Recv()
			if err != nil {
				return err
			}
			for _, o := range frame.Outcomes {
				tell(int(o.Number), o.Result, failure(o))
			}
		}
	})
	return way{
		send: func(slot int, payload []byte) error {
			out.put(&pb.StreamTask{Number: uint64(slot), Function: function, Payload: payload})
			return nil
		},
		close: func() {
			cancel()
			wg.Wait()
			_ = conn.Close()
		},
	}, nil
}

// openBlocking is the raw stream with a goroutine that blocks for each call: the
// least that an SDK's Submit can be.
func openBlocking(ctx context.Context, c config, tell told) (way, error) {
	type answer struct {
		result []byte
		err    error
	}
	answers := make([]chan answer, c.InFlight)
	for i := range answers {
		answers[i] = make(chan answer, 1)
	}
	w, err := openFramed(ctx, c, func(slot int, result []byte, err error) {
		if slot < 0 {
			tell(slot, result, err)
			return
		}
		answers[slot] <- answer{result, err}
	})
	call := func(ctx context.Context, slot int, payload []byte) ([]byte, error) {
		if err := w.send(slot, payload); err != nil {
			return nil, err
		}
		select {
		case a := <-answers[slot]:
			return a.result, a.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return way{call: call, close: w.close}, err
}

func failure(o *pb.StreamOutcome) error {
	if o.Error == nil && o.Failure == nil {
		return nil
	}
	return fmt.Errorf("no result: %v %v", o.Error, o.Failure)
}

func openSDK(_ context.Context, c config, _ told) (way, error) {
	sdk, err := client.Dial(c.Address)
	if err != nil {
		return way{}, err
	}
	return way{
		call: func(ctx context.Context, _ int, payload []byte) ([]byte, error) {
			out, err := sdk.Submit(ctx, client.Task{Function: function, Payload: payload})
			return out.Result, err
		},
		close: func() { _ = sdk.Close() },
	}, nil
}

// openSDKFunc lets an open loop have as much under way as it has slots.
func openSDKFunc(ctx context.Context, c config, tell told) (way, error) {
	sdk, err := client.Dial(c.Address, client.WithMaxInFlight(openSlots))
	if err != nil {
		return way{}, err
	}
	return way{
		send: func(slot int, payload []byte) error {
			sdk.SubmitFunc(ctx, client.Task{Function: function, Payload: payload}, func(out client.Outcome, err error) {
				tell(slot, out.Result, err)
			})
			return nil
		},
		close: func() { _ = sdk.Close() },
	}, nil
}

// workSDK is a worker with the SDK's defaults.
func workSDK(ctx context.Context, c config, ready func()) error {
	conn, err := dial(c.Address)
	if err != nil {
		return err
	}
	defer conn.Close()
	return worker.Run(ctx, conn, worker.Handlers{
		function: func(ctx context.Context, t worker.Task) ([]byte, error) {
			spend(ctx, c.Takes)
			return t.Payload, nil
		},
	}, worker.Options{OnRegistered: func(worker.Registration) { ready() }})
}
