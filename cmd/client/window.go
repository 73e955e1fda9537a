package main

import (
	"sync"

	"reparto/client"
)

// window holds the tasks between the reading of their payload and the printing
// of their result, in order. It bounds how many there are, and their bytes.
// One goroutine calls add and finish, one calls next; settle and stop may come
// from anywhere.
type window struct {
	mu       sync.Mutex
	room     sync.Cond // for add
	ready    sync.Cond // for next
	ring     []entry
	head     uint64 // the first that is not printed
	tail     uint64 // the next to be added
	bytes    int
	maxBytes int
	finished bool // no more will be added
	stopped  bool // nobody wants the rest
}

// entry is a task. While it is under way its size is that of its payload, then
// that of its result.
type entry struct {
	id      string
	settled bool
	size    int
	out     client.Outcome
	err     error
}

func newWindow(tasks, bytes int) *window {
	w := &window{ring: make([]entry, tasks), maxBytes: bytes}
	w.room.L, w.ready.L = &w.mu, &w.mu
	return w
}

func (w *window) at(number uint64) *entry { return &w.ring[number%uint64(len(w.ring))] }

// add blocks until there is room for a task, and returns its number, from 0; or
// false when the window was stopped.
func (w *window) add(id string, size int) (number uint64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.stopped && w.tail > w.head && (w.tail-w.head >= uint64(len(w.ring)) || w.bytes+size > w.maxBytes) {
		w.room.Wait()
	}
	if w.stopped {
		return 0, false
	}
	number = w.tail
	*w.at(number) = entry{id: id, size: size}
	w.bytes += size
	w.tail++
	return number, true
}

// settle says how a task ended.
func (w *window) settle(number uint64, out client.Outcome, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.at(number)
	w.bytes += len(out.Result) - e.size
	e.settled, e.size, e.out, e.err = true, len(out.Result), out, err
	if number == w.head {
		w.ready.Signal()
	}
}

// finish says that there are no more tasks.
func (w *window) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.finished = true
	w.ready.Signal()
}

// stop lets go of everything that waits here.
func (w *window) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.room.Broadcast()
	w.ready.Broadcast()
}

// next appends to batch the tasks that are next in order and settled, at most a
// few hundred, and makes room in their place. With wait it blocks until there is
// one. more is false when there will be none.
func (w *window) next(batch []entry, wait bool) (_ []entry, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		if w.stopped {
			return batch, false
		}
		for w.head < w.tail && w.at(w.head).settled && len(batch) < cap(batch) {
			e := w.at(w.head)
			batch = append(batch, *e)
			w.bytes -= e.size
			*e = entry{}
			w.head++
		}
		if len(batch) > 0 {
			w.room.Signal()
			return batch, true
		}
		if w.finished && w.head == w.tail {
			return batch, false
		}
		if !wait {
			return batch, true
		}
		w.ready.Wait()
	}
}
