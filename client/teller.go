package client

import "sync"

// teller calls the functions that SubmitFunc was given, one after the other,
// away from the goroutines that keep the stream going: so a function that waits
// for room in SubmitFunc waits for something that goes on.
type teller struct {
	wake    chan struct{}
	running sync.WaitGroup

	mu     sync.Mutex
	opened bool
	closed bool
	over   []*call
}

// open starts the teller, if it was not.
func (t *teller) open() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.opened {
		t.opened = true
		t.running.Go(t.run)
	}
}

// close waits until everything has been told.
func (t *teller) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	signal(t.wake)
	t.running.Wait()
}

func (t *teller) put(k *call) {
	t.mu.Lock()
	t.over = append(t.over, k)
	t.mu.Unlock()
	signal(t.wake)
}

func (t *teller) run() {
	var over []*call
	for {
		t.mu.Lock()
		over, t.over = t.over, over[:0]
		closed := t.closed
		t.mu.Unlock()
		for _, k := range over {
			k.unwatch()
			k.fn(k.out, k.err)
		}
		if len(over) == 0 {
			if closed {
				return
			}
			<-t.wake
		}
		clear(over)
	}
}
