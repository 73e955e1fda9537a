package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"

	"reparto/internal/freeport"
)

// lineRelay is what passing lines on costs and nothing else: the tasks go to the
// workers in turn, and a worker's answers back in the order of its tasks. Nothing is
// checked, bounded, logged or given to another worker.
type lineRelay struct {
	// most is how many tasks a worker is given before it has answered one. Old
	// workers take one at a time: what comes before their answer may be lost.
	most int

	mu      sync.Mutex
	free    []*relayWorker // who is next comes first
	waiting []relayTask    // while nobody is free
}

type relayTask struct {
	client net.Conn
	line   []byte // after its verb
}

type relayWorker struct {
	conn  net.Conn
	mu    sync.Mutex // so that owed is in the order of what was written
	owed  chan net.Conn
	lines []byte
}

// maxOwed is as good as no bound on what a worker is given ahead.
const maxOwed = 1 << 16

// lockStep is the kind of relay whose workers get one task at a time.
const lockStep = "lock-step"

// runTextRelay says where clients and workers are to connect.
func runTextRelay(ctx context.Context, c config, tell say) error {
	r := lineRelay{most: maxOwed}
	if c.Kind == lockStep {
		r.most = 1
	}
	var doors []net.Listener
	for range 2 {
		address, err := freeport.Find()
		if err != nil {
			return err
		}
		door, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		defer door.Close()
		doors = append(doors, door)
	}
	for i, serve := range []func(net.Conn) error{r.serveClient, r.serveWorker} {
		go func() { // ends with the process, as those within
			for {
				conn, err := doors[i].Accept()
				if err != nil {
					return
				}
				go func() {
					_ = serve(conn) // the peer has left
					_ = conn.Close()
				}()
			}
		}()
	}
	tell("listening", []string{doors[0].Addr().String(), doors[1].Addr().String()})
	<-ctx.Done()
	return nil
}

func (r *lineRelay) serveClient(conn net.Conn) error {
	in := bufio.NewReader(conn)
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		t := relayTask{conn, bytes.TrimPrefix(line, []byte("TASK"))}
		if w := r.place(t); w != nil {
			if err := w.assign(t); err != nil {
				return err
			}
		}
	}
}

// place returns a worker for the task, or has it wait.
func (r *lineRelay) place(t relayTask) *relayWorker {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.free) == 0 {
		t.line = bytes.Clone(t.line)
		r.waiting = append(r.waiting, t)
		return nil
	}
	w := r.free[0]
	r.free = r.free[1:]
	if r.most > 1 {
		r.free = append(r.free, w)
	}
	return w
}

// next returns what waits for the worker that has just answered, if anything.
func (r *lineRelay) next(w *relayWorker) (t relayTask) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.most > 1: // it never was anything but free
	case len(r.waiting) > 0:
		t = r.waiting[0]
		r.waiting = r.waiting[1:]
	default:
		r.free = append(r.free, w)
	}
	return t
}

func (w *relayWorker) assign(t relayTask) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.owed <- t.client
	w.lines = append(append(w.lines[:0], "ASSIGN_TASK"...), t.line...)
	_, err := w.conn.Write(w.lines)
	return err
}

func (r *lineRelay) serveWorker(conn net.Conn) error {
	in := bufio.NewReader(conn)
	line, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "ACK%s", bytes.TrimPrefix(line, []byte("REGISTER"))); err != nil {
		return err
	}
	w := &relayWorker{conn: conn, owed: make(chan net.Conn, maxOwed)}
	r.mu.Lock()
	r.free = append(r.free, w)
	r.mu.Unlock()
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		client := <-w.owed
		if t := r.next(w); t.client != nil {
			if err := w.assign(t); err != nil {
				return err
			}
		}
		// TASK_RESULT becomes RESULT.
		if _, err := client.Write(bytes.TrimPrefix(line, []byte("TASK_"))); err != nil {
			return err
		}
	}
}
