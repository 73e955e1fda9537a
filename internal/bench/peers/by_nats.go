package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const natsSubject = "tasks"

func openNATSBlocking(_ context.Context, c config, _ told) (way, error) {
	conn, err := nats.Connect(c.Address)
	if err != nil {
		return way{}, err
	}
	return way{
		call: func(_ context.Context, _ int, payload []byte) ([]byte, error) {
			m, err := conn.Request(natsSubject, payload, time.Minute)
			if err != nil {
				return nil, err
			}
			return m.Data, nil
		},
		close: conn.Close,
	}, nil
}

// openNATSAsync publishes with an inbox of its own, whose last token is the slot.
func openNATSAsync(_ context.Context, c config, tell told) (way, error) {
	conn, err := nats.Connect(c.Address)
	if err != nil {
		return way{}, err
	}
	inbox := nats.NewInbox() + "."
	sub, err := conn.Subscribe(inbox+"*", func(m *nats.Msg) {
		slot, err := strconv.Atoi(strings.TrimPrefix(m.Subject, inbox))
		if err != nil {
			slot = -1
		}
		tell(slot, m.Data, err)
	})
	if err != nil {
		return way{}, err
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return way{}, err
	}
	return way{
		send: func(slot int, payload []byte) error {
			return conn.PublishRequest(natsSubject, inbox+strconv.Itoa(slot), payload)
		},
		close: conn.Close,
	}, nil
}

func workNATS(ctx context.Context, c config, ready func()) error {
	conn, err := nats.Connect(c.Address)
	if err != nil {
		return err
	}
	defer conn.Close()
	failed := make(chan error, 1)
	respond := func(m *nats.Msg) {
		if err := m.Respond(m.Data); err != nil {
			select {
			case failed <- err:
			default:
			}
		}
	}
	sub, err := conn.QueueSubscribe(natsSubject, "workers", func(m *nats.Msg) {
		if c.Takes == 0 {
			respond(m)
			return
		}
		go func() { // ends with the task
			spend(ctx, c.Takes)
			respond(m)
		}()
	})
	if err != nil {
		return err
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return err
	}
	if err := conn.Flush(); err != nil {
		return err
	}
	ready()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}
