package doctor

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"reparto/internal/dispatch"
	"reparto/internal/rpc"
	"reparto/internal/secure"
	"reparto/internal/secure/securetest"
)

// need returns where a program is, or skips the test.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if slices.Contains(strings.Split(os.Getenv("REPARTO_TEST_NEED"), ","), program) {
		t.Fatalf("%s is not there, and REPARTO_TEST_NEED says that it must be", program)
	}
	t.Skipf("SKIPPED: %s is not installed", program)
	return ""
}

// behind starts a proxy before the balancer, which ends with the test. The
// configuration has ADDRESS for where clients dial, BALANCER for the balancer and
// DIR for a place of its own. The proxy gets its port open, so that nobody takes it
// meanwhile and the first connection waits for it.
func (b *balancer) behind(t *testing.T, program, config string) *balancer {
	t.Helper()
	path, dir := need(t, program), t.TempDir()
	l := listenTCP(t)
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	l.Close()
	address := l.Addr().String()
	file := filepath.Join(dir, "config")
	text := strings.NewReplacer("ADDRESS", address, "BALANCER", b.lis.Addr().String(), "DIR", dir).Replace(config)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, map[string][]string{"haproxy": {"-db", "-f", file}, "nginx": {"-e", "stderr", "-p", dir, "-c", file}}[program]...)
	cmd.ExtraFiles = []*os.File{socket} // 3
	cmd.Env = append(os.Environ(), "NGINX=3;")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { _ = cmd.Wait() })
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // nginx takes its worker along
		running.Wait()
		if t.Failed() {
			t.Logf("%s with\n%s\nsaid:\n%s", program, text, said.String())
		}
	})
	return &balancer{d: b.d, s: b.s, lis: b.lis, dial: b.dial, address: address, way: new(net.Dialer).DialContext}
}

const configOfHAProxy = `
global
    tune.h2.max-concurrent-streams 1000
defaults
    mode http
    timeout connect 2s
    timeout client  1s
    timeout server  1s
    LINES
frontend grpc
    bind fd@3 proto h2
    default_backend balancers
backend balancers
    server balancer1 BALANCER proto h2
`

const configOfNginx = `
daemon off;
worker_processes 1;
pid DIR/pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path DIR/body;
    proxy_temp_path DIR/proxy;
    fastcgi_temp_path DIR/fastcgi;
    uwsgi_temp_path DIR/uwsgi;
    scgi_temp_path DIR/scgi;
    server {
        listen ADDRESS http2;
        LINES
        location / { grpc_pass grpc://BALANCER; }
    }
}
`

// with puts lines into a configuration.
func with(config string, lines ...string) string {
	return strings.Replace(config, "LINES", strings.Join(lines, "\n        "), 1)
}

// idleFor is longer than the time limits of the proxies here.
const idleFor = 2 * time.Second

func freshBalancer(t *testing.T) *balancer {
	t.Helper()
	return serve(t, listenTCP(t), rpc.Options{}, dispatch.Options{})
}

// mended asserts that nothing fails any more.
func (r found) mended(t *testing.T) {
	t.Helper()
	r.want(t, "idle-client", OK)
	r.want(t, "idle-worker", OK)
	r.want(t, "volume", OK)
	if r.Failed() || len(r.Advice) > 0 {
		t.Errorf("with the lines of the advice something fails: %+v, %+v", r.Findings, r.Advice)
	}
}

// cutAfterASecond asserts that idle streams were, as far as a busy machine allows.
func (r found) cutAfterASecond(t *testing.T, check string) {
	t.Helper()
	f := r.want(t, check, Fail, "was cut after", "time limits of what stands between")
	if ms, ok := f.Values["cut_after_ms"].(float64); !ok || ms < 900 || ms >= float64(idleFor.Milliseconds()) {
		t.Errorf("%s was cut after %v ms, want 1000", check, f.Values["cut_after_ms"])
	}
}

func TestHAProxyThatCutsIdleStreams(t *testing.T) {
	t.Parallel()
	b := freshBalancer(t)
	before := b.holds(t)
	r := b.behind(t, "haproxy", with(configOfHAProxy)).examine(t, Options{Idle: idleFor})
	r.want(t, "proxy", OK, "HAProxy stands between")
	r.want(t, "message", OK, "16 MiB")
	r.cutAfterASecond(t, "idle-client")
	r.cutAfterASecond(t, "idle-worker")
	r.lines(t, haproxy, "timeout client  1h", "timeout server  1h")
	if len(r.Advice) != 1 {
		t.Fatalf("advice for others too, or for none: %+v", r.Advice)
	}
	b.eventually(t, "nothing is left behind", func() bool { return b.holds(t) == before })
	b.behind(t, "haproxy", with(configOfHAProxy, r.Advice[0].Lines...)).examine(t, Options{Idle: idleFor}).mended(t)
}

func TestHAProxyThatPassesBytesOn(t *testing.T) {
	t.Parallel()
	b := freshBalancer(t)
	config := strings.ReplaceAll(strings.ReplaceAll(configOfHAProxy, "mode http", "mode tcp"), " proto h2", "")
	r := b.behind(t, "haproxy", with(config)).examine(t, Options{Idle: idleFor, Largest: -1})
	r.want(t, "proxy", OK, "none that speaks HTTP")
	r.cutAfterASecond(t, "idle-client")
	r.lines(t, haproxy, "timeout client  1h", "timeout server  1h", "timeout tunnel  1h")
	r.lines(t, nginx, "proxy_timeout 1h;")
}

func TestHAProxyThatSpeaksHTTP1ToTheBalancer(t *testing.T) {
	t.Parallel()
	config := strings.ReplaceAll(configOfHAProxy, "BALANCER proto h2", "BALANCER")
	r := freshBalancer(t).behind(t, "haproxy", with(config)).examine(t, Options{})
	r.want(t, "http2", Fail, "HAProxy, which answers 50", "HTTP/2") // 502, or 504 when the balancer waits for more
	r.lines(t, haproxy, "proto h2")
	if r.Reached {
		t.Error("the balancer was reached")
	}
}

func TestHAProxyThatScattersCalls(t *testing.T) {
	t.Parallel()
	one, other := freshBalancer(t), freshBalancer(t)
	config := configOfHAProxy + "    server balancer2 " + other.address + " proto h2\n"
	b := one.behind(t, "haproxy", with(config))
	r := b.examine(t, Options{Largest: -1})
	r.want(t, "spread", Warn, "calls of one connection reach 2 balancers", "one balancer")
	r.lines(t, haproxy, "balance source")
	if len(r.Advice) != 1 {
		t.FailNow()
	}
	r = one.behind(t, "haproxy", with(config, r.Advice[0].Lines...)).examine(t, Options{Largest: -1})
	r.want(t, "spread", OK, "reach a single balancer")
}

func TestNginxAsItComes(t *testing.T) {
	t.Parallel()
	b := freshBalancer(t)
	before := b.holds(t)
	short := []string{"grpc_read_timeout 1s;", "client_body_timeout 1s;"}
	r := b.behind(t, "nginx", with(configOfNginx, short...)).examine(t, Options{Idle: idleFor})
	r.want(t, "proxy", OK, "nginx/", "stands between")
	r.want(t, "message", Fail, "1 MiB do not", "413 (Request Entity Too Large)")
	r.cutAfterASecond(t, "idle-client")
	r.cutAfterASecond(t, "idle-worker")
	r.lines(t, nginx, "client_max_body_size 0;", "grpc_read_timeout 1h;", "grpc_send_timeout 1h;", "client_body_timeout 1h;")
	if len(r.Advice) != 1 {
		t.Fatalf("advice for others too, or for none: %+v", r.Advice)
	}
	b.eventually(t, "nothing is left behind", func() bool { return b.holds(t) == before })
	b.behind(t, "nginx", with(configOfNginx, r.Advice[0].Lines...)).examine(t, Options{Idle: idleFor}).mended(t)
}

// Each of the limits alone cuts, so that each of the lines is needed.
func TestNginxCutsByEitherLimit(t *testing.T) {
	t.Parallel()
	for _, limit := range []string{"grpc_read_timeout 1s;", "client_body_timeout 1s;"} {
		b := freshBalancer(t).behind(t, "nginx", with(configOfNginx, limit))
		r := b.examine(t, Options{Idle: idleFor, Largest: -1})
		r.cutAfterASecond(t, "idle-client")
	}
}

func TestNginxCountsWhatPassesOnAStream(t *testing.T) {
	t.Parallel()
	b := freshBalancer(t).behind(t, "nginx", with(configOfNginx, "client_max_body_size 20m;"))
	r := b.examine(t, Options{})
	r.want(t, "message", OK, "16 MiB")
	r.want(t, "volume", Fail, "of 32 MiB")
	r.lines(t, nginx, "client_max_body_size 0;")
}

func TestNginxThatSpeaksHTTP1(t *testing.T) {
	t.Parallel()
	config := strings.ReplaceAll(configOfNginx, "grpc_pass grpc://", "proxy_pass http://")
	r := freshBalancer(t).behind(t, "nginx", with(config)).examine(t, Options{Timeout: 3 * time.Second})
	r.want(t, "http2", Fail, "nginx/", "answers")
	r.lines(t, nginx, "grpc_pass")

	config = strings.ReplaceAll(configOfNginx, " http2;", ";")
	r = freshBalancer(t).behind(t, "nginx", with(config)).examine(t, Options{Timeout: 3 * time.Second})
	r.want(t, "http2", Fail, "in HTTP/1.1", "switch on HTTP/2")
	r.lines(t, nginx, "listen 9090 http2;")
}

func TestNginxThatScattersCalls(t *testing.T) {
	t.Parallel()
	one, other := freshBalancer(t), freshBalancer(t)
	config := strings.Replace(configOfNginx, "    server {", "    upstream balancers { LINES server BALANCER; server "+other.address+"; }\n    server {", 1)
	config = strings.Replace(strings.Replace(config, "        LINES\n", "", 1), "grpc://BALANCER", "grpc://balancers", 1)
	r := one.behind(t, "nginx", with(config)).examine(t, Options{Largest: -1})
	r.want(t, "spread", Warn, "calls of one connection reach 2 balancers")
	r.lines(t, nginx, "hash $remote_addr consistent;")
	if len(r.Advice) != 1 {
		t.FailNow()
	}
	r = one.behind(t, "nginx", with(config, r.Advice[0].Lines[0]+"\n")).examine(t, Options{Largest: -1})
	r.want(t, "spread", OK, "reach a single balancer")
}

func TestNginxThatEndsTLS(t *testing.T) {
	t.Parallel()
	ca, dir := securetest.NewCA("CA"), t.TempDir()
	cert, key := ca.Issue(securetest.Leaf{Name: "proxy"}).Write(dir, "proxy")
	config := strings.ReplaceAll(configOfNginx, " http2;", " ssl http2;")
	lines := []string{"ssl_certificate " + cert + ";", "ssl_certificate_key " + key + ";", "client_max_body_size 0;"}
	b := freshBalancer(t)
	o := Options{Credentials: trusting(t, ca, secure.ClientOptions{})}
	r := b.behind(t, "nginx", with(config, lines...)).examine(t, o)
	r.want(t, "tls", OK, "TLS 1.") // 1.3 is off in Debian 12's unless it is asked for
	r.want(t, "certificate", Warn, "CN=proxy", "renew it where TLS ends")
	r.want(t, "proxy", OK, "nginx/")
	if r.Failed() || len(r.Advice) > 0 {
		t.Errorf("something fails: %+v, %+v", r.Findings, r.Advice)
	}

	config = strings.ReplaceAll(configOfNginx, " http2;", " ssl;")
	r = b.behind(t, "nginx", with(config, lines...)).examine(t, o)
	r.want(t, "http2", Fail, "agrees to", "not to h2")
	r.lines(t, nginx, "listen 9090 ssl http2;")
}
