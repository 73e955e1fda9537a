package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/table"
)

// pool holds every job of a Run, in all its sessions, and the goroutines that
// run them. A job is waiting for a goroutine, then running, then finished and
// waiting to be sent; then sent, and kept until the balancer has acknowledged it.
type pool struct {
	handlers  Handlers
	values    context.Context // what handlers see of Run's context, but its end
	log       *slog.Logger
	slots     int
	capacity  int
	tracing   *tracing    // nil: no spans
	abandoned func(error) // called when a handler abandons the worker
	// ready tells the writer that there is something to send.
	ready chan struct{}
	// left tells wait that a goroutine has left.
	left chan struct{}

	mu       sync.Mutex
	jobs     table.Of[*job] // by token, until they are sent, and acknowledged
	sent     int            // of them, which were, and are not acknowledged
	keeps    bool           // the balancer acknowledges what it is sent
	waiting  list
	finished list
	news     []*job // those with progress to tell
	running  int

	work sync.Cond
	// goroutines there are; idle ones wait for work and have not been woken.
	goroutines, idle int
	// waking is set while a goroutine is on its way to work: it will wake the
	// next one if there is work left for it. So goroutines for short tasks don't
	// trip over each other, and long ones still get as many as there are slots.
	waking bool
	closed bool
	// gone is set when the worker was abandoned: nothing is answered any more.
	gone bool
}

func newPool(values context.Context, h Handlers, o *Options, abandoned func(error)) *pool {
	p := &pool{
		handlers: h, values: values, log: o.Log, slots: o.Slots, capacity: o.Slots + o.Prefetch, tracing: newTracing(o), abandoned: abandoned,
		ready: make(chan struct{}, 1), left: make(chan struct{}, 1),
	}
	p.work.L = &p.mu
	return p
}

// add takes the tasks of a frame. An error means that the balancer does not keep
// to the contract.
func (p *pool) add(tasks []*pb.AssignTask) error {
	now := time.Now()
	jobs := make([]*job, len(tasks))
	for i, t := range tasks {
		jobs[i] = newJob(p, t, now)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.wake()
	for _, j := range jobs {
		if err := p.admit(j); err != nil {
			return err
		}
	}
	return nil
}

// admit takes one job. The caller holds p.mu.
func (p *pool) admit(j *job) error {
	token := j.answer.Token
	if other := p.find(token); other != nil {
		return fmt.Errorf("the balancer assigned task %s under token %d, which task %s has", j.answer.TaskId, token, other.answer.TaskId)
	}
	// Twice, since after a break the balancer may not know of all that is here.
	if p.held() >= 2*p.capacity {
		return fmt.Errorf("the balancer assigned far more than the %d tasks that this worker takes", p.capacity)
	}
	p.forget(token) // it gives a token again whose answer it has
	*p.jobs.Add(token) = j
	if j.handler == nil {
		j.answer.Failure = newFailure(reasonUnknownFunction, fmt.Sprintf("this worker does not offer the function %q", j.function))
		p.finish(j)
		return nil
	}
	p.waiting.push(j)
	return nil
}

// held counts the jobs that are not sent.
func (p *pool) held() int { return p.jobs.Len() - p.sent }

// find returns the job under a token that is not sent, or nil.
func (p *pool) find(token uint64) *job {
	if j := p.jobs.Find(token); j != nil && (*j).state != sent {
		return *j
	}
	return nil
}

// forget lets go of an answer that was sent.
func (p *pool) forget(token uint64) {
	if j := p.jobs.Find(token); j != nil && (*j).state == sent {
		p.jobs.Remove(token)
		p.sent--
	}
}

// wake gets a goroutine for what waits, unless one is on its way. The caller
// holds p.mu.
func (p *pool) wake() {
	switch {
	case p.waking || p.waiting.first == nil:
	case p.idle > 0:
		p.idle--
		p.waking = true
		p.work.Signal()
	case p.goroutines < p.slots && !p.closed:
		p.goroutines++
		p.waking = true
		go p.run()
	}
}

// run is one goroutine: it runs jobs until the pool is closed.
func (p *pool) run() {
	var j *job
	defer func() { p.leave(j) }() // also when a handler calls runtime.Goexit
	for fresh := true; ; fresh = false {
		if j = p.next(j, fresh); j == nil {
			return
		}
		if err := j.run(); err != nil {
			p.abandon(err)
		}
	}
}

// next takes the job that was done, if any, and blocks until there is another;
// nil when the pool is closed.
func (p *pool) next(done *job, fresh bool) *job {
	p.mu.Lock()
	defer p.mu.Unlock()
	if done != nil {
		p.running--
		p.finish(done)
	}
	if fresh {
		p.waking = false
	}
	for {
		if p.closed {
			return nil
		}
		if j := p.waiting.pop(); j != nil {
			j.state = running
			p.running++
			p.wake()
			return j
		}
		p.idle++
		p.work.Wait()
		p.waking = false
	}
}

// leave ends a goroutine; j is what it was running, if a handler ended it.
func (p *pool) leave(j *job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if j != nil {
		p.running--
		p.finish(j)
	}
	p.goroutines--
	p.wake()
	if p.closed {
		select {
		case p.left <- struct{}{}:
		default:
		}
	}
}

// abandon makes sure that nothing is answered any more: not the task whose
// handler said so either, which has no answer.
func (p *pool) abandon(err error) {
	p.mu.Lock()
	p.gone = true
	p.mu.Unlock()
	p.abandoned(err)
}

// finish puts a job with its answer among those to be sent. The caller holds
// p.mu.
func (p *pool) finish(j *job) {
	j.state = finished
	j.payload, j.metadata = nil, nil
	if p.finished.first == nil {
		p.signal()
	}
	p.finished.push(j)
}

// signal makes the writer look for something to send. It never blocks.
func (p *pool) signal() {
	select {
	case p.ready <- struct{}{}:
	default:
	}
}

// cancel stops the assignment under a token. One that is not here has been
// answered already.
func (p *pool) cancel(token uint64, reason string) {
	p.mu.Lock()
	j := p.find(token)
	if j == nil {
		p.mu.Unlock()
		return
	}
	toAbort := p.stop(j, reason)
	p.mu.Unlock()
	if toAbort {
		j.abort(errors.New("cancelled by the balancer: " + reason))
	}
}

// stop answers a job that waits as cancelled, and reports whether the job runs,
// and so has a context to be cancelled. The caller holds p.mu.
func (p *pool) stop(j *job, reason string) (runs bool) {
	if j.state == waiting {
		p.waiting.remove(j)
		j.answer.Failure = newFailure(reasonCancelled, "cancelled before a handler was free for it: "+reason)
		p.finish(j)
	}
	return j.state == running
}

// cancelAll stops every job.
func (p *pool) cancelAll(cause error) {
	p.mu.Lock()
	var jobs []*job
	for _, j := range p.jobs.All() {
		if p.stop(*j, cause.Error()) {
			jobs = append(jobs, *j)
		}
	}
	p.mu.Unlock()
	for _, j := range jobs {
		j.abort(cause)
	}
}

// maxClaims is how many claims a registration may hold.
const maxClaims = 131072

// claims lists what an earlier session has left here, as many as fit into
// maxBytes, and how many of them still run. The balancer counts the others as
// lost.
func (p *pool) claims(maxBytes int) (jobs []*pb.RunningTask, running, left int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	claim := func(j *job) bool {
		over := j.state >= finished
		maxBytes -= len(j.answer.TaskId) + 34
		if maxBytes < 0 || len(jobs) == maxClaims {
			return false
		}
		if !over {
			if running == p.capacity {
				return true // there may be room for what takes no slot
			}
			running++
		}
		jobs = append(jobs, &pb.RunningTask{TaskId: j.answer.TaskId, Attempt: j.answer.Attempt, Token: j.answer.Token, Finished: over})
		return true
	}
	for _, isSent := range []bool{true, false} {
		for _, j := range p.jobs.All() {
			if ((*j).state == sent) == isSent && !claim(*j) {
				break
			}
		}
	}
	return jobs, running, p.jobs.Len() - len(jobs)
}

// registered begins a session: what an earlier one has sent and was not
// acknowledged goes out again, before anything else.
func (p *pool) registered(acknowledges bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keeps = acknowledges
	later := p.finished
	p.finished = list{}
	for _, j := range p.jobs.All() {
		if (*j).state == sent {
			(*j).state = finished
			p.finished.push(*j)
		}
	}
	p.sent = 0
	for j := later.pop(); j != nil; j = later.pop() {
		p.finished.push(j)
	}
	p.signal()
}

// acked lets go of answers that the balancer has safely taken.
func (p *pool) acked(tokens []uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, token := range tokens {
		p.forget(token)
	}
	if p.sent == 0 {
		p.signal() // the writer may be waiting to close
	}
}

// count tells how many jobs are held, those that were sent and not acknowledged
// included, and how many no handler has finished yet.
func (p *pool) count() (held, unfinished int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.jobs.Len(), p.running + p.waiting.len
}

// close makes goroutines leave as soon as they have no job.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.work.Broadcast()
}

// wait blocks, after close, until all goroutines have left. When limit fires, it
// no longer waits for those that are in a handler, and returns their number.
func (p *pool) wait(limit <-chan time.Time) (stuck int) {
	for timeUp := false; ; {
		p.mu.Lock()
		there, inHandler := p.goroutines, p.running
		p.mu.Unlock()
		if there == 0 || timeUp && there == inHandler {
			return inHandler
		}
		select {
		case <-p.left:
		case <-limit:
			timeUp = true
		}
	}
}
