package legacy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"reparto/worker"
)

var (
	errWorkerGone  = errors.New("the text worker is gone")
	errTaskTimeout = errors.New("the text worker took too long for a task")
	errDrained     = errors.New("the text worker was still at a task when the drain timeout passed")
)

// workerSession is a registered text worker. One goroutine reads what it says, the
// balancer's gives it tasks, one at a time.
type workerSession struct {
	a    *Adapter
	conn net.Conn
	in   *reader
	own  string // the id that it gave itself
	id   string // and the one that the balancer knows
	log  *slog.Logger
	peer *peerEntry

	running sync.WaitGroup // tasks that are not answered

	mu   sync.Mutex
	task *textTask // what it has; nil: nothing
	// unfit is why it can have no task any more.
	unfit error
}

// textTask is a task that the worker has.
type textTask struct {
	id, taskID string // as the worker was told, and as the balancer knows it
	answer     func(Answer)
	limit      *time.Timer // nil: none
}

// serve is the worker's life after its ACK. Whatever ends it, the error says.
func (s *workerSession) serve(ctx, hard context.Context, balancer Balancer) error {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	var wg sync.WaitGroup
	var gone error
	ended := make(chan struct{})
	wg.Go(func() {
		gone = s.read()
		close(ended)
		s.giveUp(errWorkerGone)
		leave() // with nothing under way, the worker leaves the rotation by this
	})
	defer context.AfterFunc(hard, func() { s.giveUp(errDrained) })()
	var err error
	if s.settled(ctx) {
		err = balancer.Work(ctx, Worker{
			ID: s.id, Function: s.a.o.Function,
			Labels: map[string]string{"protocol": "text", "text_worker_id": loggable(s.own)},
		}, s.assign)
	}
	select {
	case <-ended: // the cause, whatever Work made of it
		err = gone
	default:
	}
	_ = s.conn.Close() // makes the reader end; what fails to close is closed
	wg.Wait()
	s.running.Wait()
	return err
}

// settled waits out the gap after ACK: a worker that reads twice would take an
// assignment that comes with its ACK for a part of it. It reports whether the
// worker is still wanted then.
func (s *workerSession) settled(ctx context.Context) bool {
	if s.a.o.AckGap <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(s.a.o.AckGap)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// read takes what the worker says until its connection ends.
func (s *workerSession) read() error {
	for {
		line, err := s.in.next()
		if err != nil {
			return err
		}
		m, err := parse(line)
		switch {
		case err == nil && m.verb == verbRegister:
			err = errors.New("registers a second time")
		case err == nil && m.verb != verbTaskResult:
			err = errors.New("is not for a worker to say; a worker sends TASK_RESULT|task_id|result")
		}
		if err != nil {
			s.a.malformed(s.log, line, err)
			continue
		}
		s.take(m)
	}
}

// assign gives one task to the worker. What it answers is answered, and so is a task
// that it can't be given.
//
// The old worker can't be told that a task was cancelled, so its slot stays
// occupied until it answers; that answer is for nobody.
func (s *workerSession) assign(ctx context.Context, t worker.Task, answer func(Answer)) {
	payload, err := oneLine(t.Payload)
	if err != nil {
		answer(Answer{Err: fmt.Errorf("the payload %w and can't be sent to a text worker as one line", err)})
		return
	}
	k := &textTask{id: textID(t), taskID: t.ID, answer: answer}
	s.mu.Lock()
	unfit := s.unfit
	if unfit == nil {
		s.running.Add(1)
		s.task = k
		if limit := s.a.o.WorkerTaskTimeout; limit > 0 {
			k.limit = time.AfterFunc(limit, func() {
				if s.takeBack(k) {
					s.a.n.timedOut.Add(1)
					s.abandon(k, fmt.Errorf("%w: %v", errTaskTimeout, limit))
				}
			})
		}
	}
	s.mu.Unlock()
	if unfit != nil {
		s.a.n.abandoned.Add(1)
		answer(Answer{Err: unfit, Abandon: true})
		return
	}
	s.debug(ctx, "task assigned", k.id, k.taskID)
	if err := writeLine(s.conn, s.a.o.WriteTimeout, appendMessage(nil, verbAssign, k.id, payload)); err != nil {
		if s.takeBack(k) {
			s.abandon(k, err)
		}
		return
	}
	s.a.n.assignments.Add(1)
}

// take answers the task that the worker has. An answer that nobody awaits is of no
// use to anybody.
func (s *workerSession) take(m message) {
	s.mu.Lock()
	k := s.task
	s.mu.Unlock()
	if k == nil || string(m.id) != k.id || !s.takeBack(k) {
		s.a.n.stray.Add(1)
		s.log.Warn("result for a task that this worker does not have", "task_id", loggable(m.id))
		return
	}
	s.a.n.answers.Add(1)
	s.peer.tasks.Add(1)
	s.debug(context.Background(), "result received", k.id, k.taskID) // the log's alone
	if message, failed := failure(string(m.data)); failed {
		s.finish(k, Answer{Err: errors.New(message)})
		return
	}
	s.finish(k, Answer{Result: bytes.Clone(m.data)})
}

// giveUp says that the worker is of no use any more: what it has goes back, for
// another worker to have it at once.
func (s *workerSession) giveUp(why error) {
	s.mu.Lock()
	if s.unfit == nil {
		s.unfit = why
	}
	k := s.task
	s.mu.Unlock()
	if k != nil && s.takeBack(k) {
		s.abandon(k, why)
	}
}

// takeBack takes a task from the worker, and reports whether it was still there:
// then it is the caller's to answer.
func (s *workerSession) takeBack(k *textTask) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.task != k {
		return false
	}
	s.task = nil
	return true
}

func (s *workerSession) abandon(k *textTask, why error) {
	s.a.n.abandoned.Add(1)
	s.finish(k, Answer{Err: why, Abandon: true})
}

// finish answers a task that was taken back.
func (s *workerSession) finish(k *textTask, a Answer) {
	if k.limit != nil {
		k.limit.Stop()
	}
	k.answer(a)
	s.running.Done()
}

// textID is the id under which a text worker is told of a task: its text
// client's own if there is one and a line can hold it, else the balancer's.
func textID(t worker.Task) string {
	id, ok := t.Metadata[metadataTextID]
	if !ok {
		id, ok = ownID(t.ID)
	}
	if !ok || len(id) > maxTextIDMetadata || strings.ContainsAny(id, "|\r\n") || !utf8.ValidString(id) {
		return t.ID
	}
	return id
}

func (s *workerSession) debug(ctx context.Context, event, id, taskID string) {
	if s.log.Enabled(ctx, slog.LevelDebug) {
		s.log.LogAttrs(ctx, slog.LevelDebug, event, slog.String("task_id", loggable(id)), slog.String("balancer_task_id", taskID))
	}
}
