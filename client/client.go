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
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/socket"
	"reparto/internal/wire"
)

const (
	maxMessage = 64 << 20 // above what a balancer may be set to send
	window     = 1 << 20
)

// Client submits and enqueues tasks. All methods may be called concurrently.
type Client struct {
	opt    options
	target string
	stub   pb.TaskServiceClient
	admin  pb.AdminServiceClient
	owned  io.Closer // the connection that Dial made

	wake    chan struct{} // ends the sleep of the runner or the writer
	hurry   chan struct{} // tells the expirer of a task that gives up sooner than it thinks
	finish  chan struct{} // tells the teller that there is something to tell
	running sync.WaitGroup
	telling sync.WaitGroup
	watches sync.WaitGroup // functions that wait for the end of a context, and calls that wait for room
	closing sync.Once

	life      context.Context // ends with Close; of calls that are nobody's own
	end       context.CancelFunc
	tellsPeer bool    // the connection says whether a call had a transport
	conn      states  // nil: it does not tell its state
	batches   batches // of Enqueue

	mu      sync.Mutex
	closed  bool
	why     error              // what calls get once it is closed; nil for CLIENT_CLOSED
	stop    context.CancelFunc // nil until the first task
	pending []*call            // not sent yet, in order
	stale   int                // those among them that are settled already
	asleep  bool               // the runner or the writer sleeps
	table   table
	room    room
	cancels []uint64        // numbers to be cancelled on the stream that takes tasks
	latest  *watch          // of the last context that was watched; nil when it has no calls
	before  <-chan struct{} // the end of the context that Submit had last

	accepting  bool      // a stream takes tasks
	lastErr    error     // why there is none
	nextExpiry time.Time // when the expirer will look again; zero when it need not

	told     bool    // the teller has been started
	teller   uint64  // its goroutine; 0 until it runs
	spares   []*call // of SubmitFunc, to be used again
	finished []*call // settled, and their function not called yet
	drained  bool    // nothing more will be finished
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
		grpc.WithTransportCredentials(socket.Credentials(o.credentials)),
		grpc.WithStaticStreamWindowSize(window),
		experimental.WithBufferPool(wire.Buffers),
		grpc.WithStaticConnWindowSize(window),
		grpc.WithReadBufferSize(socket.MaxRead), grpc.WithWriteBufferSize(socket.MaxWrite),
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
		return nil, fmt.Errorf("client: target %q: %w; give host:port", target, err)
	}
	c := newClient(conn, o)
	c.target, c.owned = target, conn
	return c, nil
}

// New returns a Client over a connection that stays the caller's, and whose own
// backoff delays what comes after a break. With options that Dial would refuse,
// or without a connection, every call ends with INVALID_ARGUMENT · OPTIONS.
func New(conn grpc.ClientConnInterface, opts ...Option) *Client {
	o, err := collect(opts)
	if conn == nil {
		err = errors.Join(errors.New("client: the connection is nil"), err)
	}
	c := newClient(conn, o)
	c.target = "the balancer"
	if named, ok := conn.(interface{ Target() string }); ok && conn != nil {
		c.target = named.Target()
	}
	if err != nil {
		c.closed, c.batches.closed = true, true
		c.room.open()
		c.why = &Error{Code: codes.InvalidArgument, Reason: "OPTIONS", Message: err.Error()}
	}
	return c
}

func newClient(conn grpc.ClientConnInterface, o options) *Client {
	c := &Client{
		opt: o, stub: pb.NewTaskServiceClient(conn), admin: pb.NewAdminServiceClient(conn), room: room{bound: o.maxInFlight},
		wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1), finish: make(chan struct{}, 1),
		batches: batches{wake: make(chan struct{}, maxRequests)},
	}
	// A request carries the tasks of many calls: no call's context is its own.
	c.life, c.end = context.WithCancel(context.Background())
	_, c.tellsPeer = conn.(*grpc.ClientConn)
	c.conn, _ = conn.(states)
	return c
}

// Close ends the Client: tasks under way are cancelled at the balancer, and
// their callers get an *Error with reason CLIENT_CLOSED, as do those of all other
// calls and those who come later; enqueued tasks go on. It waits for the Client's goroutines and for the done functions that
// they call, so it must not be called from one. Closing twice is fine.
func (c *Client) Close() error {
	var err error
	c.closing.Do(func() { err = c.close() })
	return err
}

func (c *Client) close() error {
	c.mu.Lock()
	c.closed = true
	stop := c.stop
	c.mu.Unlock()
	if stop != nil {
		stop()
	}
	c.end()
	c.batches.close(c)
	c.running.Wait() // now nothing more comes from the balancer
	c.failAll(func(k *call) error { return c.errClosed(k.task.ID) })
	c.watches.Wait()
	c.mu.Lock()
	c.drained = true
	c.mu.Unlock()
	signal(c.finish)
	c.telling.Wait()
	if c.owned != nil {
		return c.owned.Close()
	}
	return nil
}

// launch starts the goroutines with the first task, so that a Client that is not
// used has none. The caller holds c.mu.
func (c *Client) launch() {
	if c.stop != nil {
		return
	}
	// The stream outlives the call that happens to open it, and must not carry
	// that call's values: so there is no context to derive this one from.
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	c.running.Go(func() { c.run(ctx) })
	c.running.Go(func() { c.expireLate(ctx) })
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
