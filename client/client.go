// Package client is the SDK for programs that have work to be done.
//
//	c, err := client.Dial("localhost:9090")
//	if err != nil { … }
//	defer c.Close()
//	out, err := c.Submit(ctx, client.Task{Function: "sum", Payload: []byte("1,2,3")})
//
// All calls of a Client share one stream: tasks that are ready at the same
// moment travel in one frame. A break of the stream is mended by itself; what
// becomes of the tasks that were under way is told at Submit.
package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	pb "reparto/gen/reparto/v1"
)

const (
	defaultMaxInFlight    = 65536
	defaultConnectTimeout = 20 * time.Second
	maxMessage            = 64 << 20 // above what a balancer may be set to send
	window                = 1 << 20
)

// Option tunes a Client.
type Option func(*options)

type options struct {
	dial           []grpc.DialOption
	credentials    credentials.TransportCredentials
	connectTimeout time.Duration
	maxInFlight    int
	log            *slog.Logger
}

// WithDialOptions adds options for Dial's connection. New ignores them.
func WithDialOptions(o ...grpc.DialOption) Option {
	return func(c *options) { c.dial = append(c.dial, o...) }
}

// WithTransportCredentials makes Dial use TLS or the like. Default: plaintext.
// New ignores it.
func WithTransportCredentials(t credentials.TransportCredentials) Option {
	return func(c *options) { c.credentials = t }
}

// WithConnectTimeout is how long a task may wait for a connection before it is
// given up with NO_CONNECTION. Default, and for 0: 20 s; negative is refused.
func WithConnectTimeout(d time.Duration) Option {
	return func(c *options) { c.connectTimeout = d }
}

// WithMaxInFlight is how many tasks may be under way before Submit and
// SubmitFunc block for room. Default, and for 0: 65,536; negative is refused. If
// the balancer takes fewer on a stream, it reads no more until some are done.
func WithMaxInFlight(n int) Option { return func(c *options) { c.maxInFlight = n } }

// WithLog gets a line when a connection is made or lost. Default: none.
func WithLog(log *slog.Logger) Option { return func(c *options) { c.log = log } }

// Client submits tasks. All methods may be called concurrently.
type Client struct {
	opt    options
	target string
	stub   pb.TaskServiceClient
	owned  io.Closer // the connection that Dial made

	wake    chan struct{} // tells the runner, and the writer, that there may be something to do
	stop    context.CancelFunc
	running sync.WaitGroup // runner and writer
	watches sync.WaitGroup // functions that wait for the end of a context
	teller  teller

	mu       sync.Mutex
	closed   bool
	started  bool
	pending  []*call // not sent yet, in order
	slots    []slot  // by the low half of a call's number
	free     []uint32
	inFlight int
	queue    []chan struct{} // who waits for room, in order
	cancels  []uint64        // numbers to be cancelled at the balancer
}

// Dial returns a Client with a connection of its own to a balancer, such as
// "localhost:9090". It does not block: the connection is made when the first
// task needs it. Close ends it.
func Dial(target string, opts ...Option) (*Client, error) {
	if strings.TrimSpace(target) == "" {
		return nil, errors.New("client: the target is empty; give host:port")
	}
	o, err := collect(opts)
	if err != nil {
		return nil, err
	}
	dial := append([]grpc.DialOption{
		grpc.WithTransportCredentials(o.credentials),
		grpc.WithStaticStreamWindowSize(window),
		grpc.WithStaticConnWindowSize(window),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}),
		// How often to try again is the Client's own business; this only must not
		// hold it back.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	}, o.dial...)
	conn, err := grpc.NewClient(target, dial...)
	if err != nil {
		return nil, fmt.Errorf("client: target %q: %w", target, err)
	}
	c := newClient(conn, o)
	c.target, c.owned = target, conn
	return c, nil
}

// New returns a Client over a connection that stays the caller's. It panics on
// options that Dial refuses.
func New(conn grpc.ClientConnInterface, opts ...Option) *Client {
	o, err := collect(opts)
	if err != nil {
		panic(err)
	}
	c := newClient(conn, o)
	c.target = "the balancer"
	if named, ok := conn.(interface{ Target() string }); ok {
		c.target = named.Target()
	}
	return c
}

func collect(opts []Option) (options, error) {
	o := options{credentials: insecure.NewCredentials()}
	for _, set := range opts {
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
	case o.maxInFlight < 0:
		return o, fmt.Errorf("client: %d in flight: give at least 1, or 0 for %d", o.maxInFlight, defaultMaxInFlight)
	case o.credentials == nil:
		return o, errors.New("client: the transport credentials are nil")
	}
	return o, nil
}

func newClient(conn grpc.ClientConnInterface, o options) *Client {
	return &Client{
		opt: o, stub: pb.NewTaskServiceClient(conn), wake: make(chan struct{}, 1),
		teller: teller{wake: make(chan struct{}, 1)},
	}
}

// Close ends the Client: tasks under way are cancelled at the balancer, and
// their callers get an *Error with reason CLIENT_CLOSED. It waits for the
// Client's goroutines, so it must not be called from the function given to
// SubmitFunc. Closing twice is fine.
func (c *Client) Close() error {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	if c.stop != nil {
		c.stop()
	}
	c.mu.Unlock()
	c.running.Wait()
	if !first {
		return nil
	}
	c.failAll(func(*call) error { return errClosed() })
	c.teller.close()
	c.watches.Wait()
	if c.owned != nil {
		return c.owned.Close()
	}
	return nil
}

func signal(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}
