package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
)

// lineRelay is what passing lines on costs and nothing else: a task goes to the
// next worker in turn, as it comes; a worker's answers go back in the order of its
// tasks. Nothing is checked, bounded, logged or given to another worker.
type lineRelay struct {
	turn    atomic.Uint64
	mu      sync.RWMutex
	workers []*relayWorker
}

type relayWorker struct {
	conn  net.Conn
	mu    sync.Mutex // so that owed is in the order of what was written
	owed  chan net.Conn
	lines []byte
}

// runTextRelay says where clients and workers are to connect.
func runTextRelay(ctx context.Context, _ config, tell say) error {
	var r lineRelay
	var doors []net.Listener
	for range 2 {
		address, err := freePort()
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
		r.mu.RLock()
		w := r.workers[r.turn.Add(1)%uint64(len(r.workers))]
		r.mu.RUnlock()
		if err := w.assign(conn, bytes.TrimPrefix(line, []byte("TASK"))); err != nil {
			return err
		}
	}
}

func (w *relayWorker) assign(client net.Conn, rest []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.owed <- client
	w.lines = append(append(w.lines[:0], "ASSIGN_TASK"...), rest...)
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
	w := &relayWorker{conn: conn, owed: make(chan net.Conn, 1<<16)}
	r.mu.Lock()
	r.workers = append(r.workers, w)
	r.mu.Unlock()
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		// TASK_RESULT becomes RESULT.
		if _, err := (<-w.owed).Write(bytes.TrimPrefix(line, []byte("TASK_"))); err != nil {
			return err
		}
	}
}
