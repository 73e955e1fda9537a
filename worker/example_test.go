package worker_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"google.golang.org/grpc"

	pb "reparto/gen/reparto/v1"
	"reparto/worker"
)

// A whole worker. Here it gets one task and is then told to stop.
func ExampleRun() {
	ctx, stop := context.WithCancel(context.Background()) // in a program: signal.NotifyContext
	addr, shutDown := balancerWithOneTask("1,2,3,4,5", func(result string) {
		fmt.Println(result)
		stop()
	})
	defer shutDown()

	conn, err := grpc.NewClient(addr, worker.DialOptions(nil)...) // nil: plaintext
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	err = worker.Run(ctx, conn, worker.Handlers{
		"sum": func(ctx context.Context, t worker.Task) ([]byte, error) {
			total := 0
			for item := range strings.SplitSeq(string(t.Payload), ",") {
				n, err := strconv.Atoi(strings.TrimSpace(item))
				if err != nil {
					return nil, err // the task fails, and its client reads why
				}
				total += n
			}
			return []byte(strconv.Itoa(total)), nil
		},
	}, worker.Options{Slots: 8})
	fmt.Println(err)
	// Output:
	// 15
	// <nil>
}

// balancerWithOneTask stands in for a balancer.
func balancerWithOneTask(payload string, done func(result string)) (addr string, shutDown func()) {
	lis, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		panic(err)
	}
	server := grpc.NewServer()
	pb.RegisterWorkerServiceServer(server, &oneTask{payload: payload, done: done})
	go server.Serve(lis)
	return lis.Addr().String(), server.Stop
}

type oneTask struct {
	pb.UnimplementedWorkerServiceServer
	payload string
	done    func(string)
}

func (b *oneTask) Work(stream pb.WorkerService_WorkServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	err := stream.Send(&pb.WorkResponse{
		Ack: &pb.Ack{WorkerId: "w", HeartbeatIntervalMs: 5000},
		AssignTasks: []*pb.AssignTask{{
			TaskId: "t1", Attempt: 1, Token: 1, Function: "sum", Payload: []byte(b.payload), TimeRemainingMs: 60_000,
		}},
	})
	for err == nil {
		var m *pb.WorkRequest
		if m, err = stream.Recv(); err != nil {
			break
		}
		for _, r := range m.GetTaskResults() {
			b.done(string(r.GetResult()))
		}
		if m.GetDrain() != nil {
			err = stream.Send(&pb.WorkResponse{Drain: &pb.Drain{}})
		}
	}
	return nil
}
