package local

import (
	"context"
	"sync"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/legacy"
	"reparto/internal/task"
	"reparto/worker"
)

// session is a worker, through all its sessions with the dispatcher: there is a
// second only when the first was ended for its silence.
type session struct {
	leave  context.Context // ended: no more tasks, please
	assign func(context.Context, worker.Task, func(legacy.Answer))

	// onward is what a worker is given upon its answer, where it is brought.
	turn   sync.Mutex
	onward dispatch.Frame

	mu      sync.Mutex
	now     *dispatch.Session
	job     *job  // what the worker has, until it is answered; nil: nothing
	drained bool  // nothing more will be assigned
	gone    error // the worker was abandoned
}

// job is a task that the worker has.
type job struct {
	task      string
	attempt   int
	token     uint64
	cancelled bool // nobody wants its answer
}

// serve takes what the dispatcher says until the worker has left, ctx ends, or the
// session does.
func (s *session) serve(ctx context.Context, ses *dispatch.Session) error {
	s.mu.Lock()
	s.now = ses
	s.mu.Unlock()
	defer context.AfterFunc(s.leave, ses.Drain)()
	defer context.AfterFunc(ctx, ses.Detach)()
	var f dispatch.Frame
	for {
		if err := ses.Next(&f); err != nil {
			return s.why(err)
		}
		ses.Heard()
		for i := range f.Cancel {
			s.cancel(f.Cancel[i].Token)
		}
		for i := range f.Assign {
			s.begin(ctx, &f.Assign[i])
		}
		for i := range f.Cancel { // which may be about what has just been assigned
			s.cancel(f.Cancel[i].Token)
		}
		if s.hasLeft(f.Drain) {
			return nil
		}
	}
}

// why prefers the reason for which the worker was abandoned.
func (s *session) why(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone != nil {
		return s.gone
	}
	return err
}

// hasLeft reports whether nothing more will come and all is answered.
func (s *session) hasLeft(drained bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drained = s.drained || drained
	return s.drained && s.job == nil
}

func (s *session) cancel(token uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.job != nil && s.job.token == token {
		s.job.cancelled = true
	}
}

func (s *session) begin(ctx context.Context, a *dispatch.Assignment) {
	j := &job{task: a.TaskID, attempt: a.Attempt, token: a.Token}
	s.mu.Lock()
	s.job = j
	s.mu.Unlock()
	t := worker.Task{ID: a.TaskID, Function: a.Function, Attempt: a.Attempt, Payload: a.Payload, Metadata: a.Metadata}
	s.assign(ctx, t, func(answer legacy.Answer) { s.answer(ctx, j, answer) })
}

// answer brings a result to the dispatcher. An abandoned worker ends its session,
// and so gives back what it has.
func (s *session) answer(ctx context.Context, j *job, a legacy.Answer) {
	s.mu.Lock()
	ses, cancelled := s.now, j.cancelled
	if a.Abandon {
		s.gone = a.Err
	} else {
		s.job = nil
	}
	s.mu.Unlock()
	r := dispatch.Result{TaskID: j.task, Attempt: j.attempt, Token: j.token}
	switch {
	case a.Abandon:
		ses.Detach()
		return
	case cancelled:
		r.Failure = &task.Failure{Reason: task.ReasonCancelled, Message: "cancelled by the balancer"}
	case a.Err != nil:
		r.Failure = failure(a.Err)
	default:
		r.Output = a.Result
	}
	results := [1]dispatch.Result{r}
	if !s.turn.TryLock() { // it was given where another was answered, and so is the next
		ses.Results(results[:])
		return
	}
	defer s.turn.Unlock()
	ses.Heard()
	if ses.ResultsAndNext(results[:], &s.onward) {
		for i := range s.onward.Assign {
			s.begin(ctx, &s.onward.Assign[i])
		}
		clear(s.onward.Assign) // so that an idle worker holds no payload
		ses.Sent()
	}
}

// claims are what the worker still has, of a session that ended.
func (s *session) claims() (running []*pb.RunningTask) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.job; j != nil {
		running = append(running, &pb.RunningTask{TaskId: j.task, Attempt: int32(j.attempt), Token: j.token})
	}
	return running
}
