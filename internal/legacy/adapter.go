package legacy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

// Adapter serves the text protocol. It is made by Listen, and must be closed by
// running Serve to its end or by Close.
type Adapter struct {
	o       Options
	run     string
	clients *port // nil when off
	workers *port // nil when off
	n       counters
	peers   *peerTable

	conns  atomic.Uint64 // numbers connections
	served atomic.Bool
}

// Listen binds the ports that o names, and does not accept from them before
// Serve. The error names the option or the address that is wrong.
func Listen(o Options) (*Adapter, error) {
	o, err := o.validate()
	if err != nil {
		return nil, fmt.Errorf("text protocol: %w", err)
	}
	a := &Adapter{o: o, run: runName(), peers: newPeerTable(o.MaxPeers)}
	if a.clients, err = listen(o, o.ClientAddress, "clients"); err != nil {
		return nil, err
	}
	if a.workers, err = listen(o, o.WorkerAddress, "workers"); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// ClientAddr returns where clients connect, nil when that port is off.
func (a *Adapter) ClientAddr() net.Addr { return a.clients.addr() }

// WorkerAddr returns where workers connect, nil when that port is off.
func (a *Adapter) WorkerAddr() net.Addr { return a.workers.addr() }

// Counters returns what has been counted so far. It may be called at any time.
func (a *Adapter) Counters() Counters { return a.n.snapshot() }

// Close stops listening. It is for an adapter that is never served; Serve does
// it by itself.
func (a *Adapter) Close() error { return errors.Join(a.clients.close(), a.workers.close()) }

// Serve serves both ports over conn, which stays the caller's, and blocks until
// ctx ends; it can be called once. Then it accepts and reads no more: clients
// get the results of what they have under way, workers finish what they have,
// for at most DrainTimeout; tasks that are left are answered with an ERROR, and
// workers that are left are cut off, so that the balancer gives their tasks to
// others. When Serve returns, nothing of it runs any more. It returns nil
// unless it was called twice.
//
// A balancer that can't be reached ends nothing: workers are registered when it
// comes back, and tasks are submitted as package client does it.
func (a *Adapter) Serve(ctx context.Context, conn grpc.ClientConnInterface) error {
	b := a.overGRPC(conn)
	defer func() { _ = b.sdk.Close() }() // conn is the caller's: there is nothing to fail
	return a.ServeFor(ctx, b, conn)
}

// ServeFor is Serve for any balancer. Who speaks the text protocol is reported over
// conn.
func (a *Adapter) ServeFor(ctx context.Context, balancer Balancer, conn grpc.ClientConnInterface) error {
	if a.served.Swap(true) {
		return errors.New("text protocol: Serve was called twice")
	}
	// What drains outlives ctx, and ends with hard.
	hard, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer a.reportPeers(ctx, conn)()

	var wg sync.WaitGroup
	a.clients.serve(ctx, &wg, &a.n.openClients, &a.n.refused, func(peer net.Conn) {
		a.n.clientConnections.Add(1)
		a.serveClient(hard, peer, balancer)
	})
	a.workers.serve(ctx, &wg, &a.n.openWorkers, &a.n.refused, func(peer net.Conn) {
		a.n.workerConnections.Add(1)
		a.serveWorker(ctx, hard, peer, balancer)
	})

	<-ctx.Done()
	_ = a.Close() // listeners: what fails to close does not accept either
	a.clients.drain()
	a.workers.drain()
	timer := time.AfterFunc(max(a.o.DrainTimeout, 0), cut)
	defer timer.Stop()
	wg.Wait()
	return nil
}

// connNumber numbers a connection, for ids and logs.
func (a *Adapter) connNumber() uint64 { return a.conns.Add(1) }
