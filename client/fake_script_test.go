package client

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "reparto/gen/reparto/v1"
)

// scripted is a connection whose streams are channels, so that the clock of a bubble
// runs only while everybody waits. It lends out those that a test has made.
type scripted struct {
	grpc.ClientConnInterface
	streams chan *script
}

type script struct {
	grpc.ClientStream
	life   context.Context
	frames chan *pb.SubmitStreamRequest // unbuffered: a Send blocks until the test has it
	unsent chan error                   // what the next Send ends with instead
	says   chan *pb.SubmitStreamResponse
	ends   chan error
}

func newScript(limits *pb.ClientLimits) *script {
	s := &script{
		frames: make(chan *pb.SubmitStreamRequest), unsent: make(chan error),
		says: make(chan *pb.SubmitStreamResponse, 1), ends: make(chan error, 1),
	}
	s.says <- &pb.SubmitStreamResponse{Limits: limits}
	return s
}

func (c *scripted) NewStream(ctx context.Context, _ *grpc.StreamDesc, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	select {
	case s := <-c.streams:
		s.life = ctx
		return s, nil
	default:
		return nil, status.Error(codes.Unavailable, "nobody listens")
	}
}

func (s *script) SendMsg(m any) error {
	select {
	case s.frames <- proto.CloneOf(m.(*pb.SubmitStreamRequest)):
		return nil
	case err := <-s.unsent:
		return err
	case <-s.life.Done():
		return s.life.Err()
	}
}

func (s *script) RecvMsg(m any) error {
	select {
	case said := <-s.says:
		proto.Merge(m.(*pb.SubmitStreamResponse), said)
		return nil
	case err := <-s.ends:
		return err
	case <-s.life.Done():
		return s.life.Err()
	}
}

// refuse answers the tasks of a frame as a balancer does that stops.
func (s *script) refuse(f *pb.SubmitStreamRequest) {
	said := &pb.SubmitStreamResponse{}
	for _, t := range f.GetTasks() {
		said.Outcomes = append(said.Outcomes, refusal(t.GetNumber()))
	}
	s.says <- said
}
