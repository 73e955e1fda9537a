package legacy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"reparto/client"
)

const (
	// metadataTextID carries the id by which a text worker is to be told of a text
	// client's task, where ownID can't tell it.
	metadataTextID = "text-task-id"
	// probeInterval is how often a client that has closed its side, and waits for
	// its results, is looked at.
	probeInterval = time.Second
	// lingerTimeout is how long a connection that is closed before its peer is
	// left open for what is on its way.
	lingerTimeout = 500 * time.Millisecond
)

// clientSession is one text client's connection. A goroutine reads tasks and
// submits them; the session's own writes results. What was submitted belongs to
// the session until its callback was called, so it ends only when each was.
type clientSession struct {
	a      *Adapter
	conn   net.Conn
	in     *reader
	submit Submit
	remote string
	number uint64
	log    *slog.Logger
	peer   *peerEntry
	tasks  uint64 // numbers them; the reading goroutine's

	queue outbox
	pace  pace

	mu  sync.Mutex
	end error // what ended the connection before its time
}

// serveClient serves one text client until it is done, gone, or hard ends.
func (a *Adapter) serveClient(hard context.Context, conn net.Conn, c Balancer) {
	remote := conn.RemoteAddr().String()
	s := &clientSession{
		a: a, conn: conn, in: newReader(conn, &a.o), remote: remote, number: a.connNumber(),
		log: a.o.Log.With("remote", remote), queue: newOutbox(&a.o), pace: pace{gap: a.o.ResultGap},
		peer: a.peers.enter(client.TextClient, conn.RemoteAddr(), a.ClientAddr()),
	}
	defer a.peers.leave(s.peer)
	s.log.Debug("client connected")
	a.clients.watch(s.in)
	defer a.clients.unwatch(s.in)

	// Cancelling ctx cancels every task of this client at the balancer.
	ctx, cancel := context.WithCancel(hard)
	defer cancel()
	submit, leave := c.Client(ctx)
	defer leave()
	s.submit = submit
	var wg sync.WaitGroup
	wg.Go(func() {
		defer s.queue.closeInput()
		if err := s.read(ctx); err != nil {
			s.fail(err)
			cancel()
		}
	})
	if err := s.write(ctx); err != nil {
		s.fail(err)
		cancel()
		s.in.stop()
		wg.Wait()
		a.n.undelivered.Add(uint64(s.queue.discard()))
	}
	wg.Wait()
	s.close()
}

// read submits what the client sends until there is no more to come, which is
// no error: it closed its side, or the adapter drains.
func (s *clientSession) read(ctx context.Context) error {
	for {
		line, err := s.in.next()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, errStopped):
			return nil
		case err != nil:
			return err
		}
		m, err := parse(line)
		if err == nil && m.verb != verbTask {
			err = errors.New("is not for a client to say; a client sends TASK|task_id|task_data")
		}
		if err != nil {
			s.a.malformed(s.log, line, err)
			continue
		}
		if !s.queue.reserve(ctx, len(m.data)) {
			return nil // the writer knows why
		}
		s.handOver(ctx, m)
	}
}

// handOver submits a task, whose room in the queue is reserved.
func (s *clientSession) handOver(ctx context.Context, m message) {
	s.tasks++
	id, size := string(m.id), len(m.data)
	t := client.Task{
		Function:   s.a.o.Function,
		Payload:    append([]byte(nil), m.data...),
		ID:         taskID(s.a.run, s.number, s.tasks, m.id),
		Timeout:    s.a.o.TaskTimeout,
		Idempotent: s.a.o.Idempotent,
	}
	if own, _ := ownID(t.ID); own != id {
		told := id
		if len(id) > maxTextIDMetadata {
			told = t.ID
		}
		t.Metadata = map[string]string{metadataTextID: told}
	}
	s.a.n.tasks.Add(1)
	s.peer.tasks.Add(1)
	s.debug(ctx, "task received", id, t.ID)
	s.submit(t, func(out client.Outcome, err error) {
		s.queue.put(reply{id: id, result: out.Result, err: err, size: size})
	})
}

// write writes a RESULT for each reply, and returns once the last was written
// and no task can come any more. After an error, some were not.
func (s *clientSession) write(ctx context.Context) error {
	var (
		line   []byte
		probes <-chan time.Time
	)
	for {
		p, waiting, state := s.queue.take()
		switch state {
		case outboxDone:
			return s.ended()
		case outboxEmpty:
			if probes == nil && s.queue.inputClosed() {
				ticker := time.NewTicker(probeInterval)
				defer ticker.Stop()
				probes = ticker.C
			}
			if err := s.wait(probes); err != nil {
				return err
			}
			continue
		}
		if err := s.ended(); err != nil {
			s.queue.settle(&p)
			s.a.n.undelivered.Add(1)
			return err
		}
		if waiting <= paceUpTo {
			s.pace.wait(ctx, s.queue.pipelined())
		}
		var failed bool
		line, failed = appendReply(line[:0], &p)
		err := writeLine(s.conn, s.a.o.WriteTimeout, line)
		s.queue.settle(&p)
		if err != nil {
			s.a.n.undelivered.Add(1)
			return err
		}
		s.pace.wrote()
		s.a.n.results.Add(1)
		if failed {
			s.a.n.errors.Add(1)
		}
		s.debug(ctx, "result sent", p.id, "")
		if cap(line) > keptBuffer {
			line = nil
		}
	}
}

// wait waits for the queue. A client that has closed its side may have closed
// both: nothing tells, until something is sent to it or TCP keepalive has found
// out. So the connection is probed at each of probes.
func (s *clientSession) wait(probes <-chan time.Time) error {
	select {
	case <-s.queue.wake:
		return nil
	case <-probes:
		return probe(s.conn)
	}
}

// fail remembers the first reason for which the connection ended early.
func (s *clientSession) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end == nil {
		s.end = err
	}
}

func (s *clientSession) ended() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end
}

// close ends the connection and says why.
func (s *clientSession) close() {
	err := s.ended()
	s.a.countEnd(err)
	switch {
	case err == nil:
		if s.in.isStopped() {
			linger(s.conn)
		}
		s.log.Debug("client disconnected")
	case peerGone(err):
		s.log.Debug("client disconnected", "error", err)
	default:
		s.log.Warn("client cut off", "error", err)
	}
}

func (s *clientSession) debug(ctx context.Context, event, id, taskID string) {
	if s.log.Enabled(ctx, slog.LevelDebug) {
		attrs := []slog.Attr{slog.String("task_id", loggable(id))}
		if taskID != "" {
			attrs = append(attrs, slog.String("balancer_task_id", taskID))
		}
		s.log.LogAttrs(ctx, slog.LevelDebug, event, attrs...)
	}
}

// malformed logs and counts a line that was not understood.
func (a *Adapter) malformed(log *slog.Logger, line []byte, problem error) {
	a.n.malformed.Add(1)
	log.Warn("malformed message", "line", loggable(line), "problem", problem.Error())
}

// countEnd counts connections that were ended for what their peer did.
func (a *Adapter) countEnd(err error) {
	switch {
	case errors.Is(err, errOverlong):
		a.n.overlong.Add(1)
	case errors.Is(err, errSlow):
		a.n.slow.Add(1)
	case errors.Is(err, os.ErrDeadlineExceeded):
		a.n.blocked.Add(1)
	}
}
