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

// lossy is the way of text clients that go on when a result does not come.
const lossy = "text-lossy"

// textPatience is how long such a client waits.
const textPatience = time.Second

// textPeer is an old program with a connection, lock-step.
type textPeer struct {
	net.Conn
	in *bufio.Reader
	n  int
}

func (p *textPeer) dial(ctx context.Context, address string) (err error) {
	if p.Conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", address); err == nil {
		p.in = bufio.NewReader(p.Conn)
	}
	return err
}

// openText has a connection for each task in flight.
func openText(ctx context.Context, c config, _ told) (way, error) {
	return textPeers(ctx, c, func(_ context.Context, p *textPeer, id string) ([]byte, error) {
		answer, err := p.in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		result, ok := strings.CutPrefix(answer, "RESULT|"+id+"|")
		if !ok {
			return nil, fmt.Errorf("%q is not the result of %s", answer, id)
		}
		return []byte(strings.TrimSuffix(result, "\n")), nil
	})
}

// openLossyText is openText for a balancer that loses results, or adds them to
// others: who has none for a while dials again.
func openLossyText(ctx context.Context, c config, _ told) (way, error) {
	return textPeers(ctx, c, func(ctx context.Context, p *textPeer, id string) ([]byte, error) {
		if err := p.SetReadDeadline(time.Now().Add(textPatience)); err != nil {
			return nil, err
		}
		for {
			answer, err := p.in.ReadString('\n')
			if err != nil {
				_ = p.Close()
				if err := p.dial(ctx, c.Address); err != nil {
					return nil, err
				}
				return nil, errLost
			}
			if result, ok := strings.CutPrefix(answer, "RESULT|"+id+"|"); ok {
				return []byte(strings.TrimSuffix(result, "\n")), nil
			}
		}
	})
}

func textPeers(ctx context.Context, c config, wait func(context.Context, *textPeer, string) ([]byte, error)) (way, error) {
	peers := make([]textPeer, c.InFlight)
	for i := range peers {
		if err := peers[i].dial(ctx, c.Address); err != nil {
			return way{}, err
		}
	}
	return way{
		call: func(ctx context.Context, slot int, payload []byte) ([]byte, error) {
			p := &peers[slot]
			p.n++
			id := fmt.Sprintf("task_%08x", slot<<24|p.n) // no two clients share one
			if _, err := fmt.Fprintf(p, "TASK|%s|%s\n", id, payload); err != nil {
				return nil, err
			}
			return wait(ctx, p, id)
		},
		close: func() {
			for i := range peers {
				_ = peers[i].Close()
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
