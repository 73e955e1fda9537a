package rpc

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/balance"
	"reparto/internal/dispatch"
)

// script reads frames out of what the fuzzer gives; past its end it reads zeros.
type script struct {
	data []byte
	seen []uint64 // tokens that were assigned
}

func (s *script) byte() byte {
	if len(s.data) == 0 {
		return 0
	}
	b := s.data[0]
	s.data = s.data[1:]
	return b
}

// text is a name that is often good, at times empty, long or bad.
func (s *script) text() string {
	switch b := s.byte(); {
	case b < 100:
		return []string{"f", "g", "own-1", "own-2", "w1"}[b%5]
	case b < 200:
		n := min(int(b)-100, len(s.data))
		t := fmt.Sprintf("%x", s.data[:n])
		s.data = s.data[n:]
		return t
	case b < 250:
		return ""
	default:
		return fmt.Sprintf("%0200d|", b)
	}
}

func (s *script) number() int64 {
	switch b := s.byte(); {
	case b < 200:
		return int64(b)
	case b < 220:
		return -int64(s.byte())
	default:
		return 1<<62 + int64(b)<<(b%64)
	}
}

func (s *script) token() uint64 {
	b := s.byte()
	if len(s.seen) > 0 && b < 200 {
		return s.seen[int(b)%len(s.seen)]
	}
	return uint64(s.number())
}

func (s *script) failure() *pb.Failure {
	if s.byte()%3 > 0 {
		return nil
	}
	return &pb.Failure{Reason: s.text(), Message: s.text(), Retry: s.byte()%2 == 0, RetryAfterMs: s.number()}
}

func (s *script) workFrame(first bool) *pb.WorkRequest {
	f, what := &pb.WorkRequest{}, s.byte()
	if first == (what < 240) {
		f.Register = &pb.Register{WorkerId: s.text(), Functions: []string{"f", s.text()}, Slots: int32(s.number()), Build: s.text()}
		for range s.byte() % 3 {
			f.Register.Running = append(f.Register.Running, &pb.RunningTask{TaskId: s.text(), Attempt: int32(s.byte()), Token: s.token()})
		}
		if first {
			return f
		}
	}
	for range what % 4 {
		f.TaskResults = append(f.TaskResults, &pb.TaskResult{
			TaskId: s.text(), Attempt: int32(s.number()), Token: s.token(), Result: []byte(s.text()), Failure: s.failure()})
	}
	if what&4 != 0 {
		f.Progress = append(f.Progress, &pb.Progress{Token: s.token(), Percent: float64(s.number()), Message: s.text()})
	}
	if what&8 != 0 {
		f.Heartbeat = &pb.Heartbeat{}
	}
	if what&48 == 48 {
		f.Drain = &pb.Drain{ReconnectAfterMs: s.number()}
	}
	return f
}

func (s *script) submitFrame() *pb.SubmitStreamRequest {
	f := &pb.SubmitStreamRequest{}
	for range s.byte() % 5 {
		t := &pb.StreamTask{
			Number: uint64(s.byte() % 8), Function: s.text(), Payload: []byte(s.text()), TaskId: s.text(),
			TimeoutMs: s.number(), AttemptTimeoutMs: s.number(), MaxAttempts: int32(s.number()), FailFast: s.byte()%2 == 0,
		}
		if s.byte()%4 == 0 {
			text := s.text()
			t.Text = &text
		}
		if s.byte()%4 == 0 {
			t.Metadata = map[string]string{s.text(): s.text()}
		}
		f.Tasks = append(f.Tasks, t)
	}
	for range s.byte() % 4 {
		f.CancelNumbers = append(f.CancelNumbers, uint64(s.number()))
	}
	return f
}

// fuzzHouse has limits that short inputs reach.
func fuzzHouse(f *testing.F) (*house, *lines) {
	log := &lines{}
	h := serve(f, dispatch.Options{MaxPayload: 64, Balance: balance.Options{
		MaxQueuedTasks: 16, Backoff: time.Millisecond, KeepFor: time.Millisecond,
	}}, Options{MaxInFlight: 6, Log: log.errors()})
	h.ctx = f.Context() // a fuzzing run has all the time it wants
	return h, log
}

// settled fails unless the stream ended as streams may, and left nothing.
func settled(t *testing.T, h *house, log *lines, err error) {
	t.Helper()
	switch status.Code(err) {
	case codes.OK, codes.InvalidArgument, codes.Aborted, codes.Canceled:
	default:
		t.Fatalf("the stream ended with %v", err)
	}
	if bugs := log.String(); bugs != "" {
		t.Fatalf("the log tells of a bug: %s", bugs)
	}
	deadline := time.Now().Add(patience)
	for i := h.d.Info(); i.Sessions+i.Queued+i.Running+i.Scheduled > 0; i = h.d.Info() {
		if time.Now().After(deadline) {
			t.Fatalf("something is left: %+v", i.Counts)
		}
		<-time.After(100 * time.Microsecond)
	}
}

// FuzzWork plays a worker that says anything at all. There are tasks for it.
func FuzzWork(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x00\x04\x00\x08\x00\x00\x01\x02\x00\x00\x00\x00\x01\x03\x00\x00\x00"))
	f.Add([]byte("\x00\x04\x00\x02\x00\x00\xff\x00\x30\x01\x02\x03\x04\x05\x06\x07\x08"))
	h, log := fuzzHouse(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		ctx, cancel := context.WithTimeout(h.ctx, patience)
		defer cancel()
		c, err := h.tasks.SubmitStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		c.Send(&pb.SubmitStreamRequest{Tasks: []*pb.StreamTask{
			streamTask(1, "f", "x"), {Number: 2, Function: "f", TaskId: "own-1"}, {Number: 3, Function: "f", AttemptTimeoutMs: 1}}})
		stream, err := h.work.Work(ctx)
		if err != nil {
			t.Fatal(err)
		}
		s := &script{data: data}
		stream.Send(s.workFrame(true))
		frame, err := stream.Recv()
		for err == nil && len(s.data) > 0 {
			for _, a := range frame.GetAssignTasks() {
				s.seen = append(s.seen, a.Token)
			}
			frame = nil
			if s.byte()%8 == 0 && len(s.seen) == 0 { // wait for what there may be
				frame, err = stream.Recv()
			}
			if stream.Send(s.workFrame(false)) != nil {
				break
			}
		}
		stream.CloseSend()
		for err == nil {
			_, err = stream.Recv()
		}
		cancel()
		for err := error(nil); err == nil; {
			_, err = c.Recv()
		}
		settled(t, h, log, orderly(err))
	})
}

// FuzzSubmitStream plays a client that says anything at all, to a house without
// workers, and then leaves.
func FuzzSubmitStream(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x01\x01\x00\x00\xc8\x00\x00\x00\x00\x01\x01\x01\x01"))
	f.Add([]byte("\x02\x01\x00\x02\x02\x05\x00\x01\x00\x01\x01\x02\x00\x02\x02\x05\x00\x01\x00\x01\x01\x00\x03\x01\x02\x03"))
	h, log := fuzzHouse(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		ctx, cancel := context.WithTimeout(h.ctx, patience)
		defer cancel()
		c, err := h.tasks.SubmitStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		s := &script{data: data}
		sent := 0
		for ; len(s.data) > 0 && sent < 64; sent++ {
			if c.Send(s.submitFrame()) != nil {
				break
			}
		}
		// What came in before the limit is taken or refused; the rest is not
		// read. Either way the stream ends when its client goes.
		if _, err = c.Recv(); err == nil {
			cancel()
		}
		for err == nil {
			_, err = c.Recv()
		}
		settled(t, h, log, orderly(err))
	})
}
