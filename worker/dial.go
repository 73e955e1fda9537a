package worker

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"

	"reparto/internal/socket"
	"reparto/internal/wire"
)

const (
	window     = 1 << 20  // bytes in flight, for a stream and for a connection
	maxMessage = 64 << 20 // the balancer's word counts; this only has to lie above it
)

// DialOptions are what a connection for Run should have, for grpc.NewClient: those of
// Reparto's own worker. Credentials of nil are plaintext. They set windows of 1 MiB
// that stay so (up to a quarter more tasks a second), messages of up to 64 MiB, as
// large as a balancer may be configured to take, pings that a balancer welcomes, so
// that one whose machine vanished is noticed within half a minute, attempts to
// connect at most 2 s apart, and reads and writes of up to 64 KiB at a time, of which,
// on Linux, Go's scheduler is not told (a tenth more). Options that follow them win.
func DialOptions(creds credentials.TransportCredentials) []grpc.DialOption {
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	return []grpc.DialOption{
		grpc.WithTransportCredentials(socket.Credentials(creds)),
		grpc.WithStaticStreamWindowSize(window),
		experimental.WithBufferPool(wire.Buffers),
		grpc.WithStaticConnWindowSize(window),
		grpc.WithReadBufferSize(socket.MaxRead), grpc.WithWriteBufferSize(socket.MaxWrite),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
}
