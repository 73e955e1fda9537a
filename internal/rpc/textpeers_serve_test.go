package rpc

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
)

// textPeerOf is one as it is reported.
func textPeerOf(kind pb.TextPeerKind, address string) *pb.TextPeer {
	return &pb.TextPeer{
		Kind: kind, Address: address, Port: "0.0.0.0:8888", Connections: 2, Tasks: 3,
		FirstSeenAgo: durationpb.New(time.Hour), LastSeenAgo: durationpb.New(time.Minute),
	}
}

const (
	wireClient = pb.TextPeerKind_TEXT_PEER_KIND_CLIENT
	wireWorker = pb.TextPeerKind_TEXT_PEER_KIND_WORKER
)

func TestTextPeersOverTheWire(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	var peers []*pb.TextPeer
	for i := range 500 {
		peers = append(peers, textPeerOf(wireClient, fmt.Sprintf("10.0.%d.%d", i/256, i%256)), textPeerOf(wireWorker, fmt.Sprintf("fe80::%x%%eth0", i+1)))
	}
	if _, err := h.admin.ReportTextPeers(h.ctx, &pb.ReportTextPeersRequest{AdapterId: "web1:8888", Run: "r1", TextPeers: peers}); err != nil {
		t.Fatal(err)
	}
	var got []*pb.TextPeer
	req := &pb.ListTextPeersRequest{PageSize: 333}
	for pages := 1; ; pages++ {
		resp, err := h.admin.ListTextPeers(h.ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, resp.TextPeers...)
		if req.PageToken = resp.NextPageToken; req.PageToken == "" {
			if pages != 4 {
				t.Errorf("%d pages", pages)
			}
			break
		}
	}
	if len(got) != len(peers) {
		t.Fatalf("%d peers are listed, want %d", len(got), len(peers))
	}
	for i, want := range map[int]*pb.TextPeer{0: peers[0], 499: peers[998], 500: peers[1]} {
		if d := got[i].FirstSeenAgo.AsDuration() - time.Hour; d < 0 || d > patience {
			t.Errorf("%v: first seen %v too long ago", got[i], d)
		}
		if d := got[i].LastSeenAgo.AsDuration() - time.Minute; d < 0 || d > patience {
			t.Errorf("%v: last seen %v too long ago", got[i], d)
		}
		got[i].FirstSeenAgo, got[i].LastSeenAgo = want.FirstSeenAgo, want.LastSeenAgo
		want.AdapterId = "web1:8888"
		if !proto.Equal(got[i], want) {
			t.Errorf("number %d is %v, want %v", i, got[i], want)
		}
	}
	want := TextPeerCounts{Clients: TextPeerCount{500, 1500}, Workers: TextPeerCount{500, 1500}}
	if c := h.s.TextPeers(); c != want {
		t.Errorf("counts %+v, want %+v", c, want)
	}
}

func TestTextReportsAreChecked(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	for field, spoil := range map[string]func(r *pb.ReportTextPeersRequest, p *pb.TextPeer){
		"adapter_id":                   func(r *pb.ReportTextPeersRequest, _ *pb.TextPeer) { r.AdapterId = "" },
		"run":                          func(r *pb.ReportTextPeersRequest, _ *pb.TextPeer) { r.Run = "a b" },
		"text_peers":                   func(r *pb.ReportTextPeersRequest, p *pb.TextPeer) { r.TextPeers = make([]*pb.TextPeer, 1001) },
		"text_peers[1].kind":           func(_ *pb.ReportTextPeersRequest, p *pb.TextPeer) { p.Kind = 3 },
		"text_peers[1].address":        func(_ *pb.ReportTextPeersRequest, p *pb.TextPeer) { p.Address = "10.0.0.1:80" },
		"text_peers[1].port":           func(_ *pb.ReportTextPeersRequest, p *pb.TextPeer) { p.Port = "a\x00b" },
		"text_peers[1].connections":    func(_ *pb.ReportTextPeersRequest, p *pb.TextPeer) { p.Connections = -1 },
		"text_peers[1].tasks":          func(_ *pb.ReportTextPeersRequest, p *pb.TextPeer) { p.Tasks = -1 },
		"text_peers[1].first_seen_ago": func(_ *pb.ReportTextPeersRequest, p *pb.TextPeer) { p.FirstSeenAgo = durationpb.New(-1) },
		"text_peers[1].last_seen_ago":  func(_ *pb.ReportTextPeersRequest, p *pb.TextPeer) { p.LastSeenAgo = durationpb.New(maxTextAge + 1) },
	} {
		p := textPeerOf(wireClient, "10.0.0.1")
		r := &pb.ReportTextPeersRequest{AdapterId: "a", Run: "1", TextPeers: []*pb.TextPeer{textPeerOf(wireClient, "10.0.0.2"), p}}
		spoil(r, p)
		_, err := h.admin.ReportTextPeers(h.ctx, r)
		name := strings.ReplaceAll(strings.ReplaceAll(strings.ToUpper(field), "[1]", ""), ".", "_")
		wants(t, err, refused{code: codes.InvalidArgument, reason: name, field: field})
	}
	if c := h.s.TextPeers(); c != (TextPeerCounts{}) {
		t.Errorf("%+v was kept of what was refused", c)
	}
	longest := textPeerOf(wireWorker, "fe80:1111:2222:3333:4444:5555:6666:7777%"+strings.Repeat("z", 24))
	longest.Port = strings.Repeat("p", maxTextAddress)
	last := &pb.ReportTextPeersRequest{AdapterId: strings.Repeat("i", 128), Run: "1", TextPeers: []*pb.TextPeer{longest, textPeerOf(wireClient, "10.0.0.1")}}
	if _, err := h.admin.ReportTextPeers(h.ctx, last); err != nil {
		t.Fatal(err)
	}
	resp, err := h.admin.ListTextPeers(h.ctx, &pb.ListTextPeersRequest{PageSize: 1})
	if err == nil {
		resp, err = h.admin.ListTextPeers(h.ctx, &pb.ListTextPeersRequest{PageSize: 1, PageToken: resp.NextPageToken})
	}
	if err != nil || len(resp.TextPeers) != 1 || resp.TextPeers[0].Address != longest.Address || resp.NextPageToken != "" {
		t.Errorf("the second page is %v, %v", resp, err)
	}
}

func TestTextPagesAreChecked(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	for _, token := range []string{"?", "YQ", "YQBiAGMAZA"} { // no base64; a; a, b, c and d between NULs
		_, err := h.admin.ListTextPeers(h.ctx, &pb.ListTextPeersRequest{PageToken: token})
		wants(t, err, refused{code: codes.InvalidArgument, reason: "PAGE_TOKEN", field: "page_token"})
	}
	_, err := h.admin.ListTextPeers(h.ctx, &pb.ListTextPeersRequest{PageSize: 1001})
	wants(t, err, refused{code: codes.InvalidArgument, reason: "PAGE_SIZE", field: "page_size"})
}

// Whoever may act as an adapter may tell of its peers, under names of its own.
func TestWhoMayReportTextPeers(t *testing.T) {
	d, as := principals(t, map[string]string{"text": `submit: [sum]`, "farm": `work: [sum]`, "boss": `administer: true`})
	h := serve(t, dispatch.Options{}, Options{Auth: d})
	report := func(name, id string) error {
		_, err := h.admin.ReportTextPeers(as(h.ctx, name), &pb.ReportTextPeersRequest{AdapterId: id, Run: "1"})
		return err
	}
	if err := report("text", "a"); err != nil {
		t.Error(err)
	}
	if err := report("farm", "b"); err != nil {
		t.Error(err)
	}
	wants(t, report("farm", "a"), refused{code: codes.PermissionDenied, reason: "TEXT_ADAPTER_TAKEN"})
	wants(t, report("boss", "c"), refused{code: codes.PermissionDenied, reason: "MAY_NOT_REPORT"})
	_, err := h.admin.ListTextPeers(as(h.ctx, "text"), &pb.ListTextPeersRequest{})
	wants(t, err, refused{code: codes.PermissionDenied, reason: "MAY_NOT_ADMINISTER"})
	if _, err := h.admin.ListTextPeers(as(h.ctx, "boss"), &pb.ListTextPeersRequest{}); err != nil {
		t.Error(err)
	}
}
