package bench

import (
	"context"
	"io"
	"net"
	"runtime"
	"sync"

	"google.golang.org/grpc"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/server"
	"reparto/internal/socket"
)

// frameTasks is how many tasks travel in a frame at most.
const frameTasks = dispatch.MaxFrameTasks

// runBalancer is the balancer: what the binary assembles, without its flags and
// its text ports.
func runBalancer(ctx context.Context, _ config, say func(string, any)) error {
	s, err := server.Listen(server.Options{Address: "127.0.0.1:0"})
	if err != nil {
		return err
	}
	say("listening", s.Addr().String())
	return s.Run(ctx)
}

// runRelay serves the same services with no logic: no queue, no ids, no limits,
// no time, no checks. What a balancer costs beyond it is what the balancer does.
func runRelay(ctx context.Context, _ config, say func(string, any)) error {
	r := &relay{}
	s := grpc.NewServer(
		grpc.StaticStreamWindowSize(1<<20), grpc.StaticConnWindowSize(1<<20),
		grpc.ReadBufferSize(socket.MaxRead), grpc.WriteBufferSize(socket.MaxWrite),
	)
	defer s.Stop()
	pb.RegisterTaskServiceServer(s, relayTasks{relay: r})
	pb.RegisterWorkerServiceServer(s, relayWorkers{relay: r})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(socket.Listener(l)) }() // ends with the process
	say("listening", l.Addr().String())
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// relay passes tasks to workers in turn, and results back by their token.
type relay struct {
	mu      sync.Mutex
	calls   []relayCall // by token
	unused  []uint64
	workers []*relayQueue[*pb.AssignTask]
	turn    int
}

// relayCall is who waits: a unary call or a stream.
type relayCall struct {
	unary  chan *pb.TaskResult
	stream *relayQueue[*pb.StreamOutcome]
	number uint64
}

// relayQueue is what waits for one stream's writer.
type relayQueue[T any] struct {
	ready chan struct{}
	mu    sync.Mutex
	items []T
}

func newRelayQueue[T any]() *relayQueue[T] {
	return &relayQueue[T]{ready: make(chan struct{}, 1)}
}

func (q *relayQueue[T]) put(item T) {
	q.mu.Lock()
	q.items = append(q.items, item)
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// drain sends what waits, as many as there are, until done is closed.
func (q *relayQueue[T]) drain(done <-chan struct{}, send func([]T) error) error {
	var items []T
	for {
		select {
		case <-q.ready:
		case <-done:
			return nil
		}
		runtime.Gosched() // those who are about to put do so first
		q.mu.Lock()
		items, q.items = q.items, items[:0]
		q.mu.Unlock()
		for rest := items; len(rest) > 0; {
			n := min(len(rest), frameTasks)
			if err := send(rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
		clear(items)
	}
}

// pass gives a task to the worker whose turn it is.
func (r *relay) pass(c relayCall, function string, payload []byte) {
	r.mu.Lock()
	var token uint64
	if n := len(r.unused); n > 0 {
		token, r.unused = r.unused[n-1], r.unused[:n-1]
		r.calls[token] = c
	} else {
		token = uint64(len(r.calls))
		r.calls = append(r.calls, c)
	}
	r.turn = (r.turn + 1) % len(r.workers)
	w := r.workers[r.turn]
	r.mu.Unlock()
	w.put(&pb.AssignTask{Token: token, Function: function, Payload: payload})
}

// answer brings a result to whoever waits.
func (r *relay) answer(result *pb.TaskResult) {
	r.mu.Lock()
	c := r.calls[result.Token]
	r.unused = append(r.unused, result.Token)
	r.mu.Unlock()
	if c.unary != nil {
		c.unary <- result
		return
	}
	c.stream.put(&pb.StreamOutcome{Number: c.number, Result: result.Result})
}

type relayTasks struct {
	pb.UnimplementedTaskServiceServer
	*relay
}

func (r relayTasks) Submit(ctx context.Context, req *pb.SubmitRequest) (*pb.SubmitResponse, error) {
	done := make(chan *pb.TaskResult, 1)
	r.pass(relayCall{unary: done}, req.Function, req.Payload)
	select {
	case result := <-done:
		return &pb.SubmitResponse{Result: result.Result}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r relayTasks) SubmitStream(stream pb.TaskService_SubmitStreamServer) error {
	out := newRelayQueue[*pb.StreamOutcome]()
	go func() { // ends with the stream
		out.drain(stream.Context().Done(), func(items []*pb.StreamOutcome) error {
			return stream.Send(&pb.SubmitStreamResponse{Outcomes: items})
		})
	}()
	for {
		frame, err := stream.Recv()
		if err != nil {
			return untilEOF(err)
		}
		for _, t := range frame.Tasks {
			r.pass(relayCall{stream: out, number: t.Number}, t.Function, t.Payload)
		}
	}
}

type relayWorkers struct {
	pb.UnimplementedWorkerServiceServer
	*relay
}

func (r relayWorkers) Work(stream pb.WorkerService_WorkServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	if err := stream.Send(&pb.WorkResponse{Ack: &pb.Ack{}}); err != nil {
		return err
	}
	in := newRelayQueue[*pb.AssignTask]()
	r.mu.Lock()
	r.workers = append(r.workers, in)
	r.mu.Unlock()
	go func() { // ends with the stream
		in.drain(stream.Context().Done(), func(items []*pb.AssignTask) error {
			return stream.Send(&pb.WorkResponse{AssignTasks: items})
		})
	}()
	for {
		frame, err := stream.Recv()
		if err != nil {
			return untilEOF(err)
		}
		for _, result := range frame.TaskResults {
			r.answer(result)
		}
	}
}

func untilEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
