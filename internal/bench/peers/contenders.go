package main

// contenders are the systems that can run here, Reparto first.
func contenders() []contender {
	list := []contender{
		{"Reparto", func() system { return &reparto{} }, 1},
		{"JetStream, synced every 2 min", func() system { return &jetStream{} }, 1},
		{"JetStream, sync always", func() system { return &jetStream{sync: "always"} }, 10},
	}
	if installed(rabbitServer) {
		return append(list, contender{"RabbitMQ quorum queue", func() system { return &rabbitMQ{} }, 2})
	}
	complain("SKIPPED: RabbitMQ is not installed; apt-get install rabbitmq-server, or run as root with -install")
	return list
}
