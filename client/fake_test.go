package client

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	pb "reparto/gen/reparto/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait; only a failure sees it pass.
const patience = 20 * time.Second

// balancer is a scripted one: a test answers each frame by hand.
type balancer struct {
	pb.UnimplementedTaskServiceServer
	t       testing.TB
	limits  *pb.ClientLimits
	streams chan *stream // as they are opened
	conn    *grpc.ClientConn

	mu       sync.Mutex
	listener *bufconn.Listener
	server   *grpc.Server
}

// stream is one SubmitStream, open until the test ends it.
type stream struct {
	t      testing.TB
	pb     pb.TaskService_SubmitStreamServer
	frames chan *pb.SubmitStreamRequest // closed when the client has closed its side or is gone
	end    chan error
}

func newBalancer(t testing.TB) *balancer {
	t.Helper()
	b := &balancer{
		t: t, streams: make(chan *stream, 16),
		limits: &pb.ClientLimits{MaxPayloadBytes: 4 << 20, MaxMessageBytes: 16 << 20, MaxFrameTasks: 256, MaxInFlight: 65536, MaxTimeoutMs: 86_400_000},
	}
	b.up()
	conn, err := grpc.NewClient("passthrough:///scripted", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			b.mu.Lock()
			l := b.listener
			b.mu.Unlock()
			if l == nil {
				return nil, errors.New("nobody listens")
			}
			return l.DialContext(ctx)
		}),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: time.Second}))
	if err != nil {
		t.Fatal(err)
	}
	b.conn = conn
	t.Cleanup(func() {
		conn.Close()
		b.down()
	})
	return b
}

// up starts listening; down breaks every connection and stops.
func (b *balancer) up() {
	l := bufconn.Listen(1 << 20)
	s := grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20))
	pb.RegisterTaskServiceServer(s, b)
	b.mu.Lock()
	b.listener, b.server = l, s
	b.mu.Unlock()
	go s.Serve(l)
}

func (b *balancer) down() {
	b.mu.Lock()
	s := b.server
	b.listener, b.server = nil, nil
	b.mu.Unlock()
	if s != nil {
		s.Stop()
	}
}

func (b *balancer) SubmitStream(srv pb.TaskService_SubmitStreamServer) error {
	if b.limits == nil { // a balancer that says nothing
		<-srv.Context().Done()
		return srv.Context().Err()
	}
	if err := srv.Send(&pb.SubmitStreamResponse{Limits: b.limits}); err != nil {
		return err
	}
	s := &stream{t: b.t, pb: srv, frames: make(chan *pb.SubmitStreamRequest, 1024), end: make(chan error, 1)}
	b.streams <- s
	go func() {
		defer close(s.frames)
		for {
			f, err := srv.Recv()
			if err != nil {
				if err != io.EOF {
					select {
					case s.end <- err:
					default:
					}
				}
				return
			}
			s.frames <- f
		}
	}()
	return <-s.end
}

// stream waits for the next one.
func (b *balancer) stream() *stream {
	b.t.Helper()
	select {
	case s := <-b.streams:
		return s
	case <-time.After(patience):
		b.t.Fatal("no stream was opened")
		return nil
	}
}

// tasks waits until n tasks have come, in however many frames.
func (s *stream) tasks(n int) []*pb.StreamTask {
	s.t.Helper()
	var got []*pb.StreamTask
	for len(got) < n {
		got = append(got, s.frame().GetTasks()...)
	}
	return got
}

func (s *stream) frame() *pb.SubmitStreamRequest {
	s.t.Helper()
	select {
	case f, ok := <-s.frames:
		if ok {
			return f
		}
		s.t.Fatal("the client has closed its side")
	case <-time.After(patience):
		s.t.Fatal("no frame came")
	}
	return nil
}

func (s *stream) answer(o ...*pb.StreamOutcome) {
	s.t.Helper()
	if err := s.pb.Send(&pb.SubmitStreamResponse{Outcomes: o}); err != nil {
		s.t.Fatal(err)
	}
}

// echo answers every task with its payload until the client is done.
func (s *stream) echo() {
	for f := range s.frames {
		var out []*pb.StreamOutcome
		for _, t := range f.GetTasks() {
			out = append(out, &pb.StreamOutcome{Number: t.GetNumber(), TaskId: t.GetTaskId(), Result: t.GetPayload(), Attempt: 1, WorkerId: "w"})
		}
		if s.pb.Send(&pb.SubmitStreamResponse{Outcomes: out}) != nil {
			return
		}
	}
	select {
	case s.end <- nil:
	default:
	}
}

// echoing is a balancer that echoes on every stream.
func echoing(t testing.TB) *balancer {
	b := newBalancer(t)
	var serving sync.WaitGroup
	stop := make(chan struct{})
	serving.Go(func() {
		for {
			select {
			case s := <-b.streams:
				serving.Go(s.echo)
			case <-stop:
				return
			}
		}
	})
	t.Cleanup(func() {
		b.conn.Close()
		b.down()
		close(stop)
		serving.Wait()
	})
	return b
}

func newTestClient(t testing.TB, b *balancer, opts ...Option) *Client {
	t.Helper()
	c := New(b.conn, opts...)
	t.Cleanup(func() { c.Close() })
	return c
}

// ended is what a Submit returned.
type ended struct {
	out Outcome
	err error
}

func submitting(ctx context.Context, c *Client, t Task) <-chan ended {
	done := make(chan ended, 1)
	go func() {
		out, err := c.Submit(ctx, t)
		done <- ended{out, err}
	}()
	return done
}

func wait(t testing.TB, done <-chan ended) ended {
	t.Helper()
	select {
	case e := <-done:
		return e
	case <-time.After(patience):
		t.Fatal("Submit did not return")
		return ended{}
	}
}

func wantError(t testing.TB, err error, reason string) *Error {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Reason != reason {
		t.Fatalf("got %v (%+v); want an *Error with reason %s", err, e, reason)
	}
	return e
}
