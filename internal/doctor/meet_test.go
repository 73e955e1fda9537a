package doctor

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"reparto/internal/auth"
	"reparto/internal/dispatch"
	"reparto/internal/rpc"
)

// guarded serves a balancer that knows one principal, shop, and its token.
func guarded(t *testing.T, rights string) (b *balancer, token string) {
	t.Helper()
	token, hash := auth.NewToken()
	file := filepath.Join(t.TempDir(), "auth.yaml")
	text := fmt.Sprintf("principals:\n  - {name: shop, tokens: [%s], %s}\n", hash, rights)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	who, err := auth.Open(file, auth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, listenTCP(t), rpc.Options{Auth: who}, dispatch.Options{}), token
}

// bearer shows a token.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}
func (bearer) RequireTransportSecurity() bool { return false }

// withToken is o for who shows the token.
func withToken(b *balancer, token string, o Options) Options {
	dial := b.options(o).Dial
	o.Dial = func(more ...grpc.DialOption) (*grpc.ClientConn, error) {
		return dial(append(more, grpc.WithPerRPCCredentials(bearer(token)))...)
	}
	return o
}

func TestRights(t *testing.T) {
	for rights, said := range map[string]string{
		`submit: ["*"]`:                   "principal shop: may submit, ask about tasks; may not work, administer",
		`work: [sum]`:                     "principal shop: may work; may not submit, ask about tasks, administer",
		`administer: true`:                "principal shop: may ask about tasks, administer; may not submit, work",
		`submit: [sum], administer: true`: "principal shop: may submit, ask about tasks, administer; may not work",
	} {
		b, token := guarded(t, rights)
		r := b.examine(t, withToken(b, token, Options{Largest: 100000}))
		r.want(t, "rights", OK, said)
		r.want(t, "balancer", OK, "messages up to 16 MiB")
		r.want(t, "message", OK, "97.66 KiB pass") // also of who may not submit
		if r.Failed() {
			t.Errorf("%s: something failed: %+v", rights, r.Findings)
		}
	}
}

func TestAStranger(t *testing.T) {
	b, _ := guarded(t, `submit: [sum]`)
	r := b.examine(t, Options{Idle: 1})
	r.want(t, "balancer", OK, "only for whom it knows")
	r.want(t, "rights", Fail, "--token-file")
	r.want(t, "stream", Skip, "may not submit")
	r.want(t, "message", Skip, "only for whom it knows")
	r.want(t, "clock", Skip, "not told")
	if !r.Reached || !r.Failed() {
		t.Errorf("reached %v, failed %v", r.Reached, r.Failed())
	}
	r = b.examine(t, withToken(b, "rpt_wrong", Options{}))
	r.want(t, "rights", Fail, "docs/auth.md")
}

func TestAnotherServerOfGRPC(t *testing.T) {
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, health.NewServer())
	b := &balancer{lis: listenTCP(t)}
	b.address = b.lis.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(b.lis) })
	defer serving.Wait()
	defer s.Stop()
	b.dial = dialer(b.lis)
	b.way = func(ctx context.Context, _, _ string) (net.Conn, error) { return b.dial(ctx) }
	r := b.examine(t, Options{})
	r.want(t, "balancer", Fail, "is no Reparto balancer")
	if !r.Reached {
		t.Error("it was reached")
	}
}

func TestABalancerWhoseStoreFails(t *testing.T) {
	b := serve(t, listenTCP(t), rpc.Options{}, dispatch.Options{})
	b.s.StoreHealth(false)
	r := b.examine(t, Options{Largest: -1})
	r.want(t, "health", Warn, "nothing can be enqueued", "store")
}
