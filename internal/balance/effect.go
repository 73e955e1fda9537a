package balance

import (
	"time"

	"reparto/internal/task"
)

// Kind is what an Effect asks for.
type Kind uint8

// The effects.
const (
	// Assign: send the session the task under Token.
	Assign Kind = iota + 1
	// CancelAssignment: tell the session that nobody wants Token any more.
	CancelAssignment
	// Finish: the task has its Outcome; Ref is no longer good.
	Finish
	// Replaced: the session was replaced by a newer one of the same worker and
	// has left; end its stream.
	Replaced
)

// Effect is something for the owner to do.
type Effect struct {
	Kind    Kind
	Session *Session     // Assign, CancelAssignment, Replaced
	Token   uint64       // Assign, CancelAssignment
	Attempt int          // Assign
	Reason  string       // CancelAssignment
	TaskID  string       // CancelAssignment, Finish
	Task    Work         // Assign
	Ref     Ref          // Finish
	Outcome task.Outcome // Finish
	// Waiter is that of the task, and a Finish is all that is left of both. It is
	// not set of a task that stays in the tables: see State.Waiter.
	Waiter Waiter
	// Durable says that it is about a durable task: carry it out only when the
	// changes up to now are written.
	Durable bool
}

// Work is what a worker must know of a task. It is a copy: the task may have its
// outcome, and its place in the tables another task, before an Assign is taken.
type Work struct {
	Function string
	Payload  []byte
	Metadata map[string]string
	Deadline time.Time
	// Absent says that payload and metadata are in the store alone.
	Absent bool
}

// Take returns the effects of the facts told since the last Take. The slice is
// good until the next fact.
func (s *State) Take() []Effect {
	effects := s.effects
	s.effects = s.effects[:0]
	if cap(s.effects) > maxPool {
		s.effects = nil // so that one long list is not remembered for ever
	}
	return effects
}
