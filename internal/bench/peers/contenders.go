package main

import (
	"fmt"
	"os"
)

// all are the systems that can run here, Reparto first.
func all() []contender {
	list := []contender{
		{"Reparto", func() system { return &reparto{} }},
		{"JetStream, synced every 2 min", func() system { return &jetStream{} }},
		{"JetStream, sync always", func() system { return &jetStream{sync: "always"} }},
	}
	if rabbitInstalled() {
		return append(list, contender{"RabbitMQ quorum queue", func() system { return &rabbitMQ{} }})
	}
	fmt.Fprintln(os.Stderr, "SKIPPED: RabbitMQ is not installed (rabbitmq-server)")
	return list
}
