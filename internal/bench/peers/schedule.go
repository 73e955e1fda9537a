package main

import (
	"math/rand/v2"
	"time"
)

// schedule says when tasks of an open loop are due: at a rate, as independent
// arrivals (Poisson), whatever becomes of those before.
type schedule struct {
	mean   time.Duration // between two
	random *rand.Rand
	next   time.Duration // after the start
}

func newSchedule(rate float64, random *rand.Rand) *schedule {
	s := &schedule{mean: time.Duration(float64(time.Second) / rate), random: random}
	s.advance()
	return s
}

func (s *schedule) advance() {
	s.next += time.Duration(s.random.ExpFloat64() * float64(s.mean))
}

// due returns the next task's time if it has come. Time goes by as elapsed; a
// caller that is late gets all that it missed, each with the time that it had.
func (s *schedule) due(elapsed time.Duration) (time.Duration, bool) {
	if s.next > elapsed {
		return 0, false
	}
	at := s.next
	s.advance()
	return at, true
}
