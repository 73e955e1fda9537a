package main

import (
	"context"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"reparto/client"
	"reparto/worker"
)

// reparto is the balancer with its store in a directory, by the SDK: a goroutine
// that blocks for each task in flight.
type reparto struct {
	dir     string
	address string
	server  *process
	workers []*process
	client  *client.Client
}

func (r *reparto) start(ctx context.Context, dir string) error {
	r.dir = dir
	b, err := startBalancer(ctx, dir)
	if err != nil {
		return err
	}
	r.server, r.address = b.process, b.clients
	r.client, err = client.Dial(r.address)
	return err
}

func (r *reparto) each(n, inFlight int, do func() error) error {
	var left atomic.Int64
	left.Store(int64(n))
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for range inFlight {
		wg.Go(func() {
			for left.Add(-1) >= 0 && failed.Load() == nil {
				if err := do(); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (r *reparto) enqueue(ctx context.Context, n, inFlight int, payload []byte) error {
	return r.each(n, inFlight, func() error {
		_, err := r.client.Enqueue(ctx, client.DurableTask{Function: "kept", Payload: payload})
		return err
	})
}

func (r *reparto) work(ctx context.Context, n, inFlight int, payload []byte) error {
	for range 3 - len(r.workers) {
		p, err := startWorker(r.dir, config{Role: "reparto", Address: r.address})
		if err != nil {
			return err
		}
		r.workers = append(r.workers, p)
	}
	ids := make(chan string, inFlight)
	var last sync.WaitGroup
	var failed error
	last.Go(func() { // the last of them being done, and all before
		for id := range ids {
			if _, err := r.client.Wait(ctx, id); err != nil {
				failed = err
			}
		}
	})
	var count atomic.Int64
	err := r.each(n, inFlight, func() error {
		id, err := r.client.Enqueue(ctx, client.DurableTask{Function: "echo", Payload: payload})
		if count.Add(1) > int64(n-inFlight) { // those before were queued before, and go first
			ids <- id
		}
		return err
	})
	close(ids)
	last.Wait()
	if err == nil {
		err = failed
	}
	return err
}

func (r *reparto) stop() {
	for _, w := range r.workers {
		w.end()
	}
	if r.client != nil {
		r.client.Close()
	}
	r.server.end()
}

func repartoWorker(ctx context.Context, c config, tell say) error {
	conn, err := grpc.NewClient(c.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	return worker.Run(ctx, conn, worker.Handlers{
		"echo": func(_ context.Context, t worker.Task) ([]byte, error) { return t.Payload, nil },
	}, worker.Options{OnRegistered: func(worker.Registration) { tell("ready", nil) }})
}
