package legacy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"

	"reparto/worker"
)

// reasonTextWorker is the reason of a failure that a text worker reported.
const reasonTextWorker = "TEXT_WORKER_ERROR"

var (
	errWorkerGone  = errors.New("the text worker is gone")
	errTaskTimeout = errors.New("the text worker took too long for a task")
	errDrained     = errors.New("the text worker was still at a task when the drain timeout passed")
)

// workerSession is a registered text worker. One goroutine reads what it says;
// the handler, one at a time, writes an assignment and waits for its answer.
type workerSession struct {
	a    *Adapter
	conn net.Conn
	in   *reader
	own  string // the id that it gave itself
	id   string // and the one that the balancer knows
	log  *slog.Logger
	peer *peerEntry

	handlers sync.WaitGroup
	answer   chan string   // from the reader to the handler that awaits one
	gone     chan struct{} // closed once the connection is, after err was set
	err      error

	mu       sync.Mutex
	awaiting bool
	awaited  string // the task id as the worker was told it
}

// serve is the worker's life after its ACK. Whatever ends it, the error says.
func (s *workerSession) serve(ctx, hard context.Context, balancer grpc.ClientConnInterface) error {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	var wg sync.WaitGroup
	wg.Go(func() {
		s.err = s.read()
		close(s.gone)
		leave() // with nothing under way, the worker leaves the rotation by this
	})
	var err error
	if s.settled(ctx) {
		err = worker.Run(ctx, balancer, worker.Handlers{
			s.a.o.Function: func(ctx context.Context, t worker.Task) ([]byte, error) {
				s.handlers.Add(1)
				defer s.handlers.Done()
				return s.handle(ctx, hard, t)
			},
		}, worker.Options{
			ID: s.id, Slots: 1,
			Labels:       map[string]string{"protocol": "text", "text_worker_id": loggable(s.own)},
			Log:          slog.New(troubleOnly{s.a.o.Log.Handler()}),
			DrainTimeout: max(s.a.o.DrainTimeout, time.Millisecond), TracerProvider: s.a.o.TracerProvider,
		})
	}
	select {
	case <-s.gone: // the cause, whatever Run made of it
		err = s.err
	default:
	}
	_ = s.conn.Close() // makes the reader end; what fails to close is closed
	wg.Wait()
	s.handlers.Wait()
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

// take gives an answer to the handler that awaits it. One that nobody awaits is
// of no use to anybody.
func (s *workerSession) take(m message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.awaiting || string(m.id) != s.awaited {
		s.a.n.stray.Add(1)
		s.log.Warn("result for a task that this worker does not have", "task_id", loggable(m.id))
		return
	}
	s.awaiting = false
	s.a.n.answers.Add(1)
	s.peer.tasks.Add(1)
	s.answer <- string(m.data) // has room: nothing is awaited before it was taken
}

// handle gives one task to the worker and waits for its answer.
//
// The old worker can't be told that a task was cancelled, so its slot stays
// occupied until it answers; that answer is for nobody.
func (s *workerSession) handle(ctx, hard context.Context, t worker.Task) ([]byte, error) {
	payload, err := oneLine(t.Payload)
	if err != nil {
		return nil, worker.Fail(reasonTextWorker, fmt.Errorf("the payload %w and can't be sent to a text worker as one line", err))
	}
	id := textID(t)
	s.mu.Lock()
	s.awaiting, s.awaited = true, id
	s.mu.Unlock()
	s.debug(ctx, "task assigned", id, t.ID)
	if err := writeLine(s.conn, s.a.o.WriteTimeout, appendMessage(nil, verbAssign, id, payload)); err != nil {
		return nil, s.abandon(err)
	}
	s.a.n.assignments.Add(1)

	var limit <-chan time.Time
	if s.a.o.WorkerTaskTimeout > 0 {
		timer := time.NewTimer(s.a.o.WorkerTaskTimeout)
		defer timer.Stop()
		limit = timer.C
	}
	select {
	case data := <-s.answer:
		return s.verdict(ctx, id, t.ID, data)
	case <-s.gone:
		select {
		case data := <-s.answer: // its last word
			return s.verdict(ctx, id, t.ID, data)
		default:
			return nil, s.abandon(errWorkerGone)
		}
	case <-limit:
		s.a.n.timedOut.Add(1)
		return nil, s.abandon(fmt.Errorf("%w: %v", errTaskTimeout, s.a.o.WorkerTaskTimeout))
	case <-hard.Done():
		return nil, s.abandon(errDrained)
	}
}

// verdict turns a worker's answer into the task's result or failure.
func (s *workerSession) verdict(ctx context.Context, id, taskID, data string) ([]byte, error) {
	s.debug(ctx, "result received", id, taskID)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if message, failed := failure(data); failed {
		return nil, worker.Fail(reasonTextWorker, errors.New(message))
	}
	return []byte(data), nil
}

// abandon gives the task back, for another worker to have it at once.
func (s *workerSession) abandon(err error) error {
	s.a.n.abandoned.Add(1)
	return worker.Abandon(err)
}

// textID is the id under which a text worker is told of a task: its text
// client's own if there is one and a line can hold it, else the balancer's.
func textID(t worker.Task) string {
	id, ok := t.Metadata[metadataTextID]
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

// troubleOnly lets pass what is worth an operator's while. The SDK tells of
// itself what the adapter tells of the text worker.
type troubleOnly struct{ slog.Handler }

func (h troubleOnly) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && h.Handler.Enabled(ctx, l)
}

func (h troubleOnly) WithAttrs(attrs []slog.Attr) slog.Handler {
	return troubleOnly{h.Handler.WithAttrs(attrs)}
}

func (h troubleOnly) WithGroup(name string) slog.Handler {
	return troubleOnly{h.Handler.WithGroup(name)}
}
