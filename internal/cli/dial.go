package cli

import (
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"

	"reparto/internal/wire"
)

// DefaultBalancer is where a balancer is unless told otherwise.
const DefaultBalancer = "localhost:9090"

const (
	window     = 1 << 20  // bytes in flight, for a stream and for a connection
	maxMessage = 64 << 20 // the balancer's word counts; this only has to lie above it
)

// DialOptions are for connections from our commands to a balancer: no TLS, large
// static windows (measured: up to a quarter more calls a second), messages as
// large as a balancer may be configured to take, pings that a balancer's policy
// welcomes, so that a peer whose machine vanished is noticed within half a
// minute, and attempts to connect at most 2 s apart.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStaticStreamWindowSize(window),
		experimental.WithBufferPool(wire.Buffers),
		grpc.WithStaticConnWindowSize(window),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
}

// CheckTarget returns what is wrong with the address of a balancer: it is
// HOST:PORT, or anything with a scheme that gRPC knows, such as
// unix:/run/reparto.sock or dns:///balancer.example:9090.
func CheckTarget(target string) error {
	if strings.Contains(target, "://") || strings.HasPrefix(target, "unix:") {
		return nil
	}
	host, port, err := net.SplitHostPort(target)
	if err != nil || host == "" || port == "" {
		return fmt.Errorf("the balancer's address %q is not HOST:PORT; give one such as %s", target, DefaultBalancer)
	}
	return nil
}
