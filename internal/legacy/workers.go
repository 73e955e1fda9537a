package legacy

import (
	"context"
	"errors"
	"log/slog"
	"net"

	"reparto/client"
)

// newcomer is a connection to the worker port that has not registered: all it
// can do is register.
type newcomer struct {
	a      *Adapter
	conn   net.Conn
	in     *reader
	number uint64
	remote string
	peer   *peerEntry
	log    *slog.Logger
}

// serveWorker serves one text worker until it is gone, ctx has ended and it has
// answered what it held, or hard ends.
func (a *Adapter) serveWorker(ctx, hard context.Context, conn net.Conn, balancer Balancer) {
	remote := conn.RemoteAddr().String()
	n := &newcomer{
		a: a, conn: conn, in: newReader(conn, &a.o), number: a.connNumber(), remote: remote,
		log: a.o.Log.With("remote", remote), peer: a.peers.enter(client.TextWorker, conn.RemoteAddr(), a.WorkerAddr()),
	}
	defer a.peers.leave(n.peer)
	n.log.Info("worker connected")
	s, err := n.register()
	if err == nil {
		err = s.serve(ctx, hard, balancer)
	}
	a.countEnd(err)
	switch {
	case err == nil, errors.Is(err, errStopped), peerGone(err):
		n.log.Info("worker disconnected")
	default:
		n.log.Warn("worker cut off", "error", err)
	}
}

// register waits for REGISTER and answers with ACK. It fails when the connection
// ends or the adapter drains first.
func (n *newcomer) register() (*workerSession, error) {
	n.a.workers.watch(n.in)
	defer n.a.workers.unwatch(n.in)
	for {
		line, err := n.in.next()
		if err != nil {
			return nil, err
		}
		m, err := parse(line)
		if err == nil && m.verb != verbRegister {
			err = errors.New("comes before REGISTER|worker_id")
		}
		if err != nil {
			n.a.malformed(n.log, line, err)
			continue
		}
		own := string(m.id)
		ack := appendShort(nil, verbAck, own)
		if err := writeLine(n.conn, n.a.o.WriteTimeout, ack); err != nil {
			return nil, err
		}
		n.a.n.registrations.Add(1)
		log := n.log.With("worker_id", loggable(own))
		log.Info("worker registered")
		return &workerSession{
			a: n.a, conn: n.conn, in: n.in, own: own, id: workerID(n.a.run, n.number, own, n.remote), log: log, peer: n.peer,
		}, nil
	}
}
