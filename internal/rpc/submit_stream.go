package rpc

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/table"
	"reparto/internal/task"
)

// clientStream is one client's SubmitStream: what it has in flight, and the
// outcomes that wait to be sent. The reader puts in, the dispatcher answers, the
// writer takes out.
type clientStream struct {
	s      *taskService
	stream pb.TaskService_SubmitStreamServer
	who    *caller
	quotas *callQuotas
	over   bool          // what was read last went over the caller's own limits; the reader's
	ready  chan struct{} // tells the writer that there may be something to do
	room   chan struct{} // tells the reader that there may be room
	slow   chan struct{} // holds a token when the client let too much pile up

	mu       sync.Mutex
	flights  table.Of[flight] // by the client's numbers
	out      []answer
	outBytes int
	// The last refusal by the inside, and what it became: under load they are many
	// and the same.
	refusedFor, refused error
	eof                 bool // the client has no more tasks
	draining            bool // the balancer takes no more
	ended               bool // nobody sends any more
	sending             time.Time
}

// flight is a task that has no outcome yet.
type flight struct {
	ticket dispatch.Ticket
	size   uint32 // of its payload, which came in a gRPC message: those are below 4 GiB
	text   bool   // the client gave text, and wants it back
}

// answer is an outcome on its way out: with err, one without a verdict.
type answer struct {
	number uint64
	id     string
	o      task.Outcome
	text   bool
	err    error
}

// size is about what the answer takes, in memory and in a frame.
func (a *answer) size() int {
	n := len(a.o.Result)
	if f := a.o.Failure; f != nil {
		n += len(f.Reason) + len(f.Message)
	}
	return n
}

func (s *taskService) SubmitStream(stream pb.TaskService_SubmitStreamServer) error {
	c := &clientStream{
		s: s, stream: stream, who: callerOf(stream.Context()), quotas: quotasOf(stream.Context()),
		ready: make(chan struct{}, 1), room: make(chan struct{}, 1), slow: make(chan struct{}, 1),
	}
	read, wrote := make(chan error, 1), make(chan error, 1)
	s.events.run(stream.Context(), read, c.read)
	s.events.run(stream.Context(), wrote, c.write)
	defer c.abandonAll()
	// A send that blocks can only be ended by returning from here.
	watch := time.NewTicker(max(s.limits.SendLimit/4, time.Millisecond))
	defer watch.Stop()
	draining := s.events.draining
	for {
		select {
		case err := <-read:
			if err != io.EOF {
				return err
			}
			c.set(&c.eof)
			read = nil
		case err := <-wrote:
			return err
		case <-c.slow: // the writer may hang in a send, so it can't tell
			return refuse(errSlowConsumer)
		case <-draining:
			c.set(&c.draining)
			draining = nil
		case <-watch.C:
			if c.blocked() >= s.limits.SendLimit {
				return refuse(dispatch.ErrSendBlocked)
			}
		}
	}
}

func (c *clientStream) set(flag *bool) {
	c.mu.Lock()
	*flag = true
	c.mu.Unlock()
	signal(c.ready)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (c *clientStream) blocked() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sending.IsZero() {
		return 0
	}
	return time.Since(c.sending)
}

// abandonAll gives up what is in flight when the stream ends.
func (c *clientStream) abandonAll() {
	c.mu.Lock()
	c.ended = true
	bytes := 0
	tickets := make([]dispatch.Ticket, 0, c.flights.Len())
	for _, f := range c.flights.All() {
		tickets = append(tickets, f.ticket)
		bytes += int(f.size)
	}
	c.quotas.letGo(len(tickets), bytes)
	c.mu.Unlock()
	c.s.tasks.Abandon(c, tickets...)
}

// arrive says that a task has its answer. The caller holds c.mu.
func (c *clientStream) arrive(number uint64, f *flight) {
	if !c.ended { // else all were let go of together
		c.quotas.letGo(1, int(f.size))
	}
	c.flights.Remove(number)
}

// read takes frames until the client closes its side (io.EOF) or breaks off.
func (c *clientStream) read() error {
	var batch []dispatch.Submission
	frame := &pb.SubmitStreamRequest{} // wire.Codec uses its messages again
	for {
		if err := c.waitForRoom(); err != nil {
			return err
		}
		if err := c.stream.RecvMsg(frame); err != nil {
			return err
		}
		if n := len(frame.GetTasks()); n > dispatch.MaxFrameTasks {
			return invalid("tasks", fmt.Sprintf("has %d tasks; a frame holds at most %d", n, dispatch.MaxFrameTasks))
		}
		var err error
		if batch, err = c.submit(frame.GetTasks(), batch[:0]); err != nil {
			return err
		}
		c.cancel(frame.GetCancelNumbers())
		if err := c.slowDown(); err != nil {
			return err
		}
		clear(batch)
		letGoOfTasks(frame)
	}
}

// penalty is how long a stream is not read from that went over its caller's own
// limits: so that one who does not wait as told costs others little.
const penalty = 50 * time.Millisecond

func (c *clientStream) slowDown() error {
	if !c.over {
		return nil
	}
	c.over = false
	timer := time.NewTimer(penalty)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.stream.Context().Done():
		return c.stream.Context().Err()
	}
}

// letGoOfTasks drops what a frame held that may be large: it is kept for the next,
// and an idle stream shall not hold it.
func letGoOfTasks(frame *pb.SubmitStreamRequest) {
	for _, t := range frame.Tasks {
		t.Payload, t.Text, t.Metadata = nil, nil, nil
	}
}

// waitForRoom blocks while the client has as much in flight as it may.
func (c *clientStream) waitForRoom() error {
	for {
		c.mu.Lock()
		full := c.flights.Len()+len(c.out) >= c.s.opt.MaxInFlight
		c.mu.Unlock()
		if !full {
			return nil
		}
		select {
		case <-c.room:
		case <-c.stream.Context().Done():
			return c.stream.Context().Err()
		}
	}
}

// submit hands over a frame's tasks. An error ends the stream.
func (c *clientStream) submit(tasks []*pb.StreamTask, batch []dispatch.Submission) ([]dispatch.Submission, error) {
	now := time.Now()
	owner := c.who.owner()
	granted, refused := c.quotas.take(now, len(tasks))
	c.over = refused != nil
	c.mu.Lock()
	batch = slices.Grow(batch, len(tasks))
	for i, f := range tasks {
		if c.flights.Find(f.GetNumber()) != nil {
			c.mu.Unlock()
			return batch, invalid("number", fmt.Sprintf("%d is borne by a task in flight; take another", f.GetNumber()))
		}
		n := len(batch)
		batch = batch[:n+1] // an empty one: read clears them
		t := &batch[n].Task
		err := c.s.limits.task(t, now, f, f.Text, millis(f.GetTimeoutMs()), millis(f.GetAttemptTimeoutMs()))
		if err == nil {
			err = c.who.maySubmit(t.Function)
		}
		if err == nil && i >= granted {
			err = refused
		}
		if err == nil && !c.ended {
			err = c.quotas.hold(len(t.Payload))
			c.over = c.over || err != nil
		}
		if err != nil {
			c.s.refused.task(c.stream.Context(), err, 1)
			c.put(answer{number: f.GetNumber(), id: f.GetTaskId(), err: err})
			batch[n] = dispatch.Submission{}
			batch = batch[:n]
			continue
		}
		t.Owner, batch[n].Number = owner, f.GetNumber()
		*c.flights.Add(f.GetNumber()) = flight{text: f.Text != nil, size: uint32(len(t.Payload))}
	}
	c.mu.Unlock()
	for i := 0; c.s.log.on && i < len(batch); i++ {
		c.s.log.received(c.stream.Context(), &batch[i].Task)
	}
	c.s.tasks.Submit(c, batch)
	c.accepted(batch)
	return batch, nil
}

// accepted notes what became of a batch: a ticket, or an answer at once. Tickets
// that came too late for a stream that has ended are given back.
func (c *clientStream) accepted(batch []dispatch.Submission) {
	var late []dispatch.Ticket
	var told int // of refused, for the error before
	c.mu.Lock()
	for i := range batch {
		b := &batch[i]
		f := c.flights.Find(b.Number)
		switch {
		case b.Err != nil:
			if b.Err != c.refusedFor {
				c.s.refused.task(c.stream.Context(), c.refused, told)
				c.refusedFor, c.refused, told = b.Err, refuse(b.Err), 0
			}
			told++
			if full, ok := b.Err.(*dispatch.QueueFullError); ok && full.Own {
				c.over = true
			}
			c.put(answer{number: b.Number, id: b.Task.ID, err: c.refused})
			c.arrive(b.Number, f)
		case c.ended:
			late = append(late, b.Ticket)
		case f != nil: // else it has its outcome already
			f.ticket = b.Ticket
		}
	}
	c.s.refused.task(c.stream.Context(), c.refused, told)
	answered := len(c.out) > 0
	c.mu.Unlock()
	if answered {
		signal(c.ready)
	}
	c.s.tasks.Abandon(c, late...)
}

// cancel gives up single tasks, which is their outcome.
func (c *clientStream) cancel(numbers []uint64) {
	var tickets []dispatch.Ticket
	c.mu.Lock()
	for _, n := range numbers {
		if f := c.flights.Find(n); f != nil {
			tickets = append(tickets, f.ticket)
			c.arrive(n, f)
			c.put(answer{number: n, err: noVerdict(&task.Outcome{State: task.Cancelled})})
		}
	}
	c.mu.Unlock()
	if len(tickets) > 0 {
		signal(c.ready)
	}
	c.s.tasks.Abandon(c, tickets...)
}

// Done implements dispatch.Waiter: the writer takes all that came together.
func (c *clientStream) Done(finished []dispatch.Finished) {
	c.mu.Lock()
	for i := range finished {
		d := &finished[i]
		if f := c.flights.Find(d.Number); f != nil && !c.ended {
			c.put(answer{number: d.Number, id: d.TaskID, o: d.Outcome, text: f.text})
			c.arrive(d.Number, f)
		}
	}
	c.mu.Unlock()
	signal(c.ready)
}

// put adds an answer for the writer, which the caller wakes when all are in. The
// caller holds c.mu.
func (c *clientStream) put(a answer) {
	c.out = append(c.out, a)
	c.outBytes += a.size()
	if c.outBytes > c.s.opt.MaxOutbox {
		signal(c.slow)
	}
}
