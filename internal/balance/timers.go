package balance

import "time"

// timers is a binary heap of the entries by when they next want to be woken.
// Each entry knows its place (e.timer, from 1; 0 is none), so that it can be
// taken out of the middle. Tasks mostly share one timeout, so a new entry mostly
// belongs at the end and costs one comparison.
//
// Most tasks are over long before their time is up. One that is taken out leaves its
// place empty, and when half of all places are empty, all of them go at once: so
// it costs a few steps in the mean, and not a walk through the heap.
type timers struct {
	heap  []timer
	empty int // places in heap
}

type timer struct {
	wake  time.Time
	entry *entry // nil: the place is empty
}

// len is how many entries want to be woken.
func (h *timers) len() int { return len(h.heap) - h.empty }

// next tells when somebody wants to be woken at the soonest: nobody does before then.
func (h *timers) next() (wake time.Time, ok bool) {
	if len(h.heap) == 0 {
		return time.Time{}, false
	}
	return h.heap[0].wake, true
}

// due returns an entry that wants to be woken by now, the soonest first, or nil.
func (h *timers) due(now time.Time) *entry {
	for len(h.heap) > 0 && !h.heap[0].wake.After(now) {
		if e := h.heap[0].entry; e != nil {
			return e
		}
		last := len(h.heap) - 1
		h.put(0, h.heap[last])
		h.heap[last] = timer{}
		h.heap = h.heap[:last]
		h.empty--
		if last > 0 {
			h.down(0)
		}
	}
	return nil
}

// at is when e wants to be woken; zero when it does not.
func (h *timers) at(e *entry) time.Time {
	if e.timer == 0 {
		return time.Time{}
	}
	return h.heap[e.timer-1].wake
}

func (h *timers) set(e *entry, wake time.Time) {
	if e.timer == 0 {
		h.heap = append(h.heap, timer{wake, e})
		h.up(len(h.heap) - 1)
		return
	}
	i := int(e.timer - 1)
	h.heap[i].wake = wake
	h.up(i)
	h.down(int(e.timer - 1))
}

func (h *timers) remove(e *entry) {
	if e.timer == 0 {
		return
	}
	h.heap[e.timer-1].entry = nil
	e.timer = 0
	if h.empty++; h.empty > len(h.heap)/2 {
		h.sweep()
	}
}

// sweep takes the empty places out.
func (h *timers) sweep() {
	left := h.heap[:0]
	for _, t := range h.heap {
		if t.entry != nil {
			left = append(left, t)
			t.entry.timer = int32(len(left))
		}
	}
	clear(h.heap[len(left):])
	h.heap, h.empty = left, 0
	for i := len(left)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

func (h *timers) up(i int) {
	t := h.heap[i]
	for i > 0 {
		parent := (i - 1) / 2
		if !t.wake.Before(h.heap[parent].wake) {
			break
		}
		h.put(i, h.heap[parent])
		i = parent
	}
	h.put(i, t)
}

func (h *timers) down(i int) {
	t, at := h.heap[i], i
	for {
		child := 2*i + 1
		if child >= len(h.heap) {
			break
		}
		if child+1 < len(h.heap) && h.heap[child+1].wake.Before(h.heap[child].wake) {
			child++
		}
		if !h.heap[child].wake.Before(t.wake) {
			break
		}
		h.put(i, h.heap[child])
		i = child
	}
	if i != at {
		h.put(i, t)
	}
}

func (h *timers) put(i int, t timer) {
	h.heap[i] = t
	if t.entry != nil {
		t.entry.timer = int32(i + 1)
	}
}
