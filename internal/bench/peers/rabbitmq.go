package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
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
	var err error
	if r.address, err = freePort(); err != nil {
		return err
	}
	r.dir = dir
	port := r.address[len("127.0.0.1:"):]
	r.server, err = spawn(dir, []string{
		"RABBITMQ_NODENAME=peers" + port + "@localhost", "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1", "RABBITMQ_NODE_PORT=" + port, "RABBITMQ_DIST_PORT=" + "3" + port[1:],
		"RABBITMQ_MNESIA_BASE=" + dir, "RABBITMQ_LOG_BASE=" + dir, "RABBITMQ_ENABLED_PLUGINS_FILE=" + dir + "/plugins",
		"RABBITMQ_PID_FILE=" + dir + "/pid", "HOME=" + dir,
	}, "/usr/lib/rabbitmq/bin/rabbitmq-server")
	if err != nil {
		return err
	}
	if err := dialled(ctx, r.address); err != nil {
		return err
	}
	for limit := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) { // it listens before it is ready
		if r.conn, err = amqp.Dial("amqp://guest:guest@" + r.address + "/"); err == nil {
			break
		}
		if time.Now().After(limit) {
			return err
		}
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
		p, lines, err := role(r.dir, "rabbitmq", r.address)
		if err != nil {
			return err
		}
		go func() { _, _ = io.Copy(io.Discard, lines) }()
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

func rabbitWorker(ctx context.Context, address string, ready io.Writer) error {
	conn, err := amqp.Dial("amqp://guest:guest@" + address + "/")
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
	fmt.Fprintln(ready, "ready")
	for d := range deliveries {
		if err := d.Ack(false); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func rabbitInstalled() bool {
	_, err := exec.LookPath("/usr/lib/rabbitmq/bin/rabbitmq-server")
	return err == nil
}
