package balance

import "slices"

// queue is a list of entries that wait, first in, first out. The links are the
// entries' own, so that joining, leaving from the middle and going back to the
// head cost no allocation.
type queue struct {
	head, tail *entry
	len        int
	bytes      int
}

func (q *queue) pushBack(e *entry) {
	e.prev, e.next = q.tail, nil
	if q.tail != nil {
		q.tail.next = e
	} else {
		q.head = e
	}
	q.tail = e
	q.added(e)
}

func (q *queue) pushFront(e *entry) {
	e.prev, e.next = nil, q.head
	if q.head != nil {
		q.head.prev = e
	} else {
		q.tail = e
	}
	q.head = e
	q.added(e)
}

// insertBefore puts e before another entry of the list, or at its end.
func (q *queue) insertBefore(e, at *entry) {
	switch at {
	case nil:
		q.pushBack(e)
	case q.head:
		q.pushFront(e)
	default:
		e.prev, e.next = at.prev, at
		at.prev.next = e
		at.prev = e
		q.added(e)
	}
}

// sort puts the entries in order.
func (q *queue) sort(compare func(a, b *entry) int) {
	all := make([]*entry, 0, q.len)
	for e := q.head; e != nil; e = e.next {
		all = append(all, e)
	}
	slices.SortFunc(all, compare)
	*q = queue{}
	for _, e := range all {
		q.pushBack(e)
	}
}

func (q *queue) added(e *entry) {
	q.len++
	q.bytes += e.bytes
}

func (q *queue) remove(e *entry) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		q.head = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		q.tail = e.prev
	}
	e.prev, e.next = nil, nil
	q.len--
	q.bytes -= e.bytes
}
