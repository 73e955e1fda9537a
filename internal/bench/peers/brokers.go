package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"reparto/internal/freeport"
)

// broker is a server that runs, and where clients and workers dial it.
type broker struct {
	*process
	clients, workers string
}

// starter starts a broker with no data, in a directory of its own.
type starter func(ctx context.Context, dir string) (broker, error)

// listening waits until a server that was just started can be dialled.
func listening(ctx context.Context, p *process, address string) (broker, error) {
	if err := dialled(ctx, address); err != nil {
		p.end()
		return broker{}, err
	}
	return broker{p, address, address}, nil
}

const natsServer = "github.com/nats-io/nats-server/v2"

// startNATS runs nats-server with a few lines of configuration.
func startNATS(ctx context.Context, dir, conf string) (broker, error) {
	bin, err := built(natsServer)
	if err != nil {
		return broker{}, err
	}
	address, err := freeport.Find()
	if err != nil {
		return broker{}, err
	}
	file := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, "listen: %q\n%s", address, conf), 0o600); err != nil {
		return broker{}, err
	}
	p, err := spawn(dir, nil, bin, "-c", file)
	if err != nil {
		return broker{}, err
	}
	return listening(ctx, p, address)
}

const (
	rabbitServer = "/usr/lib/rabbitmq/bin/rabbitmq-server" // of Debian's package
	gearmand     = "/usr/sbin/gearmand"                    // likewise
)

func installed(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

func rabbitURL(address string) string { return "amqp://guest:guest@" + address + "/" }

// rabbitNode starts the server beside a port mapper of its own, so that nothing
// stays behind and nothing listens beyond this machine.
const rabbitNode = `epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" & exec "$0"`

// startRabbit runs the machine's own RabbitMQ as a node of its own.
func startRabbit(ctx context.Context, dir string) (broker, error) {
	address, err := freeport.Find()
	if err != nil {
		return broker{}, err
	}
	var ports [3]string // of AMQP, of the node, of the port mapper
	for i, a := range []string{address, "", ""} {
		if a == "" {
			if a, err = freeport.Find(); err != nil {
				return broker{}, err
			}
		}
		if _, ports[i], err = net.SplitHostPort(a); err != nil {
			return broker{}, err
		}
	}
	p, err := spawn(dir, []string{
		"RABBITMQ_NODENAME=peers" + ports[0] + "@localhost", "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1", "RABBITMQ_NODE_PORT=" + ports[0],
		"RABBITMQ_DIST_PORT=" + ports[1], "ERL_EPMD_PORT=" + ports[2],
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
		"RABBITMQ_MNESIA_BASE=" + dir, "RABBITMQ_LOG_BASE=" + dir, "RABBITMQ_ENABLED_PLUGINS_FILE=" + dir + "/plugins",
		"RABBITMQ_PID_FILE=" + dir + "/pid", "HOME=" + dir,
	}, "/bin/sh", "-c", rabbitNode, rabbitServer)
	if err != nil {
		return broker{}, err
	}
	b, err := listening(ctx, p, address)
	if err != nil {
		return broker{}, err
	}
	for limit := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) { // it listens before it is ready
		conn, err := amqp.Dial(rabbitURL(address))
		if err == nil {
			return b, conn.Close()
		}
		if time.Now().After(limit) {
			p.end()
			return broker{}, err
		}
	}
}

// startGearmand runs the machine's own gearmand, with as many threads as it
// thinks right.
func startGearmand(ctx context.Context, dir string) (broker, error) { return gearmandWith(ctx, dir) }

func gearmandWith(ctx context.Context, dir string, flags ...string) (broker, error) {
	address, err := freeport.Find()
	if err != nil {
		return broker{}, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return broker{}, err
	}
	p, err := spawn(dir, nil, gearmand, append([]string{
		"--listen", "127.0.0.1", "--port", port, "--threads", "0", "--backlog", "1024",
		"--log-file", "stderr", "--pid-file", filepath.Join(dir, "pid"),
	}, flags...)...)
	if err != nil {
		return broker{}, err
	}
	return listening(ctx, p, address)
}

// startBalancer runs Reparto's binary with its defaults, but for flags.
func startBalancer(ctx context.Context, dir string, flags ...string) (broker, error) {
	bin, err := built("reparto/cmd/balancer")
	if err != nil {
		return broker{}, err
	}
	address, err := freeport.Find()
	if err != nil {
		return broker{}, err
	}
	p, err := spawn(dir, nil, bin, append([]string{
		"--grpc", address, "--legacy-clients", "", "--legacy-workers", "", "--store", "file:" + filepath.Join(dir, "data"),
	}, flags...)...)
	if err != nil {
		return broker{}, err
	}
	return listening(ctx, p, address)
}

// startText is the balancer, dialled by its text ports.
func startText(ctx context.Context, dir string) (broker, error) {
	clients, err := freeport.Find()
	if err != nil {
		return broker{}, err
	}
	workers, err := freeport.Find()
	if err != nil {
		return broker{}, err
	}
	b, err := startBalancer(ctx, dir, "--legacy-clients", clients, "--legacy-workers", workers)
	if err != nil {
		return broker{}, err
	}
	b.clients, b.workers = clients, workers
	return b, dialled(ctx, clients)
}

// startTextRelay runs the relay of text lines that gives workers tasks as they come.
func startTextRelay(_ context.Context, dir string) (broker, error) { return textRelayOf(dir, "") }

// startTextSteps runs the one that gives each worker one task at a time.
func startTextSteps(_ context.Context, dir string) (broker, error) { return textRelayOf(dir, lockStep) }

func textRelayOf(dir, kind string) (broker, error) {
	p, err := role(dir, config{Role: "text-relay", Kind: kind})
	if err != nil {
		return broker{}, err
	}
	var at [2]string
	if err := p.expect("listening", &at); err != nil {
		p.end()
		return broker{}, err
	}
	return broker{p, at[0], at[1]}, nil
}

// startTextModel runs the model of the old balancer.
func startTextModel(ctx context.Context, dir string) (broker, error) { return textModelWith(ctx, dir) }

// startTextLines runs it with its worst fault mended.
func startTextLines(ctx context.Context, dir string) (broker, error) {
	return textModelWith(ctx, dir, "lines")
}

func textModelWith(ctx context.Context, dir string, args ...string) (broker, error) {
	var at, ports [2]string
	for i := range at {
		var err error
		if at[i], err = freeport.Find(); err != nil {
			return broker{}, err
		}
		if _, ports[i], err = net.SplitHostPort(at[i]); err != nil {
			return broker{}, err
		}
	}
	args = append([]string{filepath.Join(here(), "text_model.py"), ports[0], ports[1]}, args...)
	p, err := spawn(dir, nil, "python3", args...)
	if err != nil {
		return broker{}, err
	}
	for _, address := range at {
		if err := dialled(ctx, address); err != nil {
			p.end()
			return broker{}, err
		}
	}
	return broker{p, at[0], at[1]}, nil
}

// startRelay runs the relay with no logic of the package of benchmarks.
func startRelay(_ context.Context, dir string) (broker, error) {
	p, err := benchmarkRole(dir, "relay", "{}")
	if err != nil {
		return broker{}, err
	}
	var address string
	if err := p.expect("listening", &address); err != nil {
		p.end()
		return broker{}, err
	}
	return broker{p, address, address}, nil
}

// benchmarkRole starts the test binary of the package of benchmarks in a role, with
// its configuration as JSON.
func benchmarkRole(dir, role, config string) (*process, error) {
	bin, err := built(benchmarks)
	if err != nil {
		return nil, err
	}
	return speaking(dir, []string{"REPARTO_BENCH_ROLE=" + role, "REPARTO_BENCH_CONFIG=" + config}, bin)
}
