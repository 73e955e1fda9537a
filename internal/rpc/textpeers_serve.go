package rpc

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/task"
)

const (
	maxTextReport = 1000 // peers in one request
	// maxTextAddress bounds an address or a port, in characters: an IPv6 address
	// with its zone is shorter.
	maxTextAddress = 64
	// maxTextAge bounds how long ago something can have been.
	maxTextAge = 100 * 365 * 24 * time.Hour
	// maxTextTasks bounds a count, so that sums stay numbers.
	maxTextTasks = 1 << 53
)

// TextPeers tells how many addresses speak the text protocol, and how many tasks
// they had. It goes through all of them, about 2 ms for a hundred thousand,
// and may be called concurrently.
func (s *Server) TextPeers() TextPeerCounts { return s.text.counts(time.Now()) }

func (s *adminService) ReportTextPeers(ctx context.Context, req *pb.ReportTextPeersRequest) (*pb.ReportTextPeersResponse, error) {
	r, err := textReportOf(req)
	if err != nil {
		return nil, err
	}
	r.owner = callerOf(ctx).owner()
	if err := s.text.report(time.Now(), r); err != nil {
		return nil, err
	}
	return &pb.ReportTextPeersResponse{}, nil
}

func (s *adminService) ListTextPeers(_ context.Context, req *pb.ListTextPeersRequest) (*pb.ListTextPeersResponse, error) {
	limit, token, err := pageUpTo(req.GetPageSize(), req.GetPageToken(), task.MaxIDLen+2*maxTextAddress+8)
	if err != nil {
		return nil, err
	}
	after, err := textPlaceOf(token)
	if err != nil {
		return nil, err
	}
	found, next := nextPage(s.text.list(time.Now(), after, limit+1), limit, func(p listedPeer) string { return p.String() })
	resp := &pb.ListTextPeersResponse{NextPageToken: next}
	for i := range found {
		p := &found[i]
		resp.TextPeers = append(resp.TextPeers, &pb.TextPeer{
			AdapterId: p.adapter, Kind: textKindsOnWire[p.kind], Address: p.address.String(), Port: p.port,
			Connections: p.connections, Tasks: p.tasks,
			FirstSeenAgo: durationpb.New(p.first), LastSeenAgo: durationpb.New(p.last),
		})
	}
	return resp, nil
}

var textKindsOnWire = [textKinds]pb.TextPeerKind{
	textClient: pb.TextPeerKind_TEXT_PEER_KIND_CLIENT, textWorker: pb.TextPeerKind_TEXT_PEER_KIND_WORKER,
}

// String is a place as a page token has it.
func (p textPlace) String() string {
	return strings.Join([]string{p.port, p.address.String(), p.adapter, string('0' + rune(p.kind))}, "\x00")
}

// textPlaceOf reads what String has written; nothing is before all places.
func textPlaceOf(token string) (p textPlace, err error) {
	if token == "" {
		return p, nil
	}
	parts := strings.Split(token, "\x00")
	if len(parts) == 4 && (parts[3] == "0" || parts[3] == "1") {
		p = textPlace{port: parts[0], adapter: parts[2], kind: textKind(parts[3][0] - '0')}
		if p.address, err = netip.ParseAddr(parts[1]); err == nil {
			return p, nil
		}
	}
	return p, invalid("page_token", "is none of ours; give next_page_token of the answer before, or nothing")
}

// textReportOf checks a report.
func textReportOf(req *pb.ReportTextPeersRequest) (*textReport, error) {
	r := &textReport{adapter: req.GetAdapterId(), run: req.GetRun()}
	for field, name := range map[string]string{"adapter_id": r.adapter, "run": r.run} {
		if err := task.CheckID(name); err != nil {
			return nil, invalid(field, strings.TrimPrefix(err.Error(), "task_id: "))
		}
	}
	if n := len(req.GetTextPeers()); n > maxTextReport {
		return nil, invalid("text_peers", fmt.Sprintf("are %d; give at most %d, and the others in further requests", n, maxTextReport))
	}
	r.peers = make([]reportedPeer, len(req.GetTextPeers()))
	for i, from := range req.GetTextPeers() {
		if err := r.peers[i].read(from); err != nil {
			return nil, numbered(err, "text_peers", i)
		}
	}
	return r, nil
}

// numbered puts the number of an entry into an error about a field of it.
func numbered(err error, list string, i int) error {
	if r, ok := errors.AsType[*refusal](err); ok {
		entry := fmt.Sprintf("%s[%d]", list, i)
		r.field, r.message = strings.Replace(r.field, list, entry, 1), strings.Replace(r.message, list, entry, 1)
	}
	return err
}

func (p *reportedPeer) read(from *pb.TextPeer) (err error) {
	switch from.GetKind() {
	case pb.TextPeerKind_TEXT_PEER_KIND_CLIENT:
		p.kind = textClient
	case pb.TextPeerKind_TEXT_PEER_KIND_WORKER:
		p.kind = textWorker
	default:
		return invalid("text_peers.kind", fmt.Sprintf("is %d; give client (1) or worker (2)", from.GetKind()))
	}
	if p.address, err = netip.ParseAddr(from.GetAddress()); err != nil || len(from.GetAddress()) > maxTextAddress {
		return invalid("text_peers.address", fmt.Sprintf("%.64q is not an IP address without a port", from.GetAddress()))
	}
	p.address = p.address.Unmap()
	if p.port = from.GetPort(); p.port == "" || len(p.port) > maxTextAddress || strings.ContainsFunc(p.port, unprintable) {
		return invalid("text_peers.port", fmt.Sprintf("is %.64q; give 1 to %d printable characters, such as 0.0.0.0:8888", p.port, maxTextAddress))
	}
	if p.connections = from.GetConnections(); p.connections < 0 {
		return invalid("text_peers.connections", fmt.Sprintf("is %d; give 0 or more", p.connections))
	}
	if p.tasks = from.GetTasks(); p.tasks < 0 || p.tasks > maxTextTasks {
		return invalid("text_peers.tasks", fmt.Sprintf("is %d; give 0 to %d", p.tasks, int64(maxTextTasks)))
	}
	if p.first, err = span("text_peers.first_seen_ago", from.GetFirstSeenAgo(), 0, maxTextAge, 0); err == nil {
		p.last, err = span("text_peers.last_seen_ago", from.GetLastSeenAgo(), 0, maxTextAge, 0)
	}
	return err
}

func unprintable(r rune) bool { return r <= ' ' || r > '~' }
