package rpc

import (
	"context"
	"io"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/wire"
)

// BenchmarkStreams is what a task costs the balancer beside its transport: one
// client's stream and three workers', in frames of 64 tasks, 1024 in flight, from
// the bytes of a frame to the bytes of another. The peers look at no more than they
// must.
func BenchmarkStreams(b *testing.B) { benchmarkStreams(b, 16) }

// BenchmarkStreamsCold has 8192 in flight: what is known of them does not fit into
// the nearest cache, as it does not where other processes use that too.
func BenchmarkStreamsCold(b *testing.B) { benchmarkStreams(b, 128) }

func benchmarkStreams(b *testing.B, frames int) {
	const frame = 64
	d, err := dispatch.Open(dispatch.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	s := NewServer(d, Options{})
	defer s.Close()
	l := limits{d.Options()}
	tasks := &taskService{tasks: d, limits: l, opt: s.opt, log: newTaskLog(s.opt.Log), events: &s.events, refused: &s.refused}
	workers := &workService{workers: d, opt: s.opt, log: tasks.log, events: &s.events, ack: &pb.Ack{}}

	var running sync.WaitGroup
	defer running.Wait()
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	for range 3 {
		w := newLink(ctx)
		w.in <- encoded(b, &pb.WorkRequest{Register: &pb.Register{Functions: []string{"sum"}, Slots: 4096}})
		w.got = func(data []byte) {
			if results := resultsOf(data); len(results) > 0 {
				w.in <- results
			}
		}
		running.Go(func() {
			_ = workers.Work(&grpc.GenericServerStream[pb.WorkRequest, pb.WorkResponse]{ServerStream: w})
		})
	}
	for d.Info().Sessions < 3 {
	}

	c := newLink(ctx)
	full := make([][]byte, frames)
	for i := range full {
		var m pb.SubmitStreamRequest
		for k := range frame {
			m.Tasks = append(m.Tasks, &pb.StreamTask{Number: uint64(i*frame + k), Function: "sum", Payload: []byte("9 bytes..")})
		}
		full[i] = encoded(b, &m)
	}
	back := make([]int, frames)
	left := b.N/frame + 1 - frames
	done, ended := make(chan struct{}), 0
	c.got = func(data []byte) {
		eachIn(data, 2, func(outcome []byte) {
			_, _, n := protowire.ConsumeTag(outcome)
			number, _ := protowire.ConsumeVarint(outcome[n:])
			i := int(number) / frame
			if back[i]++; back[i] < frame {
				return
			}
			back[i] = 0
			if left > 0 {
				left--
				c.in <- full[i]
			} else if ended++; ended == frames {
				close(done)
			}
		})
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range full {
		c.in <- full[i]
	}
	running.Go(func() {
		_ = tasks.SubmitStream(&grpc.GenericServerStream[pb.SubmitStreamRequest, pb.SubmitStreamResponse]{ServerStream: c})
	})
	<-done
	b.StopTimer()
}

// link is a stream whose peer is a function.
type link struct {
	grpc.ServerStream
	ctx context.Context
	in  chan []byte
	got func([]byte)
}

func newLink(ctx context.Context) *link {
	return &link{ctx: ctx, in: make(chan []byte, 1024), got: func([]byte) {}}
}

func (l *link) Context() context.Context { return l.ctx }

func (l *link) RecvMsg(m any) error {
	select {
	case b := <-l.in:
		return wire.Codec{}.Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, m)
	case <-l.ctx.Done():
		return io.EOF
	}
}

func (l *link) SendMsg(m any) error {
	data, err := wire.Codec{}.Marshal(m)
	if err != nil {
		return err
	}
	defer data.Free()
	l.got(data[0].ReadOnlyData())
	return nil
}

func encoded(b *testing.B, m any) []byte {
	data, err := wire.Codec{}.Marshal(m)
	if err != nil {
		b.Fatal(err)
	}
	return data.Materialize()
}

// eachIn calls f for each message in a field.
func eachIn(data []byte, field protowire.Number, f func([]byte)) {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		value := protowire.ConsumeFieldValue(number, kind, data[n:])
		if number == field && kind == protowire.BytesType {
			message, _ := protowire.ConsumeBytes(data[n:])
			f(message)
		}
		data = data[n+value:]
	}
}

// resultsOf answers the assignments in a frame with their payloads. An AssignTask
// and a TaskResult begin with the same three fields.
func resultsOf(data []byte) (frame []byte) {
	var result []byte
	eachIn(data, 2, func(assign []byte) {
		result = result[:0]
		for len(assign) > 0 {
			number, kind, n := protowire.ConsumeTag(assign)
			n += protowire.ConsumeFieldValue(number, kind, assign[n:])
			switch {
			case number <= 3:
				result = append(result, assign[:n]...)
			case number == 5: // the payload
				result = append(protowire.AppendTag(result, 4, protowire.BytesType), assign[1:n]...)
			}
			assign = assign[n:]
		}
		frame = protowire.AppendTag(frame, 2, protowire.BytesType)
		frame = protowire.AppendBytes(frame, result)
	})
	return frame
}
