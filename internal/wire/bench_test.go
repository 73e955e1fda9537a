package wire

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	pb "reparto/gen/reparto/v1"
)

func BenchmarkRefusals(b *testing.B) {
	m := refusals()
	data, err := Codec{}.Marshal(m)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := (Codec{}).Unmarshal(data, &pb.SubmitStreamResponse{}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*128), "ns/task")
	})
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			d, err := Codec{}.Marshal(m)
			if err != nil {
				b.Fatal(err)
			}
			d.Free()
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*128), "ns/task")
	})
}

// BenchmarkFrame has a frame of each kind, of 128 tasks of 9 bytes.
func BenchmarkFrame(b *testing.B) {
	tasks, outcomes := &pb.SubmitStreamRequest{}, &pb.SubmitStreamResponse{}
	assignments, results := &pb.WorkResponse{}, &pb.WorkRequest{}
	for i := range uint64(128) {
		id := fmt.Sprintf("01942d3f-5c3d-7e4f-8a1b-%012x", 977*i)
		payload := []byte("123456789")
		tasks.Tasks = append(tasks.Tasks, &pb.StreamTask{Number: 1<<40 + i, Function: "echo", Payload: payload, TimeoutMs: 5000})
		assignments.AssignTasks = append(assignments.AssignTasks,
			&pb.AssignTask{TaskId: id, Attempt: 1, Token: 1<<40 + i, Function: "echo", Payload: payload, TimeRemainingMs: 5000})
		results.TaskResults = append(results.TaskResults, &pb.TaskResult{TaskId: id, Attempt: 1, Token: 1<<40 + i, Result: payload})
		outcomes.Outcomes = append(outcomes.Outcomes,
			&pb.StreamOutcome{Number: 1<<40 + i, TaskId: id, Result: payload, Attempt: 1, WorkerId: "worker-1"})
	}
	type codec interface {
		Marshal(any) (mem.BufferSlice, error)
		Unmarshal(mem.BufferSlice, any) error
	}
	for _, m := range []proto.Message{tasks, assignments, results, outcomes} {
		encoded, err := proto.Marshal(m)
		if err != nil {
			b.Fatal(err)
		}
		data := mem.BufferSlice{mem.SliceBuffer(encoded)}
		kind := string(m.ProtoReflect().Descriptor().Name())
		for _, c := range []struct {
			name string
			codec
		}{{"own", Codec{}}, {"library", library}} {
			b.Run(kind+"/decode/"+c.name, func(b *testing.B) {
				b.ReportAllocs()
				frame := m.ProtoReflect().New().Interface()
				for b.Loop() {
					if err := c.Unmarshal(data, frame); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*128), "ns/task")
			})
			b.Run(kind+"/encode/"+c.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					d, err := c.Marshal(m)
					if err != nil {
						b.Fatal(err)
					}
					d.Free()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*128), "ns/task")
			})
		}
	}
}
