package worker

// list is a queue of jobs from whose middle one can be taken.
type list struct {
	first, last *job
	len         int
}

func (l *list) push(j *job) {
	j.prev, j.next = l.last, nil
	if l.last == nil {
		l.first = j
	} else {
		l.last.next = j
	}
	l.last = j
	l.len++
}

func (l *list) pop() *job {
	j := l.first
	if j != nil {
		l.remove(j)
	}
	return j
}

func (l *list) remove(j *job) {
	if j.prev == nil {
		l.first = j.next
	} else {
		j.prev.next = j.next
	}
	if j.next == nil {
		l.last = j.prev
	} else {
		j.next.prev = j.prev
	}
	j.prev, j.next = nil, nil
	l.len--
}
