package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// jetStream is NATS JetStream with file storage and a work queue, published to
// asynchronously: its fastest way.
type jetStream struct {
	sync    string // sync_interval, e.g. "always"; "" for its default
	dir     string
	address string
	server  *process
	workers []*process
	conn    *nats.Conn
	js      jetstream.JetStream
	stream  jetstream.Stream
}

func (j *jetStream) start(ctx context.Context, dir string) error {
	j.dir = dir
	conf := fmt.Sprintf("jetstream { store_dir: %q\n", dir)
	if j.sync != "" {
		conf += "sync_interval: " + j.sync + "\n"
	}
	b, err := startNATS(ctx, dir, conf+"}\n")
	if err != nil {
		return err
	}
	j.server, j.address = b.process, b.clients
	if j.conn, err = nats.Connect(j.address); err != nil {
		return err
	}
	if j.js, err = jetstream.New(j.conn, jetstream.WithPublishAsyncMaxPending(4096)); err != nil {
		return err
	}
	j.stream, err = j.js.CreateStream(ctx, jetstream.StreamConfig{
		Name: "TASKS", Subjects: []string{"tasks"}, Storage: jetstream.FileStorage, Retention: jetstream.WorkQueuePolicy,
	})
	return err
}

func (j *jetStream) enqueue(ctx context.Context, n, inFlight int, payload []byte) error {
	pending := make([]jetstream.PubAckFuture, inFlight)
	take := func(f jetstream.PubAckFuture) error {
		if f == nil {
			return nil
		}
		select {
		case <-f.Ok():
			return nil
		case err := <-f.Err():
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for i := range n {
		if err := take(pending[i%inFlight]); err != nil {
			return err
		}
		f, err := j.js.PublishAsync("tasks", payload)
		if err != nil {
			return err
		}
		pending[i%inFlight] = f
	}
	for i := range pending {
		if err := take(pending[(n+i)%inFlight]); err != nil {
			return err
		}
	}
	return nil
}

func (j *jetStream) work(ctx context.Context, n, inFlight int, payload []byte) error {
	if len(j.workers) == 0 {
		if _, err := j.stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
			Durable: "workers", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 65536,
		}); err != nil {
			return err
		}
	}
	for range 3 - len(j.workers) {
		p, err := startWorker(j.dir, config{Role: "jetstream", Address: j.address})
		if err != nil {
			return err
		}
		j.workers = append(j.workers, p)
	}
	if err := j.enqueue(ctx, n, inFlight, payload); err != nil {
		return err
	}
	for { // a work queue is empty when all is acknowledged
		info, err := j.stream.Info(ctx)
		if err != nil || info.State.Msgs == 0 {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

func (j *jetStream) stop() {
	for _, w := range j.workers {
		w.end()
	}
	if j.conn != nil {
		j.conn.Close()
	}
	j.server.end()
}

func jetStreamWorker(ctx context.Context, c config, tell say) error {
	conn, err := nats.Connect(c.Address)
	if err != nil {
		return err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	consumer, err := js.Consumer(ctx, "TASKS", "workers")
	if err != nil {
		return err
	}
	if _, err := consumer.Consume(func(m jetstream.Msg) { _ = m.Ack() }, jetstream.PullMaxMessages(2048)); err != nil {
		return err
	}
	tell("ready", nil)
	<-ctx.Done()
	return nil
}
