package main

import (
	"context"
	"strconv"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	rpcQueue = "rpc"
	replies  = "amq.rabbitmq.reply-to" // direct: no queue holds what is for it
	prefetch = 512                     // as many as Reparto's worker takes
)

// rpcChannel opens a channel with the queue of tasks: transient, in memory.
func rpcChannel(address string) (*amqp.Connection, *amqp.Channel, error) {
	conn, err := amqp.Dial(rabbitURL(address))
	if err != nil {
		return nil, nil, err
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, nil, err
	}
	_, err = ch.QueueDeclare(rpcQueue, false, false, false, false, nil)
	return conn, ch, err
}

// openRabbit publishes without confirms; the correlation id is the slot.
func openRabbit(ctx context.Context, c config, tell told) (way, error) {
	conn, ch, err := rpcChannel(c.Address)
	if err != nil {
		return way{}, err
	}
	deliveries, err := ch.Consume(replies, "", true, false, false, false, nil)
	if err != nil {
		return way{}, err
	}
	ended := make(chan struct{})
	go func() { // ends with the connection
		defer close(ended)
		for d := range deliveries {
			slot, err := strconv.Atoi(d.CorrelationId)
			if err != nil {
				slot = -1
			}
			tell(slot, d.Body, err)
		}
	}()
	return way{
		send: func(slot int, payload []byte) error {
			return ch.PublishWithContext(ctx, "", rpcQueue, false, false, amqp.Publishing{
				ReplyTo: replies, CorrelationId: strconv.Itoa(slot), Body: payload,
			})
		},
		close: func() {
			_ = conn.Close()
			<-ended
		},
	}, nil
}

func workRabbit(ctx context.Context, c config, ready func()) error {
	conn, ch, err := rpcChannel(c.Address)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := ch.Qos(prefetch, 0, false); err != nil {
		return err
	}
	deliveries, err := ch.Consume(rpcQueue, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	ready()
	answer := func(d amqp.Delivery) error {
		if err := ch.PublishWithContext(ctx, "", d.ReplyTo, false, false, amqp.Publishing{
			CorrelationId: d.CorrelationId, Body: d.Body,
		}); err != nil {
			return err
		}
		return d.Ack(false)
	}
	for d := range deliveries {
		if c.Takes == 0 {
			if err := answer(d); err != nil {
				return err
			}
			continue
		}
		go func() { // ends with the task
			spend(ctx, c.Takes)
			_ = answer(d) // a broken connection ends the deliveries too
		}()
	}
	return ctx.Err()
}
