package worker

import (
	pb "reparto/gen/reparto/v1"
)

// limits are what the balancer takes.
type limits struct {
	payload    int // bytes of a result
	frameTasks int
	frameBytes int
}

func limitsOf(l *pb.WorkerLimits) limits {
	message := orDefault(l.GetMaxMessageBytes(), defaultMaxMessage)
	return limits{
		payload:    orDefault(l.GetMaxPayloadBytes(), defaultMaxPayload),
		frameTasks: min(orDefault(int64(l.GetMaxFrameTasks()), defaultFrameTasks), defaultFrameTasks),
		frameBytes: min(maxFrameBytes, message),
	}
}

func orDefault(n int64, or int) int {
	if n <= 0 {
		return or
	}
	return int(n)
}

// frame is a WorkRequest that is used again and again, and the jobs whose
// answers are in it.
type frame struct {
	pb   pb.WorkRequest
	jobs []*job
}

func (f *frame) reset() {
	results, progress := f.pb.TaskResults, f.pb.Progress
	clear(results)
	clear(progress)
	clear(f.jobs)
	f.pb.TaskResults, f.pb.Progress = results[:0], progress[:0]
	f.pb.Heartbeat, f.pb.Drain = nil, nil
	f.jobs = f.jobs[:0]
}

func (f *frame) empty() bool {
	return len(f.pb.TaskResults) == 0 && len(f.pb.Progress) == 0 && f.pb.Heartbeat == nil && f.pb.Drain == nil
}

// take moves answers into the frame, as many as are there and fit, then progress
// of what still runs. What was taken takes no room any more: once it is on the
// wire the balancer may give out the slot before the writer is back. It is kept
// until it is acknowledged, where the balancer does that.
func (p *pool) take(f *frame, lim limits) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return
	}
	size := 0
	for j := p.finished.first; j != nil && len(f.jobs) < lim.frameTasks; j = p.finished.first {
		if len(j.answer.Result) > lim.payload {
			j.answer.Failure = resultTooLarge(len(j.answer.Result), lim.payload)
			j.answer.Result = nil
		}
		size += answerBytes(&j.answer)
		if size > lim.frameBytes && len(f.jobs) > 0 {
			return
		}
		p.finished.remove(j)
		if p.keeps {
			j.state = sent
			p.sent++
		} else {
			p.jobs.Remove(j.answer.Token)
		}
		f.jobs = append(f.jobs, j)
		f.pb.TaskResults = append(f.pb.TaskResults, &j.answer)
	}
	p.takeProgress(f, lim, size)
}

// putBack undoes take for a frame that could not be sent.
func (p *pool) putBack(f *frame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	later := p.finished
	p.finished = list{}
	for _, j := range f.jobs {
		p.forget(j.answer.Token)
		*p.jobs.Add(j.answer.Token) = j
		j.state = finished
		p.finished.push(j)
	}
	for j := later.pop(); j != nil; j = later.pop() {
		p.finished.push(j)
	}
}

// answerBytes is an upper bound of what an answer takes in a frame.
func answerBytes(a *pb.TaskResult) int {
	n := len(a.TaskId) + len(a.Result) + 48
	if f := a.Failure; f != nil {
		n += len(f.Reason) + len(f.Message) + 40
	}
	return n
}
