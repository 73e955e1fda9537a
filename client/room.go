package client

import (
	"bytes"
	"runtime"
	"slices"
)

// room bounds how much is under way. It belongs to Client.mu.
//
// There are two bounds. A caller outside waits until the tasks without an
// outcome, together with those whose done function has not returned, are fewer
// than the bound: so slow functions hold up those who submit, instead of filling
// memory. A done function that submits must not wait for done functions, so for
// it only the tasks without an outcome count; and it goes first.
type room struct {
	bound   int
	taken   int             // tasks without an outcome
	untold  int             // tasks with an outcome, whose function has not returned
	waiting []chan struct{} // in order; one that is closed has a place
	inside  []chan struct{} // likewise, for those within done functions
	opened  bool            // the Client is closed: everybody may come and see that
}

// enter takes a place and returns nil, or returns what to wait for.
func (r *room) enter(inside func() bool) chan struct{} {
	if r.opened || (len(r.waiting) == 0 && len(r.inside) == 0 && r.taken+r.untold < r.bound) {
		r.taken++
		return nil
	}
	turn := make(chan struct{})
	if inside() {
		r.inside = append(r.inside, turn)
	} else {
		r.waiting = append(r.waiting, turn)
	}
	r.pass()
	return turn
}

// leave gives a place back.
func (r *room) leave() {
	r.taken--
	r.pass()
}

// told notes that n functions have returned.
func (r *room) told(n int) {
	r.untold -= n
	r.pass()
}

// withdraw is for who does not want to wait any longer, and may have been given
// a place meanwhile.
func (r *room) withdraw(turn chan struct{}) {
	for _, queue := range []*[]chan struct{}{&r.waiting, &r.inside} {
		if i := slices.Index(*queue, turn); i >= 0 {
			*queue = slices.Delete(*queue, i, i+1)
			return
		}
	}
	r.leave()
}

// resize sets the bound. What is under way stays.
func (r *room) resize(bound int) {
	r.bound = bound
	r.pass()
}

// open lets everybody in.
func (r *room) open() {
	r.opened = true
	r.pass()
}

// pass gives free places to those who wait for one.
func (r *room) pass() {
	for len(r.inside) > 0 && (r.opened || r.taken < r.bound) {
		r.inside = r.admit(r.inside)
	}
	for len(r.waiting) > 0 && (r.opened || r.taken+r.untold < r.bound) {
		r.waiting = r.admit(r.waiting)
	}
}

func (r *room) admit(queue []chan struct{}) []chan struct{} {
	close(queue[0])
	queue[0] = nil
	r.taken++
	return queue[1:]
}

// goroutine is the number that the runtime gives the running goroutine. Nothing
// else tells a done function that submits from others that do; it is asked only
// where a caller would have to wait.
func goroutine() (id uint64) {
	var buf [64]byte
	trace, _ := bytes.CutPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	for _, digit := range trace {
		if digit < '0' || digit > '9' {
			break
		}
		id = id*10 + uint64(digit-'0')
	}
	return id
}
