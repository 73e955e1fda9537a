package client

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	pb "reparto/gen/reparto/v1"
)

// register is a balancer that keeps what it is told of text peers.
type register struct {
	pb.UnimplementedAdminServiceServer
	mu    sync.Mutex
	sizes []int
	kept  []*pb.TextPeer
	from  map[string]bool
}

func (r *register) ReportTextPeers(_ context.Context, req *pb.ReportTextPeersRequest) (*pb.ReportTextPeersResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.from[req.AdapterId+" "+req.Run] = true
	r.sizes = append(r.sizes, len(req.TextPeers))
	r.kept = append(r.kept, req.TextPeers...)
	return &pb.ReportTextPeersResponse{}, nil
}

func (r *register) ListTextPeers(_ context.Context, req *pb.ListTextPeersRequest) (*pb.ListTextPeersResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if req.GetPageToken() == "" {
		return &pb.ListTextPeersResponse{TextPeers: r.kept[:1500], NextPageToken: "more"}, nil
	}
	return &pb.ListTextPeersResponse{TextPeers: r.kept[1500:]}, nil
}

func TestTextPeersGoThereAndBack(t *testing.T) {
	r := &register{from: map[string]bool{}}
	l, s := bufconn.Listen(1<<20), grpc.NewServer()
	pb.RegisterAdminServiceServer(s, r)
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) })
	conn, err := grpc.NewClient("passthrough:///register", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	c := New(conn)
	t.Cleanup(func() { _ = c.Close(); conn.Close(); s.Stop(); serving.Wait() })

	peers := make([]TextPeer, 2001)
	for i := range peers {
		peers[i] = TextPeer{Kind: TextClient, Address: fmt.Sprintf("10.0.%d.%d", i/256, i%256), Port: "0.0.0.0:8888", Tasks: int64(i)}
	}
	peers[2000] = TextPeer{Kind: TextWorker, Address: "::1", Port: "[::]:8889", Connections: 3, FirstSeen: time.Hour, LastSeen: time.Second, Tasks: 1 << 40}
	if err := c.ReportTextPeers(t.Context(), TextAdapter{ID: "web1", Run: "r"}, peers); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(r.sizes) != "[1000 1000 1]" || len(r.from) != 1 || !r.from["web1 r"] {
		t.Errorf("requests of %v peers, from %v", r.sizes, r.from)
	}
	i := 0
	for p, err := range c.TextPeers(t.Context()) {
		if err != nil || p != peers[i] {
			t.Fatalf("number %d came back as %+v, %v; was %+v", i, p, err, peers[i])
		}
		i++
	}
	if i != len(peers) {
		t.Errorf("%d came back", i)
	}
}
