package rpc

import (
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/wire"
)

// Readers use one frame again and again; between two it holds nothing large.
func TestAFrameThatWaitsHoldsNothing(t *testing.T) {
	text := string(make([]byte, 10_000))
	tasks := &pb.SubmitStreamRequest{}
	read(t, tasks, &pb.SubmitStreamRequest{Tasks: []*pb.StreamTask{
		{Payload: make([]byte, 10_000)}, {Text: &text}, {Metadata: map[string]string{"k": text}},
	}})
	letGoOfTasks(tasks)
	results := &pb.WorkRequest{}
	read(t, results, &pb.WorkRequest{TaskResults: []*pb.TaskResult{
		{Result: make([]byte, 10_000)}, {Failure: &pb.Failure{Message: text}},
	}})
	letGoOfResults(results)
	for _, frame := range []proto.Message{tasks, results} {
		if n := proto.Size(frame); n > 100 {
			t.Errorf("%T still holds %d bytes", frame, n)
		}
	}
}

func read(t *testing.T, frame, what proto.Message) {
	t.Helper()
	b, err := proto.Marshal(what)
	if err != nil {
		t.Fatal(err)
	}
	if err := (wire.Codec{}).Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, frame); err != nil {
		t.Fatal(err)
	}
}
