package balance

// shares are where the tasks of one function wait: apart for each owner, and the
// owners have turns, so that one with a hundred thousand tasks and one with ten
// get as many workers each. Priorities order the tasks of one owner.
//
// It is start-time fair queueing (Goyal, Vin and Cheng, 1996): each owner has a tag,
// the least goes first, and what it is given moves its tag on by what that costs.
// With small tasks alone that is taking turns, as in Nagle's "On Packet Switches with
// Infinite Storage" (RFC 970); a large payload costs as many turns as it is long.
type shares struct {
	byOwner map[string]*share
	last    *share // of who came last, who mostly comes again
	// Those with something waiting, in the order of their tags.
	first, final *share
	now          int64 // the tag of the one that went last
	load
}

// share is where one owner's tasks wait. It stays when it is empty.
type share struct {
	owner string
	lines
	tag        int64
	prev, next *share // among those with something waiting
}

// of returns the share of an owner, nil when there is none.
func (s *shares) of(owner string) *share {
	if s.last != nil && s.last.owner == owner {
		return s.last
	}
	return s.byOwner[owner]
}

func (s *shares) open(owner string) *share {
	h := s.of(owner)
	if h == nil {
		h = &share{owner: owner}
		if s.byOwner == nil {
			s.byOwner = map[string]*share{}
		}
		s.byOwner[owner] = h
	}
	s.last = h
	return h
}

// pushBack makes e wait behind all of its owner and priority.
func (s *shares) pushBack(e *entry) {
	h := s.open(e.task.Owner)
	h.pushBack(e)
	s.added(h, e)
}

// pushFront makes e wait before all of its owner and priority. An owner of whom
// nothing else waits has its turn at once: it had one for this task before.
func (s *shares) pushFront(e *entry) {
	h := s.open(e.task.Owner)
	h.pushFront(e)
	s.added(h, e)
	if h.len == 1 && s.first != h {
		s.unlink(h)
		h.tag = min(h.tag, s.first.tag)
		h.next, s.first.prev = s.first, h
		s.first = h
	}
}

// insert puts e where its rank belongs among those of its owner.
func (s *shares) insert(e *entry) {
	h := s.open(e.task.Owner)
	h.insert(e)
	s.added(h, e)
}

func (s *shares) added(h *share, e *entry) {
	e.share = h
	s.add(e, 1)
	if h.len == 1 {
		h.tag = max(h.tag, s.now) // who was away saves nothing up
		s.link(h)
	}
}

func (s *shares) remove(e *entry) {
	h := e.share
	e.share = nil
	h.remove(e)
	s.add(e, -1)
	if h.len == 0 {
		s.unlink(h)
	}
}

// link gives h its turn: behind all whose tags are no greater.
func (s *shares) link(h *share) {
	before := s.final
	for before != nil && before.tag > h.tag {
		before = before.prev
	}
	h.prev, h.next = before, s.first
	if before != nil {
		h.next = before.next
		before.next = h
	} else {
		s.first = h
	}
	if h.next != nil {
		h.next.prev = h
	} else {
		s.final = h
	}
}

func (s *shares) unlink(h *share) {
	if h.prev != nil {
		h.prev.next = h.next
	} else {
		s.first = h.next
	}
	if h.next != nil {
		h.next.prev = h.prev
	} else {
		s.final = h.prev
	}
	h.prev, h.next = nil, nil
}

// head returns the task to go next, or nil; of the queues in the set alone.
func (s *shares) head(set uint16) *entry {
	for h := s.first; h != nil; h = h.next {
		if e := h.head(set); e != nil {
			return e
		}
	}
	return nil
}

// turnBytes is how long a payload may be for the price of a turn.
const turnBytes = 64 << 10

// took says that e, which waits, is given out: its owner has had its turn, or as
// many as the payload is long.
func (s *shares) took(e *entry) { s.charge(e.share, e) }

// passed is took for a task that need not wait, since nothing does that could be
// given out: as if it had come and gone.
func (s *shares) passed(e *entry) {
	h := s.open(e.task.Owner)
	if h.len == 0 {
		h.tag = max(h.tag, s.now)
	}
	s.charge(h, e)
}

func (s *shares) charge(h *share, e *entry) {
	s.now = h.tag
	h.tag += 1 + int64(e.bytes/turnBytes)
	if h.len > 0 && h != s.final {
		s.unlink(h)
		s.link(h)
	}
}

// oldest returns the task that came first of those that wait, by rank.
func (s *shares) oldest() *entry {
	var best *entry
	for h := s.first; h != nil; h = h.next {
		if e := h.head(^uint16(0)); best == nil || e.before(best) {
			best = e
		}
	}
	return best
}

// owners counts those of whom something waits.
func (s *shares) owners() (n int) {
	for h := s.first; h != nil; h = h.next {
		n++
	}
	return n
}

// sort puts each owner's queues in order.
func (s *shares) sort(compare func(a, b *entry) int) {
	for h := s.first; h != nil; h = h.next {
		for i := range h.queues {
			h.queues[i].sort(compare)
		}
	}
}

// spare is how many times what is left of a limit one owner may have itself. So
// an owner alone can fill nine tenths of a queue, two of them 18/19 together, and
// there is always room for one who has little waiting. (Choudhury and Hahne,
// "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches", 1998.)
const spare = 9

// greedy reports whether an owner that has held of a limit, of which used is
// taken by all, must leave the rest to others. Where nobody is told apart, there
// are no others.
func greedy(owner string, held, used, limit int) bool {
	return owner != "" && held >= spare*(limit-used)
}
