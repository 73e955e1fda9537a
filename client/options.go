package client

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	defaultMaxInFlight    = 65536
	mostInFlight          = 1 << 24
	defaultConnectTimeout = 20 * time.Second
)

// Option tunes a Client.
type Option func(*options)

type options struct {
	dial           []grpc.DialOption
	credentials    credentials.TransportCredentials
	connectTimeout time.Duration
	maxInFlight    int
	log            *slog.Logger
	tracer         trace.Tracer // nil: no spans
}

// WithDialOptions adds options for Dial's connection, after Dial's own, so that
// they win. New ignores them.
func WithDialOptions(o ...grpc.DialOption) Option {
	return func(c *options) { c.dial = append(c.dial, o...) }
}

// WithTransportCredentials makes Dial use TLS or the like. Default: plaintext.
// New ignores it.
func WithTransportCredentials(t credentials.TransportCredentials) Option {
	return func(c *options) { c.credentials = t }
}

// WithConnectTimeout is how long a task may wait for a balancer that takes it
// before it is given up with NO_CONNECTION. Default, and for 0: 20 s; negative is
// refused. Below a second, callers feel a balancer's restart.
func WithConnectTimeout(d time.Duration) Option {
	return func(c *options) { c.connectTimeout = d }
}

// WithMaxInFlight is how many tasks may be under way before Submit and
// SubmitFunc block for room. A task is under way until its outcome is there and
// its done function has returned; see SubmitFunc. A balancer that takes fewer on
// a stream has the last word. Default, and for 0: 65,536; at most 16,777,216;
// negative and more are refused.
func WithMaxInFlight(n int) Option { return func(c *options) { c.maxInFlight = n } }

// WithLog gets a line when a connection is made or lost. Default: none.
func WithLog(log *slog.Logger) Option { return func(c *options) { c.log = log } }

func collect(opts []Option) (options, error) {
	o := options{credentials: insecure.NewCredentials()}
	for _, set := range opts {
		if set == nil {
			return o, errors.New("client: an option is nil")
		}
		set(&o)
	}
	if o.connectTimeout == 0 {
		o.connectTimeout = defaultConnectTimeout
	}
	if o.maxInFlight == 0 {
		o.maxInFlight = defaultMaxInFlight
	}
	if o.log == nil {
		o.log = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.connectTimeout < 0:
		return o, fmt.Errorf("client: connect timeout %v: give more than 0, or 0 for %v", o.connectTimeout, defaultConnectTimeout)
	case o.maxInFlight < 0 || o.maxInFlight > mostInFlight:
		return o, fmt.Errorf("client: %d in flight: give 1 to %d, or 0 for %d", o.maxInFlight, mostInFlight, defaultMaxInFlight)
	case o.credentials == nil:
		return o, errors.New("client: the transport credentials are nil")
	}
	return o, nil
}
