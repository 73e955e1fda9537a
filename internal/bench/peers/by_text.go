package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"strings"
	"time"
)

// openText is programs that speak the old text protocol: a connection for each
// task in flight, lock-step.
func openText(ctx context.Context, c config, _ told) (way, error) {
	type peer struct {
		net.Conn
		in *bufio.Reader
		n  int
	}
	peers := make([]peer, c.InFlight)
	for i := range peers {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.Address)
		if err != nil {
			return way{}, err
		}
		peers[i] = peer{Conn: conn, in: bufio.NewReader(conn)}
	}
	return way{
		call: func(_ context.Context, slot int, payload []byte) ([]byte, error) {
			p := &peers[slot]
			p.n++
			id := fmt.Sprintf("task_%08x", p.n)
			if _, err := fmt.Fprintf(p, "TASK|%s|%s\n", id, payload); err != nil {
				return nil, err
			}
			answer, err := p.in.ReadString('\n')
			if err != nil {
				return nil, err
			}
			result, ok := strings.CutPrefix(answer, "RESULT|"+id+"|")
			if !ok {
				return nil, fmt.Errorf("%q is not the result of %s", answer, id)
			}
			return []byte(strings.TrimSuffix(result, "\n")), nil
		},
		close: func() {
			for _, p := range peers {
				_ = p.Close()
			}
		},
	}, nil
}

// workText is a worker such as the old ones: one task at a time.
func workText(ctx context.Context, c config, ready func()) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.Address)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, err := fmt.Fprintf(conn, "REGISTER|worker_%s\n", rand.Text()[:8]); err != nil {
		return err
	}
	in := bufio.NewReader(conn)
	if ack, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(ack, "ACK|") {
		return fmt.Errorf("no ACK but %q: %w", ack, err)
	}
	spend(ctx, 200*time.Millisecond) // the balancer leaves a gap after the ACK
	ready()
	for {
		task, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		rest, ok := strings.CutPrefix(task, "ASSIGN_TASK|")
		if !ok {
			return fmt.Errorf("no task: %q", task)
		}
		spend(ctx, c.Takes)
		if _, err := conn.Write([]byte("TASK_RESULT|" + rest)); err != nil {
			return err
		}
	}
}
