package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"reparto/internal/bench/peers/gearman"
)

// openGearmanBlocking is what the common libraries do: a connection for each call
// in flight, on which one task goes and its result comes.
func openGearmanBlocking(ctx context.Context, c config, _ told) (way, error) {
	conns := make([]*gearman.Conn, c.InFlight)
	for i := range conns {
		var err error
		if conns[i], err = gearman.Dial(ctx, c.Address); err != nil {
			return way{}, err
		}
	}
	return way{
		call: func(_ context.Context, slot int, payload []byte) ([]byte, error) {
			conn := conns[slot]
			conn.Put(gearman.SubmitJob, []byte(function), nil, payload)
			if err := conn.Flush(); err != nil {
				return nil, err
			}
			for {
				p, err := conn.Next()
				if err != nil {
					return nil, err
				}
				if p.Kind == gearman.JobCreated {
					continue
				}
				_, result, err := completed(p)
				return result, err
			}
		},
		close: func() {
			for _, conn := range conns {
				_ = conn.Close()
			}
		},
	}, nil
}

func completed(p gearman.Packet) (handle string, result []byte, err error) {
	if p.Kind != gearman.WorkComplete {
		return "", nil, fmt.Errorf("gearmand sent a packet of kind %d", p.Kind)
	}
	args, err := p.Args(2)
	if err != nil {
		return "", nil, err
	}
	return string(args[0]), args[1], nil
}

// pipelined is one connection with many tasks in flight: those that wait leave in
// one write, and results are known by the handle that the server gave.
type pipelined struct {
	conn *gearman.Conn
	out  *queue[pipelinedTask]
	tell told

	mu      sync.Mutex
	unnamed []int          // slots that were sent and have no handle yet, in order
	slots   map[string]int // by handle
}

type pipelinedTask struct {
	slot    int
	payload []byte
}

func openGearmanPipelined(ctx context.Context, c config, tell told) (way, error) {
	conn, err := gearman.Dial(ctx, c.Address)
	if err != nil {
		return way{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	g := &pipelined{conn: conn, out: newQueue[pipelinedTask](), tell: tell, slots: map[string]int{}}
	var wg sync.WaitGroup
	both := func(do func() error) {
		wg.Go(func() {
			if err := do(); err != nil && ctx.Err() == nil {
				tell(-1, nil, err)
			}
		})
	}
	both(func() error { return g.out.drain(ctx, 1024, g.write) })
	both(g.read)
	return way{
		send: func(slot int, payload []byte) error {
			g.out.put(pipelinedTask{slot, payload})
			return nil
		},
		close: func() {
			cancel()
			_ = conn.Close()
			wg.Wait()
		},
	}, nil
}

func (g *pipelined) write(tasks []pipelinedTask) error {
	g.mu.Lock()
	for _, t := range tasks {
		g.unnamed = append(g.unnamed, t.slot)
	}
	g.mu.Unlock()
	for _, t := range tasks {
		g.conn.Put(gearman.SubmitJob, []byte(function), nil, t.payload)
	}
	return g.conn.Flush()
}

func (g *pipelined) read() error {
	for {
		p, err := g.conn.Next()
		if err != nil {
			return err
		}
		if p.Kind == gearman.JobCreated {
			g.mu.Lock()
			g.slots[string(p.Body)] = g.unnamed[0]
			g.unnamed = g.unnamed[1:]
			g.mu.Unlock()
			continue
		}
		handle, result, err := completed(p)
		if err != nil {
			return err
		}
		g.mu.Lock()
		slot, ok := g.slots[handle]
		delete(g.slots, handle)
		g.mu.Unlock()
		if !ok {
			return fmt.Errorf("gearmand answered %q, which nobody sent", handle)
		}
		g.tell(slot, result, nil)
	}
}

// grabber is a worker that has up to so many grabs out and tasks in hand. With
// one it is what the common libraries do.
type grabber struct {
	conn *gearman.Conn
	most int

	mu     sync.Mutex
	grabs  int // out
	inHand int
}

func workGearman(ctx context.Context, c config, most int, ready func()) error {
	conn, err := gearman.Dial(ctx, c.Address)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	w := &grabber{conn: conn, most: most}
	conn.Put(gearman.CanDo, []byte(function))
	w.mu.Lock()
	w.grab()
	w.mu.Unlock()
	if err := conn.Flush(); err != nil {
		return err
	}
	for {
		p, err := conn.Next()
		if err != nil {
			return err
		}
		ready()
		if err := w.take(ctx, p, c.Takes); err != nil {
			return err
		}
	}
}

// grab asks for as many tasks as there is room for. The caller holds w.mu.
func (w *grabber) grab() {
	for ; w.grabs+w.inHand < w.most; w.grabs++ {
		w.conn.Put(gearman.GrabJob)
	}
}

// take does what a packet asks for; what it answers leaves once no more packets
// have arrived already.
func (w *grabber) take(ctx context.Context, p gearman.Packet, takes time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch p.Kind {
	case gearman.Noop:
		w.grab()
	case gearman.NoJob:
		w.grabs--
		if w.grabs == 0 {
			w.conn.Put(gearman.PreSleep)
		}
	case gearman.JobAssign:
		args, err := p.Args(3)
		if err != nil {
			return err
		}
		w.grabs--
		w.inHand++
		if takes == 0 {
			w.finish(args[0], args[2])
			break
		}
		go func() { // ends with the task
			spend(ctx, takes)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.finish(args[0], args[2])
			_ = w.conn.Flush() // the reader finds the connection broken too
		}()
	default:
		return fmt.Errorf("gearmand sent a packet of kind %d", p.Kind)
	}
	if w.conn.Pending() {
		return nil
	}
	return w.conn.Flush()
}

// finish answers a task and grabs the next. The caller holds w.mu.
func (w *grabber) finish(handle, result []byte) {
	w.conn.Put(gearman.WorkComplete, handle, result)
	w.inHand--
	w.conn.Put(gearman.GrabJob)
	w.grabs++
}
