package dispatch

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"reparto/internal/balance"
	"reparto/internal/task"
)

// Why a session ended.
var (
	ErrReplaced    = errors.New("a newer session of the same worker_id took its place")
	ErrSilent      = errors.New("nothing was heard of the worker for three heartbeat intervals")
	ErrSendBlocked = errors.New("the peer did not read what was sent to it within the send limit")
	ErrDetached    = errors.New("the session was detached")
	ErrClosed      = errors.New("the balancer has stopped")
)

// ErrWorkerIDTaken is why a worker is not registered whose id a worker of another
// principal has.
var ErrWorkerIDTaken = errors.New("a worker of another principal is connected under this worker_id; take another id")

// What a worker says, for borders, which do not know the core.
type (
	// Registration is what a worker says of itself.
	Registration = balance.Registration
	// Claim is an assignment of an earlier session that the worker still runs.
	Claim = balance.Claim
	// Result is a worker's answer to an assignment.
	Result = balance.Result
	// Progress is how far a worker says it is.
	Progress = balance.Progress
)

// Assignment is a task for a worker.
type Assignment struct {
	TaskID   string
	Attempt  int
	Token    uint64
	Function string
	Payload  []byte
	Metadata map[string]string
	Deadline time.Time
	// absent says that payload and metadata are in the store.
	absent bool
	// carry is what metadata that are absent will have in place of their own.
	carry map[string]string
}

// Cancel says that nobody wants an assignment any more.
type Cancel struct {
	TaskID string
	Token  uint64
	Reason string
}

// Session is one worker's registered stream. Its border calls Next from one
// goroutine and everything else from any.
type Session struct {
	d         *Dispatcher
	core      *balance.Session
	workerID  string
	id        string
	lastHeard atomic.Int64 // nanoseconds since d.started

	outbox
	acked []uint64      // gathered for putAllAcked; under d.mu
	bytes int           // of the results that they are about
	given bool          // it is among d.given; under d.mu
	ended chan struct{} // closed after err is set
	err   error
}

// Attach registers a worker. Only a Session can do what a registered worker can.
// The registration is checked: a *task.InvalidError names the bad field;
// ErrDraining, that no new workers are taken; ErrWorkerIDTaken. An empty WorkerID gets a UUIDv7.
func (d *Dispatcher) Attach(r Registration) (*Session, error) {
	if r.WorkerID == "" {
		r.WorkerID = d.ids.New()
	}
	r.SessionID = d.ids.New()
	if err := r.Check(); err != nil {
		return nil, err
	}
	ses := &Session{d: d, workerID: r.WorkerID, id: r.SessionID, ended: make(chan struct{})}
	ses.outbox.ready = make(chan struct{}, 1)
	now := time.Now()
	ses.outbox.since = now
	ses.Heard()
	claims := r.Running
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.draining {
		return nil, ErrDraining
	}
	if other := d.state.FindSession(r.WorkerID); other != nil && other.Principal != r.Principal {
		return nil, ErrWorkerIDTaken
	}
	ses.core = d.state.Join(now, r)
	ses.core.Owner = ses
	d.sessions[ses] = struct{}{}
	if d.trails != nil {
		d.trails.resumed(ses, claims)
	}
	d.log.Info("worker registered", "worker_id", r.WorkerID, "remote", r.Address, "session_id", r.SessionID,
		"functions", r.Functions, "slots", r.Slots, "running", len(claims))
	d.settle()
	return ses, nil
}

// WorkerID returns the worker's id, and ID the session's.
func (s *Session) WorkerID() string { return s.workerID }

// ID names the session.
func (s *Session) ID() string { return s.id }

// Ended is closed when the session has ended; Err then tells why.
func (s *Session) Ended() <-chan struct{} { return s.ended }

// Err tells why the session ended; call it only after Ended is closed.
func (s *Session) Err() error { return s.err }

// Heard notes that the worker has sent something, whatever it was.
func (s *Session) Heard() { s.lastHeard.Store(int64(time.Since(s.d.started))) }

func (s *Session) heard() time.Time { return s.d.started.Add(time.Duration(s.lastHeard.Load())) }

// Results takes the worker's answers, all in one step, and acknowledges each in a
// later frame, but not before it is on disk where it is about a durable task. Outputs over the payload
// limit become failures; messages over it are cut, and reasons after 128 bytes.
func (s *Session) Results(results []Result) {
	if len(results) == 0 {
		return
	}
	now := time.Now()
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	for i := range results {
		r := &results[i]
		if len(r.Output) > s.d.opt.MaxPayload {
			r.Failure = tooLarge(len(r.Output), s.d.opt.MaxPayload)
			r.Output = nil
		} else if f := r.Failure; f != nil {
			f.Reason, f.Message = cut(f.Reason, maxReason), cut(f.Message, s.d.opt.MaxPayload)
		}
		if s.d.logTasks {
			s.d.log.Debug("result received", "task_id", r.TaskID, "worker_id", s.workerID)
		}
		if s.d.trails != nil {
			s.d.trails.ended(s, r.Token, Ending{Kind: Answered, Failure: r.Failure})
		}
		if s.d.state.Result(now, s.core, r) {
			g := s.d.join()
			g.acks = append(g.acks, ack{s, r.Token, len(r.Output)})
		} else {
			s.acked = append(s.acked, r.Token)
			s.bytes += len(r.Output)
		}
	}
	s.putAllAcked()
	s.d.settle()
}

// ResultsAndNext is Results, and fills f with the assignments that Next would give
// thereupon. It reports false when there are none, or anything else to be told: that
// is Next's. So what a worker is given upon its answer it may have from the goroutine
// that brought the answer. Call Sent when it has it. The goroutine that calls Next
// must not mind that what it gives and what f is filled with overtake one another.
func (s *Session) ResultsAndNext(results []Result, f *Frame) bool {
	s.quiet.Store(true)
	s.Results(results)
	s.quiet.Store(false) // what was put in till then, the next line finds
	if !s.takeAssigned(f) {
		return false
	}
	if !s.d.fetch(s, f) {
		s.Sent()
		return false
	}
	return true
}

// Sent says that the worker has what ResultsAndNext gave.
func (s *Session) Sent() { s.done(time.Now()) }

// putAllAcked puts the tokens gathered in acked into the outbox. The caller holds
// d.mu.
func (s *Session) putAllAcked() {
	s.putAcks(s.acked, s.bytes)
	s.acked, s.bytes = s.acked[:0], 0
}

// Progress notes how far the worker is with an assignment.
func (s *Session) Progress(token uint64, p Progress) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.d.state.Progress(s.core, token, p)
}

// Drain is the worker's word that it wants to leave: it gets no more tasks, and
// a drain notice once all it was given has been sent.
func (s *Session) Drain() {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.d.state.Drain(s.core)
	s.putDrain(0)
	s.d.log.Info("worker is leaving", "worker_id", s.workerID)
}

// Next blocks until there is something to send, and fills f with it; the slices
// of f are used again. It returns the reason when the session has ended. Calling
// it says that what it gave before has been sent.
func (s *Session) Next(f *Frame) error {
	s.done(time.Now())
	for {
		select {
		case <-s.ended:
			return s.err
		default:
		}
		// Those who are about to put something in do so first, and it travels along:
		// a tenth more unary calls a second, and nothing lost with one in flight.
		runtime.Gosched()
		if s.take(f) {
			if s.d.fetch(s, f) {
				return nil
			}
			s.done(time.Now()) // there is nothing left to send
		}
		select {
		case <-s.ready:
		case <-s.ended:
		}
	}
}

// Detach ends the session: its stream is gone. What it held goes back to its
// queues at once. It may be called after the session has ended for another
// reason.
func (s *Session) Detach() {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.d.endLocked(s, ErrDetached)
}

// endLocked takes the session out, if that has not been done, and carries out
// what follows. The caller holds d.mu.
func (d *Dispatcher) endLocked(s *Session, why error) {
	if _, live := d.sessions[s]; !live {
		return
	}
	delete(d.sessions, s)
	d.state.Leave(time.Now(), s.core)
	if d.trails != nil {
		d.trails.left(s, why)
	}
	s.err = why
	close(s.ended)
	tell := d.log.Info
	if why == ErrSilent || why == ErrSendBlocked {
		tell = d.log.Warn
	}
	tell("worker left", "worker_id", s.workerID, "session_id", s.id, "reason", why)
	if why != ErrReplaced { // its effects are being carried out already
		d.settle()
	}
}

// assign puts a task into its session's outbox. The caller holds d.mu.
func (d *Dispatcher) assign(e *balance.Effect) {
	ses := e.Session.Owner.(*Session)
	if d.logTasks {
		d.log.Debug("task assigned", "task_id", e.TaskID, "worker_id", ses.workerID, "attempt", e.Attempt)
	}
	metadata, carry := e.Task.Metadata, map[string]string(nil)
	if d.trails != nil {
		metadata, carry = d.trails.assigned(ses, e)
	}
	ses.gather(Assignment{
		TaskID: e.TaskID, Attempt: e.Attempt, Token: e.Token,
		Function: e.Task.Function, Payload: e.Task.Payload, Metadata: metadata, Deadline: e.Task.Deadline,
		absent: e.Task.Absent, carry: carry,
	})
	if !ses.given {
		ses.given = true
		d.given = append(d.given, ses)
	}
}

// tooLarge is the failure of a task whose result is over the payload limit.
func tooLarge(size, limit int) *task.Failure {
	return &task.Failure{
		Reason:  task.ReasonResultTooLarge,
		Message: fmt.Sprintf("the result has %d bytes; at most %d are allowed", size, limit),
	}
}

// maxReason is how much of a failure's reason is kept, in bytes.
const maxReason = 128

// cut returns at most limit bytes of s, up to the end of a character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
