package balance

// OwnerLimits bound what one owner may have without an outcome, waiting or
// running, durable or not. 0 means no bound of its own.
type OwnerLimits struct {
	Tasks int
	Bytes int // counted by task.Bytes
}

// LimitOwners sets what each owner may have: what is named, and for all others
// usual. What an owner has already beyond that, it keeps. Tasks without an owner
// are bounded by the queues alone.
func (s *State) LimitOwners(usual OwnerLimits, named map[string]OwnerLimits) {
	s.usual, s.limits = usual, named
}

// ownFull is the refusal of a task by its owner's limits.
func (s *State) ownFull(limit, owner string, most int) error {
	e := s.full(limit, owner, most)
	if !e.Own { // else others know it already, and nobody writes to it
		e.Own = true
	}
	return e
}

// holding is what one owner has without an outcome.
type holding struct {
	owner        string
	tasks, bytes int
}

// ownRoom checks the owner's own limits.
func (s *State) ownRoom(owner string, bytes int) error {
	l, named := s.limits[owner]
	if !named {
		l = s.usual
	}
	var has holding
	if h := s.owners[owner]; h != nil {
		has = *h
	}
	switch {
	case l.Tasks > 0 && has.tasks >= l.Tasks:
		return s.ownFull("tasks without an outcome of principal ", owner, l.Tasks)
	case l.Bytes > 0 && has.bytes+bytes > l.Bytes:
		return s.ownFull("bytes in tasks without an outcome of principal ", owner, l.Bytes)
	}
	return nil
}

// hold counts e among what its owner has, letGo does no more.
func (s *State) hold(e *entry) {
	if e.task.Owner == "" {
		return
	}
	h := s.owners[e.task.Owner]
	if h == nil {
		h = &holding{owner: e.task.Owner}
		s.owners[e.task.Owner] = h
	}
	e.holding = h
	h.tasks++
	h.bytes += e.bytes
}

func (s *State) letGo(e *entry) {
	h := e.holding
	if h == nil {
		return
	}
	e.holding = nil
	h.bytes -= e.bytes
	if h.tasks--; h.tasks == 0 {
		delete(s.owners, h.owner)
	}
}
