package rpc

import (
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"reparto/internal/auth"
)

// Options of a Server. Zero, or less, in a field means its default.
type Options struct {
	// MaxMessage bounds a message on the wire, in bytes. It lies above the
	// payload limit, so that the balancer and not the transport answers a
	// payload that is too large. Default 4 times the payload limit, at least 16
	// MiB.
	MaxMessage int
	// MaxInFlight is how many tasks one SubmitStream may have without an
	// outcome before it is not read from any more. Default 65,536.
	MaxInFlight int
	// MaxOutbox is how many bytes of outcomes may wait for a client that reads
	// slowly before its stream is ended. Default 256 MiB.
	MaxOutbox int
	// RegisterLimit is how long a Work stream may take to register. Default 10
	// s.
	RegisterLimit time.Duration
	// MinPing is the shortest interval at which a peer may ping; one that pings
	// more often is disconnected. Default 10 s.
	MinPing time.Duration
	// Workers is the number of goroutines held ready for calls. Default 1,024.
	Workers int
	// Credentials make connections secure. Default: none, in the clear.
	Credentials credentials.TransportCredentials
	// HandshakeLimit is how long a peer may take from its connection to the end of
	// its handshake, in the clear too. Default 10 s.
	HandshakeLimit time.Duration
	// Auth says who may do what. Default: everybody everything, as nobody in
	// particular. Whoever gives it runs and closes it.
	Auth *auth.Directory
	// LocalPrincipal is who calls over a connection within the process (bufconn).
	// Default: nobody; such a caller shows who it is like any other.
	LocalPrincipal string
	// PrincipalLimits hold for each principal that the directory gives no other
	// ones. Default: as many tasks, and bytes, without an outcome as half of what
	// may wait in all.
	PrincipalLimits Limits
	// AddressLimits hold for each address that calls come from: connections,
	// streams and tasks a second. What the peers of one proxy do comes from one
	// address. Default: none.
	AddressLimits Limits
	// MaxStreams is how many calls one connection may have open. Default 16,384.
	MaxStreams int
	// TextPeersFor is how long it is remembered who spoke the text protocol, since
	// last seen. Default 7 days.
	TextPeersFor time.Duration
	// UnaryInterceptors and StreamInterceptors see every call before anything here
	// decides about it, e.g. to count it.
	UnaryInterceptors  []grpc.UnaryServerInterceptor
	StreamInterceptors []grpc.StreamServerInterceptor
	// Channelz serves grpc.channelz.v1.Channelz, which shows connections and sockets
	// to whoever may administer. Default: not served.
	Channelz bool
	// Version is what GetServerInfo tells.
	Version string
	// Log gets a line for every call at level debug. Default: none.
	Log *slog.Logger
}

func (o Options) withDefaults(maxPayload int) Options {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&o.MaxMessage, max(4*maxPayload, 16<<20))
	def(&o.MaxInFlight, 65536)
	def(&o.MaxOutbox, 256<<20)
	def(&o.Workers, 1024)
	def(&o.MaxStreams, 16384)
	if o.RegisterLimit <= 0 {
		o.RegisterLimit = 10 * time.Second
	}
	if o.HandshakeLimit <= 0 {
		o.HandshakeLimit = 10 * time.Second
	}
	if o.TextPeersFor <= 0 {
		o.TextPeersFor = 7 * 24 * time.Hour
	}
	if o.MinPing <= 0 {
		o.MinPing = 10 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}
