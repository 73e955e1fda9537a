package balance

import "reparto/internal/task"

// Kind is what an Effect asks for.
type Kind uint8

// The effects.
const (
	// Assign: send the session the task under Token. Task points into the
	// State and is good until the next fact.
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
	Session *Session // Assign, CancelAssignment, Replaced
	Token   uint64   // Assign, CancelAssignment
	Attempt int      // Assign
	Reason  string   // CancelAssignment
	TaskID  string   // CancelAssignment, Finish
	Task    *task.Task
	Ref     Ref          // Finish
	Outcome task.Outcome // Finish
}

// Take returns the effects of the facts told since the last Take. The slice is
// good until the next fact.
func (s *State) Take() []Effect {
	effects := s.effects
	s.effects = s.effects[:0]
	return effects
}
