package rpc

import (
	"time"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
)

// write sends what is ready, many outcomes a frame, until nothing more can come.
func (c *clientStream) write() error {
	if err := c.stream.Send(&pb.SubmitStreamResponse{Limits: c.s.clientLimits()}); err != nil {
		return err
	}
	var out []answer
	frame := &pb.SubmitStreamResponse{}
	for {
		var err error
		var done bool
		if out, done, err = c.take(out); done {
			return err
		}
		for rest := out; len(rest) > 0; {
			n := fitting(rest)
			c.fill(frame, rest[:n])
			if err := c.stream.Send(frame); err != nil {
				return err
			}
			for _, o := range frame.Outcomes {
				*o = pb.StreamOutcome{} // so that an idle stream holds no results
			}
			rest = rest[n:]
			c.moved()
		}
		clear(out)
	}
}

// take waits for answers and swaps them for the slice given. It is done when
// there will be none, with the status that the stream ends with.
func (c *clientStream) take(empty []answer) ([]answer, bool, error) {
	for {
		c.mu.Lock()
		c.sending = time.Time{}
		out, over := c.out, c.flights.Len() == 0
		switch {
		case len(out) > 0:
			c.out, c.outBytes = empty[:0], 0
			c.sending = time.Now()
			c.mu.Unlock()
			signal(c.room)
			return out, false, nil
		case over && c.eof:
			c.mu.Unlock()
			return nil, true, nil
		case over && c.draining:
			c.mu.Unlock()
			return nil, true, refuse(dispatch.ErrDraining)
		}
		c.mu.Unlock()
		signal(c.room)
		select {
		case <-c.ready:
		case <-c.stream.Context().Done():
			return nil, true, c.stream.Context().Err()
		}
	}
}

// moved notes that a frame has been sent, so that the next has its own time.
func (c *clientStream) moved() {
	c.mu.Lock()
	c.sending = time.Now()
	c.mu.Unlock()
}

// fitting tells how many answers fit in a frame; one larger one goes alone.
func fitting(answers []answer) int {
	size := 0
	for i := range answers {
		size += answers[i].size()
		if i == dispatch.MaxFrameTasks || (i > 0 && size > dispatch.MaxFrameBytes) {
			return i
		}
	}
	return len(answers)
}

// fill writes answers into a frame whose messages, which are empty, are used
// again.
func (c *clientStream) fill(frame *pb.SubmitStreamResponse, answers []answer) {
	had := frame.Outcomes[:cap(frame.Outcomes)]
	frame.Outcomes = frame.Outcomes[:0]
	for i := range answers {
		a := &answers[i]
		var o *pb.StreamOutcome
		if i < len(had) && had[i] != nil {
			o = had[i]
		} else {
			o = &pb.StreamOutcome{}
		}
		c.s.fillOutcome(o, a)
		frame.Outcomes = append(frame.Outcomes, o)
	}
}

func (s *taskService) outcome(a *answer) *pb.StreamOutcome {
	o := &pb.StreamOutcome{}
	s.fillOutcome(o, a)
	return o
}

func (s *taskService) fillOutcome(to *pb.StreamOutcome, a *answer) {
	to.Number, to.TaskId = a.number, a.id
	if a.err == nil {
		if r := noVerdict(&a.o); r != nil {
			a.err = r
		}
	}
	if a.err != nil {
		to.Error = frameError(a.err)
		return
	}
	to.Attempt, to.WorkerId = int32(a.o.Attempt), a.o.WorkerID
	s.log.sent(a.id)
	if to.Failure = failureToWire(a.o.Failure); to.Failure != nil {
		return
	}
	var ok bool
	if to.Text, ok = asText(a.text, a.o.Result); !ok {
		to.Result = a.o.Result
	}
}
