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
}

// base is the row that the others of most parts are compared to.
const base = "Reparto, `Submit` of the SDK"

// raw is the craft of the relay's own workers.
const raw = "raw"

var (
	relayUnary  = row{"*bare relay, unary call*", startRelay, raw, "unary"}
	relayFramed = row{"*bare relay, raw stream*", startRelay, raw, "framed"}
	relayCalls  = row{"*bare relay, raw stream, blocking calls*", startRelay, raw, "framed-blocking"}

	repartoUnary  = row{"Reparto, unary call", startDefault, "sdk", "unary"}
	repartoFramed = row{"Reparto, raw stream", startDefault, "sdk", "framed"}
	repartoSDK    = row{base, startDefault, "sdk", "sdk"}
	repartoFunc   = row{"Reparto, `SubmitFunc` of the SDK", startDefault, "sdk", "sdk-func"}

	textRelay   = row{"*bare text relay*", startTextRelay, "text", "text"}
	textSteps   = row{"*bare text relay, one task at a time*", startTextSteps, "text", "text"}
	textReparto = row{"Reparto", startText, "text", "text"}
	textModel   = row{"*Python, like the old one*", startTextModel, "text", lossy}
	textLines   = row{"*Python, but takes lines apart*", startTextLines, "text", lossy}

	gearmanLibrary = row{"gearmand, as libraries use it", startGearmand, "gearman-1", "gearman-blocking"}
	gearmanBest    = row{"gearmand, pipelined, 64 grabs", startGearmand, "gearman-64", "gearman-pipelined"}

	natsBlocking = row{"NATS, `Request`", startPlainNATS, "nats", "nats-blocking"}
	natsAsync    = row{"NATS, own inbox, callback", startPlainNATS, "nats", "nats-async"}

	rabbitRPC = row{"RabbitMQ, direct reply-to", startRabbit, "rabbitmq", "rabbitmq"}
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
}

// part is a table: rows measured at points.
type part struct {
	name, title, axis string
	base              string // the row that the others are compared to
	rows              []row
	points            []point
}

var parts = []part{
	{
		"live", "a task of 9 bytes to one of 3 workers, and its result back", "tasks in flight", base,
		[]row{
			relayUnary, repartoUnary, relayCalls, repartoSDK, relayFramed, repartoFramed, repartoFunc,
			gearmanLibrary, gearmanBest, natsBlocking, natsAsync, rabbitRPC,
		},
		[]point{
			{Label: "1", InFlight: 1, Size: 9, Workers: 3},
			{Label: "64", InFlight: 64, Size: 9, Workers: 3},
			{Label: "1024", InFlight: 1024, Size: 9, Workers: 3},
		},
	},
	{
		"text", "text clients, each a connection that waits for its result, and 3 text workers; 9 bytes", "clients", textLines.name,
		[]row{textRelay, textSteps, textReparto, textModel, textLines},
		[]point{
			{Label: "8", InFlight: 8, Size: 9, Workers: 3},
			{Label: "64", InFlight: 64, Size: 9, Workers: 3},
		},
	},
	{
		"payloads", "payloads of several sizes, 3 workers, 64 in flight (16 of 1 MiB)", "size of the payload", base,
		[]row{relayFramed, repartoSDK, repartoFunc, gearmanBest, natsAsync, rabbitRPC},
		[]point{
			{Label: "9 B", InFlight: 64, Size: 9, Workers: 3},
			{Label: "1 KiB", InFlight: 64, Size: 1 << 10, Workers: 3},
			{Label: "64 KiB", InFlight: 64, Size: 64 << 10, Workers: 3},
			{Label: "1 MiB", InFlight: 16, Size: 1 << 20, Workers: 3},
		},
	},
	{
		"workers", "several numbers of workers, each with a connection of its own; 9 bytes, 1024 in flight", "workers", base,
		[]row{relayFramed, repartoSDK, repartoFunc, gearmanLibrary, gearmanBest, natsAsync, rabbitRPC},
		[]point{
			{Label: "1", InFlight: 1024, Size: 9, Workers: 1},
			{Label: "3", InFlight: 1024, Size: 9, Workers: 3},
			{Label: "100", InFlight: 1024, Size: 9, Workers: 100},
			{Label: "1000", InFlight: 1024, Size: 9, Workers: 1000},
		},
	},
	{
		"slow", "tasks that take no time or 10 ms; 9 bytes, 3 workers, 1024 in flight", "time of a task", base,
		[]row{repartoSDK, repartoFunc, gearmanLibrary, gearmanBest, natsAsync, rabbitRPC},
		[]point{
			{Label: "0 ms", InFlight: 1024, Size: 9, Workers: 3},
			{Label: "10 ms", InFlight: 1024, Size: 9, Workers: 3, Takes: 10 * time.Millisecond},
		},
	},
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
		if r.way == lossy {
			program, pkg = "python3", "python3"
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
