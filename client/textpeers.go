package client

import (
	"context"
	"iter"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "reparto/gen/reparto/v1"
)

// TextPeerKind is what a program that speaks the old text protocol does.
type TextPeerKind string

// The kinds.
const (
	TextClient TextPeerKind = "client"
	TextWorker TextPeerKind = "worker"
)

// TextPeer is an address that speaks the old text protocol to one of an adapter's
// ports. Programs on one machine share it.
type TextPeer struct {
	Kind    TextPeerKind
	Address string // an IP address, without a port
	// Port is where the adapter listens, such as "0.0.0.0:8888".
	Port string
	// Adapter names the adapter, in listings.
	Adapter     string
	Connections int // that are open
	// FirstSeen and LastSeen are how long ago that was.
	FirstSeen, LastSeen time.Duration
	// Tasks are those that a client submitted or a worker answered.
	Tasks int64
}

// TextAdapter names who reports text peers.
type TextAdapter struct {
	// ID is the same in all reports, also after a restart: 1 to 128 of
	// [A-Za-z0-9._:-]. It belongs to the principal that reports first.
	ID string
	// Run is another one after each start; it has the form of ID.
	Run string
}

// TextPeers goes through those who speak the text protocol, as Workers does, in the
// order of port, address and adapter. The balancer knows whom it was told of since
// it started, and forgets who was not seen for a time, seven days by default.
func (c *Client) TextPeers(ctx context.Context) iter.Seq2[TextPeer, error] {
	return pages(func(token string) ([]*pb.TextPeer, string, error) {
		resp, err := ask(ctx, c, "", c.admin.ListTextPeers, &pb.ListTextPeersRequest{PageSize: pageSize, PageToken: token})
		return resp.GetTextPeers(), resp.GetNextPageToken(), err
	}, textPeerOf)
}

// ReportTextPeers is for adapters of the text protocol: it tells the balancer whom
// one serves, a request for each 1000. Tasks count since the start of the run; what
// was told before of the same address is replaced, and of others it stays. An
// adapter that has not reported for a minute counts as gone, and its connections
// with it. The error is an *Error, as of Pause; some peers may have been told.
func (c *Client) ReportTextPeers(ctx context.Context, from TextAdapter, peers []TextPeer) error {
	for some := range slices.Chunk(peers, pageSize) {
		req := &pb.ReportTextPeersRequest{AdapterId: from.ID, Run: from.Run, TextPeers: make([]*pb.TextPeer, len(some))}
		for i := range some {
			req.TextPeers[i] = some[i].toWire()
		}
		if _, err := ask(ctx, c, "", c.admin.ReportTextPeers, req); err != nil {
			return err
		}
	}
	return nil
}

func (p *TextPeer) toWire() *pb.TextPeer {
	to := &pb.TextPeer{
		Address: p.Address, Port: p.Port, Connections: int32(p.Connections), Tasks: p.Tasks,
		FirstSeenAgo: durationpb.New(p.FirstSeen), LastSeenAgo: durationpb.New(p.LastSeen),
	}
	switch p.Kind {
	case TextClient:
		to.Kind = pb.TextPeerKind_TEXT_PEER_KIND_CLIENT
	case TextWorker:
		to.Kind = pb.TextPeerKind_TEXT_PEER_KIND_WORKER
	}
	return to
}

func textPeerOf(p *pb.TextPeer) TextPeer {
	to := TextPeer{
		Address: p.GetAddress(), Port: p.GetPort(), Adapter: p.GetAdapterId(), Connections: int(p.GetConnections()),
		FirstSeen: p.GetFirstSeenAgo().AsDuration(), LastSeen: p.GetLastSeenAgo().AsDuration(), Tasks: p.GetTasks(),
	}
	switch p.GetKind() {
	case pb.TextPeerKind_TEXT_PEER_KIND_CLIENT:
		to.Kind = TextClient
	case pb.TextPeerKind_TEXT_PEER_KIND_WORKER:
		to.Kind = TextWorker
	}
	return to
}
