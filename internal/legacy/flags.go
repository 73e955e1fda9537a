package legacy

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"
)

// AddFlags binds the options that whoever runs the text protocol may set, inside
// a balancer or beside it, to flags whose names begin with legacy-. CheckFlags
// must follow, once they are parsed.
func (o *Options) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&o.ClientAddress, "legacy-clients", "localhost:8888", "where to listen for text clients; '' turns it off")
	f.StringVar(&o.WorkerAddress, "legacy-workers", "localhost:8889", "where to listen for text workers; '' turns it off")
	f.StringVar(&o.Function, "legacy-function", "sum", "the function of text tasks and text workers")
	f.IntVar(&o.MaxLine, "legacy-max-line", 1<<20, "bytes in a line of text; a longer one ends its connection")
	f.IntVar(&o.MaxConnections, "legacy-max-connections", 10_000, "connections to each text port")
	f.IntVar(&o.MaxInFlight, "legacy-max-in-flight", 1024, "tasks without a result for each text client; at that number it is not read from")
	f.IntVar(&o.MaxInFlightBytes, "legacy-max-in-flight-bytes", 16<<20, "bytes of these; one task may always pass")
	f.DurationVar(&o.WorkerTaskTimeout, "legacy-task-timeout", 0, "how long a text worker may take for a task before its connection is ended; 0 is no limit")
	f.DurationVar(&o.Quiet, "legacy-quiet", 50*time.Millisecond, "how long a peer is silent after a message without a line feed that is complete")
	f.DurationVar(&o.AckGap, "legacy-ack-gap", 100*time.Millisecond, "the time between ACK and a worker's first assignment; 0: none")
	f.DurationVar(&o.ResultGap, "legacy-result-gap", time.Millisecond, "the least time between two results to one client; 0: none")
	f.DurationVar(&o.MessageTimeout, "legacy-message-timeout", 10*time.Second, "how long a message may take from its first byte to its last")
	f.DurationVar(&o.WriteTimeout, "legacy-write-timeout", 10*time.Second, "how long a peer may leave a message unread")
	f.DurationVar(&o.KeepAlive, "legacy-keepalive", 15*time.Second, "how often a silent peer is probed; 0: never")
	f.StringVar(&o.ID, "legacy-id", "", "names this adapter where text clients and workers are listed (default the machine's name and the ports)")
	f.DurationVar(&o.ReportInterval, "legacy-report-interval", 10*time.Second, "how often the balancer is told which addresses speak the text protocol, up to 30s; 0: never")
	f.IntVar(&o.MaxPeers, "legacy-max-peers", 10_000, "addresses remembered for that, up to 10,000; beyond, the one not seen for longest is forgotten")
}

// CheckFlags says what is wrong in the words of the command line, and turns 0
// into what Options take for none. Bounds beyond that are theirs.
func (o *Options) CheckFlags() error {
	for name, d := range map[string]time.Duration{
		"legacy-quiet": o.Quiet, "legacy-message-timeout": o.MessageTimeout, "legacy-write-timeout": o.WriteTimeout,
	} {
		if d <= 0 {
			return fmt.Errorf("--%s is %v; give more than 0", name, d)
		}
	}
	for name, n := range map[string]int{
		"legacy-max-line": o.MaxLine, "legacy-max-connections": o.MaxConnections,
		"legacy-max-in-flight": o.MaxInFlight, "legacy-max-in-flight-bytes": o.MaxInFlightBytes,
		"legacy-max-peers": o.MaxPeers,
	} {
		if n <= 0 {
			return fmt.Errorf("--%s is %d; give more than 0", name, n)
		}
	}
	for name, d := range map[string]*time.Duration{
		"legacy-ack-gap": &o.AckGap, "legacy-result-gap": &o.ResultGap, "legacy-keepalive": &o.KeepAlive,
		"legacy-report-interval": &o.ReportInterval,
	} {
		if *d < 0 {
			return fmt.Errorf("--%s is %v; give a time, or 0 for none", name, *d)
		}
		if *d == 0 {
			*d = -1
		}
	}
	return nil
}
