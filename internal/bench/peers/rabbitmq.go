package main

import (
	"context"
	"errors"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// rabbitMQ is a quorum queue on one node, with publisher confirms. The server is
// the machine's own (Debian's package), started for each run.
type rabbitMQ struct {
	dir     string
	address string
	server  *process
	workers []*process
	conn    *amqp.Connection
	ch      *amqp.Channel
}

const rabbitQueue = "tasks"

func (r *rabbitMQ) start(ctx context.Context, dir string) error {
	r.dir = dir
	b, err := startRabbit(ctx, dir)
	if err != nil {
		return err
	}
	r.server, r.address = b.process, b.clients
	if r.conn, err = amqp.Dial(rabbitURL(r.address)); err != nil {
		return err
	}
	if r.ch, err = r.conn.Channel(); err != nil {
		return err
	}
	if err := r.ch.Confirm(false); err != nil {
		return err
	}
	_, err = r.ch.QueueDeclare(rabbitQueue, true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
	return err
}

func (r *rabbitMQ) enqueue(ctx context.Context, n, inFlight int, payload []byte) error {
	pending := make([]*amqp.DeferredConfirmation, inFlight)
	take := func(c *amqp.DeferredConfirmation) error {
		if c == nil {
			return nil
		}
		ok, err := c.WaitContext(ctx)
		if err == nil && !ok {
			err = errors.New("not confirmed")
		}
		return err
	}
	for i := range n {
		if err := take(pending[i%inFlight]); err != nil {
			return err
		}
		c, err := r.ch.PublishWithDeferredConfirmWithContext(ctx, "", rabbitQueue, false, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: payload})
		if err != nil {
			return err
		}
		pending[i%inFlight] = c
	}
	for i := range pending {
		if err := take(pending[(n+i)%inFlight]); err != nil {
			return err
		}
	}
	return nil
}

func (r *rabbitMQ) work(ctx context.Context, n, inFlight int, payload []byte) error {
	for range 3 - len(r.workers) {
		p, err := startWorker(r.dir, config{Role: "rabbitmq", Address: r.address})
		if err != nil {
			return err
		}
		r.workers = append(r.workers, p)
	}
	if err := r.enqueue(ctx, n, inFlight, payload); err != nil {
		return err
	}
	// The workers tell the queue itself, by acknowledging; a message that each of
	// them answers last would not: so the queue is asked, as its tools do.
	for {
		q, err := r.ch.QueueDeclarePassive(rabbitQueue, true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
		if err != nil || q.Messages == 0 {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

func (r *rabbitMQ) stop() {
	for _, w := range r.workers {
		w.end()
	}
	if r.conn != nil {
		_ = r.conn.Close()
	}
	r.server.end()
}

func rabbitWorker(ctx context.Context, c config, tell say) error {
	conn, err := amqp.Dial(rabbitURL(c.Address))
	if err != nil {
		return err
	}
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	if err := ch.Qos(2000, 0, false); err != nil {
		return err
	}
	deliveries, err := ch.Consume(rabbitQueue, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	tell("ready", nil)
	for d := range deliveries {
		if err := d.Ack(false); err != nil {
			return err
		}
	}
	return ctx.Err()
}
