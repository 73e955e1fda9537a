package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// machine is where and with what a part was measured.
type machine struct {
	date, cpu, memory, kernel, load, versions, command string
}

func thisMachine(args string) machine {
	m := machine{
		date: time.Now().Format(time.DateOnly), cpu: "unknown processor", memory: "unknown memory",
		kernel: firstLine("/proc/sys/kernel/osrelease"), load: strings.Join(strings.Fields(firstLine("/proc/loadavg"))[:1], ""),
		versions: versions(), command: "make bench-peers",
	}
	if args = strings.TrimSpace(strings.ReplaceAll(" "+args+" ", " -write ", " ")); args != "" {
		m.command += " ARGS='" + args + "'"
	}
	if model := field("/proc/cpuinfo", "model name"); model != "" {
		m.cpu = model
	}
	var kib float64
	if _, err := fmt.Sscan(field("/proc/meminfo", "MemTotal"), &kib); err == nil {
		m.memory = fmt.Sprintf("%.0f GiB", kib/(1<<20))
	}
	return m
}

func (m machine) String() string {
	return fmt.Sprintf("%s; %d cores of %s, %s, Linux %s, load average %s before; %s. `%s`",
		m.date, runtime.NumCPU(), m.cpu, m.memory, m.kernel, m.load, m.versions, m.command)
}

func firstLine(file string) string {
	raw, _ := os.ReadFile(file) // empty, as any unknown
	line, _, _ := strings.Cut(string(raw), "\n")
	return line
}

// field finds a line such as "model name : …".
func field(file, name string) string {
	raw, _ := os.ReadFile(file)
	for l := range strings.Lines(string(raw)) {
		if key, value, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// versions are those of all systems that are here.
func versions() string {
	list := []string{"Reparto " + orUnknown(output("git", "-C", top(), "describe", "--always", "--dirty")), runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			switch d.Path {
			case "google.golang.org/grpc":
				list = append(list, "grpc-go "+d.Version)
			case "github.com/nats-io/nats.go":
				list = append(list, "nats.go "+d.Version)
			case "github.com/rabbitmq/amqp091-go":
				list = append(list, "amqp091-go "+d.Version)
			}
		}
	}
	if bin, err := built(natsServer); err == nil {
		list = append(list, "nats-server "+orUnknown(strings.TrimPrefix(output(bin, "--version"), "nats-server: ")))
	}
	if installed(gearmand) {
		_, version, _ := strings.Cut(output(gearmand, "--version"), " ")
		version, _, _ = strings.Cut(version, " ")
		list = append(list, "gearmand "+orUnknown(version))
	}
	if installed(rabbitServer) {
		list = append(list, "RabbitMQ "+orUnknown(output("dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server")))
	}
	return strings.Join(list, ", ")
}

func orUnknown(version string) string {
	if version == "" {
		return "of an unknown version"
	}
	return version
}

// output is what a program says on either of its outputs; empty if it fails.
func output(program string, args ...string) string {
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
