package rpc

import (
	"context"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/auth"
	"reparto/internal/dispatch"
)

// Workers is what the border wants of whoever takes workers.
type Workers interface {
	// Attach registers a worker, as dispatch.Dispatcher does.
	Attach(r dispatch.Registration) (*dispatch.Session, error)
}

// workService is the door for workers.
type workService struct {
	pb.UnimplementedWorkerServiceServer
	workers Workers
	opt     Options
	log     *taskLog
	ack     *pb.Ack // what every Ack says
	events  *lifecycle
}

// Work is one session. Whoever reads, writes or watches may end it; only the
// return of this method unblocks the others, and lifecycle waits for them.
func (s *workService) Work(stream pb.WorkerService_WorkServer) error {
	ses, err := s.register(stream)
	if err != nil {
		return err
	}
	defer ses.Detach()
	ended := make(chan error, 2)
	s.events.run(stream.Context(), ended, func() error { return s.read(stream, ses) })
	s.events.run(stream.Context(), ended, func() error { return s.write(stream, ses) })
	select {
	case err = <-ended:
	case <-ses.Ended():
		err = refuse(ses.Err())
	}
	if err == io.EOF { // the worker has closed its side: it has left
		return nil
	}
	return err
}

// register waits for the first frame. Only a Session can do more.
func (s *workService) register(stream pb.WorkerService_WorkServer) (*dispatch.Session, error) {
	type first struct {
		frame *pb.WorkRequest
		err   error
	}
	got := make(chan first, 1)
	s.events.streams.Go(func() {
		frame, err := stream.Recv()
		got <- first{frame, err}
	})
	timer := time.NewTimer(s.opt.RegisterLimit)
	defer timer.Stop()
	var f first
	select {
	case f = <-got:
	case <-timer.C:
		return nil, &refusal{
			code: codes.DeadlineExceeded, reason: "REGISTER_LIMIT",
			message: fmt.Sprintf("no registration came within %v; send a frame with register first", s.opt.RegisterLimit),
		}
	}
	if f.err == io.EOF {
		return nil, invalid("register", "the stream ended before a registration; send a frame with register first")
	}
	if f.err != nil {
		return nil, f.err
	}
	r := f.frame.GetRegister()
	if r == nil {
		return nil, invalid("register", "is missing from the first frame; register before anything else")
	}
	if len(f.frame.GetTaskResults()) > 0 || f.frame.GetHeartbeat() != nil || f.frame.GetDrain() != nil || len(f.frame.GetProgress()) > 0 {
		return nil, invalid("register", "came with something else; the first frame holds the registration alone")
	}
	address := ""
	if p, ok := peer.FromContext(stream.Context()); ok {
		address = p.Addr.String()
	}
	s.log.worker(stream.Context(), address)
	reg := registrationFromWire(r, address)
	if err := mayRegister(stream.Context(), &reg); err != nil {
		return nil, err
	}
	ses, err := s.workers.Attach(reg)
	if err != nil {
		return nil, refuse(err)
	}
	return ses, nil
}

// mayRegister makes a registration its caller's, if that may serve all that it
// offers; the stream ends when it no longer may.
func mayRegister(ctx context.Context, r *dispatch.Registration) error {
	who := callerOf(ctx)
	r.Principal = who.owner()
	functions := r.Functions
	return who.require(func(p *auth.Principal) error { return mayWork(p, functions) })
}

// read takes the worker's frames until it closes its side (io.EOF) or breaks
// off.
func (s *workService) read(stream pb.WorkerService_WorkServer, ses *dispatch.Session) error {
	var results []dispatch.Result
	frame := &pb.WorkRequest{} // wire.Codec uses its messages again
	for {
		if err := stream.RecvMsg(frame); err != nil {
			return err
		}
		ses.Heard()
		if frame.GetRegister() != nil {
			return invalid("register", "came a second time; a stream is one session, so dial again to register anew")
		}
		if n := len(frame.GetTaskResults()); n > dispatch.MaxFrameTasks {
			return invalid("task_results", fmt.Sprintf("has %d results; a frame holds at most %d", n, dispatch.MaxFrameTasks))
		}
		for _, p := range frame.GetProgress() {
			ses.Progress(p.GetToken(), progressFromWire(p))
		}
		results = results[:0]
		for _, r := range frame.GetTaskResults() {
			results = append(results, dispatch.Result{
				TaskID: r.GetTaskId(), Attempt: int(r.GetAttempt()), Token: r.GetToken(),
				Output: r.GetResult(), Failure: failureFromWire(r.GetFailure()),
			})
		}
		ses.Results(results)
		clear(results)
		letGoOfResults(frame)
		if frame.GetDrain() != nil {
			ses.Drain()
		}
	}
}

// letGoOfResults is letGoOfTasks for a worker's frame.
func letGoOfResults(frame *pb.WorkRequest) {
	for _, r := range frame.TaskResults {
		r.Result, r.Failure = nil, nil
	}
	frame.Progress = nil
}

// maxProgressMessage is how much of a progress message is kept, in bytes.
const maxProgressMessage = 1024

func progressFromWire(p *pb.Progress) dispatch.Progress {
	message := p.GetMessage()
	if len(message) > maxProgressMessage {
		message = message[:maxProgressMessage]
		for !utf8.ValidString(message) {
			message = message[:len(message)-1]
		}
	}
	percent := p.GetPercent()
	if !(percent >= 0) { // NaN too
		percent = 0
	}
	return dispatch.Progress{Percent: min(percent, 100), Message: message}
}

// write sends what the session's outbox holds. Only it sends on the stream.
func (s *workService) write(stream pb.WorkerService_WorkServer, ses *dispatch.Session) error {
	ack := &pb.Ack{
		WorkerId: ses.WorkerID(), SessionId: ses.ID(), HeartbeatIntervalMs: s.ack.HeartbeatIntervalMs,
		Limits: s.ack.Limits, ServerId: s.ack.ServerId, AcknowledgesResults: true,
	}
	if err := stream.Send(&pb.WorkResponse{Ack: ack}); err != nil {
		return err
	}
	var out dispatch.Frame
	var w workFrame
	for {
		if err := ses.Next(&out); err != nil {
			return refuse(err)
		}
		if err := stream.Send(w.fill(&out)); err != nil {
			return err
		}
		w.letGo()
	}
}

// workFrame builds frames of messages that are used again: Send has encoded them
// by the time it returns.
type workFrame struct {
	frame   pb.WorkResponse
	assign  []*pb.AssignTask
	cancels []*pb.CancelTask
}

// letGo drops what the frame held, so that an idle session holds no payloads.
func (w *workFrame) letGo() {
	for _, a := range w.frame.AssignTasks {
		a.Payload, a.Metadata = nil, nil
	}
}

func (w *workFrame) fill(out *dispatch.Frame) *pb.WorkResponse {
	w.frame.Reset()
	now := time.Now()
	for len(w.assign) < len(out.Assign) {
		w.assign = append(w.assign, &pb.AssignTask{})
	}
	for i := range out.Assign {
		a, to := &out.Assign[i], w.assign[i]
		to.TaskId, to.Attempt, to.Token = a.TaskID, int32(a.Attempt), a.Token
		to.Function, to.Payload, to.Metadata = a.Function, a.Payload, a.Metadata
		to.TimeRemainingMs = max(a.Deadline.Sub(now).Milliseconds(), 1)
	}
	w.frame.AssignTasks = w.assign[:len(out.Assign)]
	for len(w.cancels) < len(out.Cancel) {
		w.cancels = append(w.cancels, &pb.CancelTask{})
	}
	for i, c := range out.Cancel {
		to := w.cancels[i]
		to.TaskId, to.Token, to.Reason = c.TaskID, c.Token, c.Reason
	}
	w.frame.CancelTasks = w.cancels[:len(out.Cancel)]
	w.frame.AckedTokens = out.Acked // encoded before the outbox writes to it again
	if out.Heartbeat {
		w.frame.Heartbeat = &pb.Heartbeat{}
	}
	if out.Drain {
		w.frame.Drain = &pb.Drain{ReconnectAfterMs: out.ReconnectAfter.Milliseconds(), Leave: out.Leave}
	}
	return &w.frame
}
