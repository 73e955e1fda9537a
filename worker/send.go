package worker

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	pb "reparto/gen/reparto/v1"
)

// send is the stream's one writer. It sends what is ready, all of it together,
// and never waits for more.
func (s *session) send() {
	var f frame
	for {
		more, err := s.sendFrame(&f)
		if err != nil {
			if err != io.EOF { // with EOF, Recv knows more
				s.cancel(fmt.Errorf("send: %w", err))
			}
			return
		}
		if more {
			continue
		}
		if s.finishing.Load() {
			if held, _ := s.pool.count(); held == 0 {
				close(s.closed)
				_ = s.stream.CloseSend() // Recv tells of what may go wrong
				return
			}
		}
		select {
		case <-s.pool.ready:
		case <-s.ctx.Done():
			return
		}
	}
}

var (
	heartbeat = &pb.Heartbeat{}
	drain     = &pb.Drain{}
)

// sendFrame sends one frame of what is ready, and reports whether there was
// anything. What could not be sent stays with the pool.
func (s *session) sendFrame(f *frame) (sent bool, err error) {
	f.reset()
	s.pool.take(f, s.limits)
	if s.heartbeat.Swap(false) && f.empty() {
		f.pb.Heartbeat = heartbeat
	}
	if s.drain.Swap(false) {
		f.pb.Drain = drain
	}
	if f.empty() {
		return false, nil
	}
	if err := s.stream.Send(&f.pb); err != nil {
		s.pool.putBack(f)
		return false, err
	}
	s.lastSent.Store(int64(time.Since(s.started)))
	if s.log.Enabled(s.ctx, slog.LevelDebug) {
		for _, j := range f.jobs {
			s.log.Debug("result sent", "task_id", j.answer.GetTaskId())
		}
	}
	return true, nil
}
