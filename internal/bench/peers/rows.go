package main

import (
	"context"
	"fmt"
	"time"
)

// row is one way through one system.
type row struct {
	name  string
	start starter
	craft string // of the workers
	way   string // of the client
	// texts says that it is measured at the old programs' numbers in flight.
	texts bool
}

// base is the row that the others are compared to.
const base = "Reparto, `Submit` of the SDK"

// raw is the craft of the relay's own workers.
const raw = "raw"

var (
	relayUnary  = row{"*bare relay, unary call*", startRelay, raw, "unary", false}
	relayFramed = row{"*bare relay, raw stream*", startRelay, raw, "framed", false}

	repartoUnary  = row{"Reparto, unary call", startDefault, "sdk", "unary", false}
	repartoFramed = row{"Reparto, raw stream", startDefault, "sdk", "framed", false}
	repartoSDK    = row{base, startDefault, "sdk", "sdk", false}
	repartoFunc   = row{"Reparto, `SubmitFunc` of the SDK", startDefault, "sdk", "sdk-func", false}
	repartoText   = row{"Reparto, text clients and workers", startText, "text", "text", true}

	gearmanLibrary = row{"gearmand, as libraries use it", startGearmand, "gearman-1", "gearman-blocking", false}
	gearmanBest    = row{"gearmand, pipelined, 64 grabs", startGearmand, "gearman-64", "gearman-pipelined", false}

	natsBlocking = row{"NATS, `Request`", startPlainNATS, "nats", "nats-blocking", false}
	natsAsync    = row{"NATS, own inbox, callback", startPlainNATS, "nats", "nats-async", false}

	rabbitRPC = row{"RabbitMQ, direct reply-to", startRabbit, "rabbitmq", "rabbitmq", false}
)

func startDefault(ctx context.Context, dir string) (broker, error) { return startBalancer(ctx, dir) }

func startPlainNATS(ctx context.Context, dir string) (broker, error) { return startNATS(ctx, dir, "") }

// point is under which circumstances a row is measured.
type point struct {
	Label    string
	InFlight int
	Size     int // bytes
	Workers  int
	Takes    time.Duration
	Texts    bool `json:",omitempty"` // for rows of texts only
}

// part is a table: rows measured at points.
type part struct {
	name, title, axis string
	rows              []row
	points            []point
}

var parts = []part{
	{
		"live", "a task of 9 bytes to one of 3 workers, and its result back", "tasks in flight",
		[]row{
			relayUnary, repartoUnary, relayFramed, repartoFramed, repartoSDK, repartoFunc, repartoText,
			gearmanLibrary, gearmanBest, natsBlocking, natsAsync, rabbitRPC,
		},
		[]point{
			{Label: "1", InFlight: 1, Size: 9, Workers: 3},
			{Label: "8", InFlight: 8, Size: 9, Workers: 3, Texts: true},
			{Label: "64", InFlight: 64, Size: 9, Workers: 3},
			{Label: "1024", InFlight: 1024, Size: 9, Workers: 3},
		},
	},
	{
		"payloads", "payloads of several sizes, 3 workers, 64 in flight (16 of 1 MiB)", "size of the payload",
		[]row{repartoSDK, repartoFunc, gearmanBest, natsAsync, rabbitRPC},
		[]point{
			{Label: "9 B", InFlight: 64, Size: 9, Workers: 3},
			{Label: "1 KiB", InFlight: 64, Size: 1 << 10, Workers: 3},
			{Label: "64 KiB", InFlight: 64, Size: 64 << 10, Workers: 3},
			{Label: "1 MiB", InFlight: 16, Size: 1 << 20, Workers: 3},
		},
	},
	{
		"workers", "several numbers of workers, each with a connection of its own; 9 bytes, 1024 in flight", "workers",
		[]row{repartoSDK, repartoFunc, gearmanLibrary, gearmanBest, natsAsync, rabbitRPC},
		[]point{
			{Label: "1", InFlight: 1024, Size: 9, Workers: 1},
			{Label: "3", InFlight: 1024, Size: 9, Workers: 3},
			{Label: "100", InFlight: 1024, Size: 9, Workers: 100},
			{Label: "1000", InFlight: 1024, Size: 9, Workers: 1000},
		},
	},
	{
		"slow", "tasks that take no time or 10 ms; 9 bytes, 3 workers, 1024 in flight", "time of a task",
		[]row{repartoSDK, repartoFunc, gearmanLibrary, gearmanBest, natsAsync, rabbitRPC},
		[]point{
			{Label: "0 ms", InFlight: 1024, Size: 9, Workers: 3},
			{Label: "10 ms", InFlight: 1024, Size: 9, Workers: 3, Takes: 10 * time.Millisecond},
		},
	},
}

// measures reports whether the row is measured at the point.
func (r row) measures(p point) bool {
	if r.texts {
		return p.Texts || p.InFlight == 64
	}
	return !p.Texts
}

// available leaves out the rows of what is not installed, and says so.
func available(rows []row) (here []row) {
	for _, r := range rows {
		program, pkg := "", ""
		switch r.craft {
		case "gearman-1", "gearman-64":
			program, pkg = gearmand, "gearman-job-server"
		case "rabbitmq":
			program, pkg = rabbitServer, "rabbitmq-server"
		}
		if program != "" && !installed(program) {
			complain("SKIPPED: %s: %s is not there; apt-get install %s, or run as root with -install", r.name, program, pkg)
			continue
		}
		here = append(here, r)
	}
	return here
}

func (p point) String() string {
	return fmt.Sprintf("%s (%d in flight, %d B, %d workers, %v)", p.Label, p.InFlight, p.Size, p.Workers, p.Takes)
}
