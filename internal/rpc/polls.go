package rpc

import (
	"context"
	"sync"
)

// polls are the calls that wait for something that may not come for minutes: a
// server that stops ends them. Its methods may be called concurrently.
type polls struct {
	mu    sync.Mutex
	over  bool
	under map[*context.CancelFunc]struct{}
}

// begin adds a call that end ends, at once when all have been ended already. The
// caller calls done when the call is over; done tells whether the call was, or
// would have been, ended.
func (p *polls) begin(end context.CancelFunc) (done func() (ended bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		end()
		return func() bool { return true }
	}
	if p.under == nil {
		p.under = map[*context.CancelFunc]struct{}{}
	}
	p.under[&end] = struct{}{}
	return func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.under, &end)
		return p.over
	}
}

// endAll ends the calls that wait, and every later one.
func (p *polls) endAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	for end := range p.under {
		(*end)()
	}
	p.under = nil
}
