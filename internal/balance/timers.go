package balance

import "time"

// timers is a binary heap of the entries by when they next want to be woken.
// Each entry knows its place (e.timer, from 1; 0 is none), so that it can be
// taken out of the middle. Tasks mostly share one timeout, so a new entry mostly
// belongs at the end and costs one comparison.
type timers []timer

type timer struct {
	wake  time.Time
	entry *entry
}

func (h *timers) set(e *entry, wake time.Time) {
	if e.timer == 0 {
		*h = append(*h, timer{wake, e})
		h.up(len(*h) - 1)
		return
	}
	i := e.timer - 1
	(*h)[i].wake = wake
	h.up(i)
	h.down(e.timer - 1)
}

func (h *timers) remove(e *entry) {
	if e.timer == 0 {
		return
	}
	i, last := e.timer-1, len(*h)-1
	moved := (*h)[last]
	(*h)[last] = timer{}
	*h = (*h)[:last]
	e.timer = 0
	if i == last {
		return
	}
	(*h)[i] = moved
	moved.entry.timer = i + 1
	h.up(i)
	h.down(moved.entry.timer - 1)
}

func (h timers) up(i int) {
	t := h[i]
	for i > 0 {
		parent := (i - 1) / 2
		if !t.wake.Before(h[parent].wake) {
			break
		}
		h.put(i, h[parent])
		i = parent
	}
	h.put(i, t)
}

func (h timers) down(i int) {
	t := h[i]
	for {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if child+1 < len(h) && h[child+1].wake.Before(h[child].wake) {
			child++
		}
		if !h[child].wake.Before(t.wake) {
			break
		}
		h.put(i, h[child])
		i = child
	}
	h.put(i, t)
}

func (h timers) put(i int, t timer) {
	h[i] = t
	t.entry.timer = i + 1
}
