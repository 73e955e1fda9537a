package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"reparto/internal/cli"
)

// connect returns a connection on which a balancer has answered. It tries until
// the time is up; a balancer that is just starting is waited for, one that TLS
// keeps us from is not.
func connect(ctx context.Context, balancer *cli.Peer, within time.Duration) (*grpc.ClientConn, error) {
	conn, err := balancer.Dial(nil)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	why := errors.New("it does not answer")
	for {
		_, err := healthpb.NewHealthClient(conn).Check(limited, &healthpb.HealthCheckRequest{})
		switch status.Code(err) {
		case codes.Unavailable:
			why = dialError(err)
			if refused := balancer.Refused(); refused != nil {
				_ = conn.Close() // nothing came of it
				return nil, refused
			}
		case codes.DeadlineExceeded, codes.Canceled:
		default:
			return conn, nil // whatever the answer is, it is one
		}
		if limited.Err() == nil {
			conn.WaitForStateChange(limited, connectivity.TransientFailure)
		}
		if limited.Err() != nil {
			_ = conn.Close() // nothing came of it
			if ctx.Err() != nil {
				return nil, cli.Exit(cli.Interrupted, nil)
			}
			return nil, cli.Exit(cli.NoConnection, fmt.Errorf("no connection to the balancer at %s within %v: %w", balancer.Target, within, why))
		}
	}
}

// dialError is what went wrong, without the layers that gRPC wraps it in.
func dialError(err error) error {
	text := status.Convert(err).Message()
	for _, layer := range []string{"Error while dialing: ", "error reading server preface: "} {
		if _, inner, ok := strings.Cut(text, layer); ok {
			return errors.New(strings.TrimSuffix(inner, `"`))
		}
	}
	return errors.New(text)
}
