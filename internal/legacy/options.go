package legacy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// Options says how the text protocol is served. The zero value is valid but for
// one thing: at least one of the addresses must be set. Durations and sizes
// that are 0 mean the default; a negative one is an error unless its field says
// what it means.
type Options struct {
	// ClientAddress is where text clients connect, e.g. "localhost:8888"; port 0
	// takes a free one. Empty: no port for clients.
	ClientAddress string
	// WorkerAddress is where text workers connect, e.g. "localhost:8889".
	WorkerAddress string
	// TLS makes both ports speak it. Default: none, in the clear.
	TLS *tls.Config
	// HandshakeTimeout is how long a peer may take for its TLS handshake. Default
	// 10 s.
	HandshakeTimeout time.Duration
	// Function is what text tasks are submitted to and text workers offer.
	// Default "sum".
	Function string

	// MaxLine is how many bytes a line may have before its line feed; a longer
	// one ends its connection. Default 1 MiB, at least 64.
	MaxLine int
	// Quiet is how long a peer must have been silent after a well-formed message
	// without a line feed for it to be taken as complete. Shorter, and a line
	// that comes in pieces may be cut; longer, and peers that send no line feed
	// wait longer. Default 50 ms, at least 1 ms.
	Quiet time.Duration
	// AckGap is how long after ACK the first assignment is held back, for workers
	// that read twice and would take both for one message. Default 100 ms;
	// negative: none.
	AckGap time.Duration
	// ResultGap is the least time between two RESULT lines to a client that has
	// several tasks under way, so that one that reads a message at a time finds
	// one at a time. It is given up while more than 64 results wait, at which
	// pace only a reader of lines can be at the other end; a client with one
	// task at a time never waits for it. Default 1 ms; negative: none.
	ResultGap time.Duration
	// MessageTimeout is how long a message may take from its first byte to its
	// end; longer ends the connection. Default 10 s.
	MessageTimeout time.Duration
	// WriteTimeout is how long a peer may leave one message unread in full
	// buffers before its connection is ended. Default 10 s.
	WriteTimeout time.Duration
	// KeepAlive is the time without traffic after which TCP probes a peer, and
	// between probes; the third that goes unanswered ends the connection.
	// Default 15 s; negative: none, and a peer whose machine vanished is found
	// out only by writing to it.
	KeepAlive time.Duration

	// TaskTimeout is how long a text client's task may take in all, waiting for a
	// worker included. Default and most: 24 h.
	TaskTimeout time.Duration
	// ConnectTimeout is how long a text client's task waits for a connection to
	// the balancer before it is answered with an ERROR. Default 20 s.
	ConnectTimeout time.Duration
	// WorkerTaskTimeout is how long one task may take at a text worker. Passing
	// it ends that worker's connection, and the task goes to another worker.
	// Default 0: no limit.
	WorkerTaskTimeout time.Duration
	// DrainTimeout is how long Serve waits, once it is to end, for what is under
	// way. Default 30 s; negative: not at all.
	DrainTimeout time.Duration
	// Idempotent says that Function may be run twice without harm: then a task
	// whose fate is unknown, because the balancer was lost in the middle, is
	// submitted again; otherwise its client gets an ERROR that says so.
	Idempotent bool

	// MaxConnections is how many connections each port has at a time; one more
	// is closed at once. Default 10,000.
	MaxConnections int
	// MaxInFlight is how many tasks a client connection may have without their
	// RESULT; at that number it is not read from. Default 1024.
	MaxInFlight int
	// MaxInFlightBytes bounds the same in bytes of task data; one task may
	// always pass. Default 16 MiB.
	MaxInFlightBytes int

	// ID names the adapter to the balancer, which adds up over its runs what it
	// reports of its peers; of two with one ID the balancer takes the later one's
	// reports. 1 to 128 of [A-Za-z0-9._:-]. Default: the machine's name and the
	// ports, such as "web1:8888:8889".
	ID string
	// ReportInterval is how often the balancer is told which addresses speak the
	// text protocol. Default 10 s, at most 30 s; negative: never.
	ReportInterval time.Duration
	// MaxPeers is how many addresses are remembered for that, those of clients and
	// of workers together; beyond it the one not seen for longest goes. The
	// balancer keeps 10,000 of an adapter. Default and most: 10,000.
	MaxPeers int

	// TracerProvider makes a trace of each text task: see client.WithTracerProvider
	// and worker.Options. Default: none.
	TracerProvider trace.TracerProvider

	// Log gets ports and workers at INFO, clients and what is done for each task
	// at DEBUG, and what peers do wrong at WARN. Nil: silent.
	Log *slog.Logger
}

// Bounds that are the balancer's.
const (
	mostPeers          = 10_000
	mostReportInterval = 30 * time.Second
)

// validate fills in the defaults and returns what is wrong, all of it.
func (o Options) validate() (Options, error) {
	var errs []error
	if o.ClientAddress == "" && o.WorkerAddress == "" {
		errs = append(errs, errors.New("neither ClientAddress nor WorkerAddress is set; give at least one"))
	}
	for _, a := range []struct{ name, value string }{{"ClientAddress", o.ClientAddress}, {"WorkerAddress", o.WorkerAddress}} {
		if _, _, err := net.SplitHostPort(a.value); a.value != "" && err != nil {
			errs = append(errs, fmt.Errorf("%s %q: %w; give host:port", a.name, a.value, err))
		}
	}
	if o.Function == "" {
		o.Function = "sum"
	}
	if !functionName(o.Function) {
		errs = append(errs, fmt.Errorf("the function %q is not 1 to 128 of letters, digits and ._/-", o.Function))
	}
	whole := func(name string, v *int, def, least int) {
		if *v == 0 {
			*v = def
		}
		if *v < least {
			errs = append(errs, fmt.Errorf("%s is %d; at least %d is needed", name, *v, least))
		}
	}
	whole("MaxLine", &o.MaxLine, 1<<20, 64)
	whole("MaxConnections", &o.MaxConnections, 10_000, 1)
	whole("MaxInFlight", &o.MaxInFlight, 1024, 1)
	whole("MaxPeers", &o.MaxPeers, mostPeers, 1)
	whole("MaxInFlightBytes", &o.MaxInFlightBytes, 16<<20, 1)
	span := func(name string, v *time.Duration, def time.Duration, mayBeNone bool) {
		switch {
		case *v == 0:
			*v = def
		case *v < 0 && mayBeNone:
			*v = -1
		case *v < time.Millisecond:
			errs = append(errs, fmt.Errorf("%s is %v; at least 1ms is needed", name, *v))
		}
	}
	span("Quiet", &o.Quiet, 50*time.Millisecond, false)
	span("AckGap", &o.AckGap, 100*time.Millisecond, true)
	span("ResultGap", &o.ResultGap, time.Millisecond, true)
	span("MessageTimeout", &o.MessageTimeout, 10*time.Second, false)
	span("HandshakeTimeout", &o.HandshakeTimeout, 10*time.Second, false)
	span("WriteTimeout", &o.WriteTimeout, 10*time.Second, false)
	span("KeepAlive", &o.KeepAlive, 15*time.Second, true)
	span("TaskTimeout", &o.TaskTimeout, 24*time.Hour, false)
	span("ConnectTimeout", &o.ConnectTimeout, 20*time.Second, false)
	span("ReportInterval", &o.ReportInterval, 10*time.Second, true)
	span("WorkerTaskTimeout", &o.WorkerTaskTimeout, 0, false)
	span("DrainTimeout", &o.DrainTimeout, 30*time.Second, true)
	if o.TaskTimeout > 24*time.Hour {
		errs = append(errs, fmt.Errorf("TaskTimeout is %v; the balancer takes at most 24h", o.TaskTimeout))
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o, errors.Join(append(errs, o.checkReport())...)
}

// checkReport says what is wrong with what the balancer is told.
func (o *Options) checkReport() error {
	switch {
	case o.ID != "" && (len(o.ID) > maxID || string(appendClean(nil, []byte(o.ID), "._:-", len(o.ID))) != o.ID):
		return fmt.Errorf("the ID %.140q is not 1 to %d of letters, digits and ._:-", o.ID, maxID)
	case o.MaxPeers > mostPeers:
		return fmt.Errorf("MaxPeers is %d; at most %d are kept", o.MaxPeers, mostPeers)
	case o.ReportInterval > mostReportInterval:
		return fmt.Errorf("ReportInterval is %v; the balancer takes an adapter that is silent for longer than %v for gone", o.ReportInterval, mostReportInterval)
	}
	return nil
}

func functionName(s string) bool {
	return s != "" && len(s) <= 128 && string(appendClean(nil, []byte(s), "._/-", len(s))) == s
}
