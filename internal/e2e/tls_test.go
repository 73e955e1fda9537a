package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"reparto/internal/secure/securetest"
)

// pki is a CA with a server's and a client's certificate, as files.
type pki struct {
	t   *testing.T
	dir string
	ca  *securetest.CA
}

func newPKI(t *testing.T) *pki {
	k := &pki{t: t, dir: t.TempDir(), ca: securetest.NewCA("Test CA")}
	securetest.Write(k.dir, "ca.pem", k.ca.PEM)
	k.ca.Issue(securetest.Leaf{Name: "balancer"}).Write(k.dir, "server")
	k.ca.Issue(securetest.Leaf{Name: "client", Client: true}).Write(k.dir, "client")
	return k
}

func (k *pki) file(name string) string { return filepath.Join(k.dir, name) }

// serverFlags and clientFlags are what the two sides are given; own is with a
// client certificate.
func (k *pki) serverFlags() []string {
	return []string{"--tls-cert", k.file("server.pem"), "--tls-key", k.file("server.key")}
}

func (k *pki) clientFlags(own bool) []string {
	flags := []string{"--tls-ca", k.file("ca.pem")}
	if own {
		flags = append(flags, "--tls-cert", k.file("client.pem"), "--tls-key", k.file("client.key"))
	}
	return flags
}

// start runs a balancer with TLS.
func (k *pki) start(args ...string) *balancer {
	k.t.Helper()
	b := startBalancer(k.t, append(k.serverFlags(), args...)...)
	own := k.ca.Issue(securetest.Leaf{Name: "test", Client: true}).TLS()
	conn, err := grpc.NewClient(b.grpc, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		RootCAs: k.ca.Pool(), Certificates: []tls.Certificate{own},
	})))
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { conn.Close() })
	b.conn = conn
	return b
}

// shown is the serial of the certificate that a port shows.
func (k *pki) shown(address string) *big.Int {
	k.t.Helper()
	conn := k.dial(address, "h2")
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber
}

func (k *pki) dial(address string, protocols ...string) *tls.Conn {
	k.t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: k.ca.Pool(), NextProtos: protocols})
	if err != nil {
		k.t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	k.t.Cleanup(func() { conn.Close() })
	return conn
}

func join(lists ...[]string) (all []string) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

func TestTLSFromEndToEnd(t *testing.T) {
	k := newPKI(t)
	b := k.start("--tls-client-ca", k.file("ca.pem"))
	startWorker(t, b, "w", k.clientFlags(true)...)
	at := []string{"submit", "--balancer", b.grpc}
	if out, code := run(t, "client", join(at, k.clientFlags(true), []string{"sum", "1,2,3,4,5"})...); out != "15\n" || code != 0 {
		t.Errorf("with a certificate: %q, exit code %d", out, code)
	}
	p := start(t, "client", join(at, k.clientFlags(false), []string{"sum", "1"})...)
	if code := p.exit(); code != 3 || !strings.Contains(p.printed(), "wants a client certificate") {
		t.Errorf("without: exit code %d, %s", code, p.printed())
	}
	// The adapter's text ports, in TLS; to the balancer it is a client.
	adapter := start(t, "adapter", join([]string{
		"--balancer", b.grpc, "--legacy-clients", "127.0.0.1:0", "--legacy-workers", "",
		"--legacy-tls-cert", k.file("server.pem"), "--legacy-tls-key", k.file("server.key"),
	}, k.clientFlags(true))...)
	k.ask(adapter.waitLine(`listening for clients.*address=(\S+)`)[1])
	adapter.signal(syscall.SIGTERM)
	if code := adapter.exit(); code != 0 {
		t.Errorf("the adapter ended with %d", code)
	}
}

// ask is an old program behind something that speaks TLS for it.
func (k *pki) ask(address string) {
	k.t.Helper()
	conn := k.dial(address)
	fmt.Fprint(conn, "TASK|t1|1,2,3,4,5\n")
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "RESULT|t1|15\n" {
		k.t.Errorf("over TLS a text client got %q, %v", line, err)
	}
}

func TestTextPortsOverTLS(t *testing.T) {
	k := newPKI(t)
	b := k.start("--legacy-tls")
	w := k.dial(b.workers)
	fmt.Fprint(w, "REGISTER|old\n")
	lines := bufio.NewReader(w)
	if line, err := lines.ReadString('\n'); line != "ACK|old\n" {
		t.Fatalf("a text worker got %q, %v", line, err)
	}
	go func() {
		line, _ := lines.ReadString('\n')
		if f := strings.Split(line, "|"); len(f) == 3 {
			fmt.Fprintf(w, "TASK_RESULT|%s|15\n", f[1])
		}
	}()
	k.ask(b.clients)
}

func TestCertificatesAreReplacedUnderLoad(t *testing.T) {
	k := newPKI(t)
	b := k.start("--legacy-tls")
	startWorker(t, b, "w", k.clientFlags(false)...)
	input, feed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	client := startIn(t, input, "client", join([]string{"submit", "--balancer", b.grpc, "--log-level", "debug"}, k.clientFlags(false), []string{"sum", "-"})...)
	input.Close()
	held := submit(t.Context(), b.conn, "sleep", "1500ms")
	b.eventually("a task runs all the while", func() bool { return b.running("w") >= 1 })
	for i := range 10 {
		next := k.ca.Issue(securetest.Leaf{Name: fmt.Sprint("balancer ", i)})
		next.Write(k.dir, "server")
		for _, port := range []string{b.grpc, b.clients} {
			if got := k.shown(port); got.Cmp(next.Serial) != 0 {
				t.Errorf("a new connection to %s sees certificate %v, want %v", port, got, next.Serial)
			}
		}
		for j := range 100 {
			fmt.Fprintf(feed, "%d,%d\n", 1000*i, j)
		}
		client.waitLine(fmt.Sprintf("^%d$", 1000*i+99))
	}
	if got := outcome(t, held).GetText(); got != "1.5s" {
		t.Errorf("the task that ran all the while gave %q", got)
	}
	feed.Close()
	if code := client.exit(); code != 0 || strings.Count(client.stdout(), "\n") != 1000 || strings.Contains(client.printed(), "lost") {
		t.Errorf("the client ended with %d and %d results:\n%s", code, strings.Count(client.stdout(), "\n"), client.printed())
	}
	// A look between the two files of a certificate finds them not to match, and what
	// is wrong then must be right again at the end.
	log := b.printed()
	halves := strings.Count(log, "TLS files have changed and can't be used")
	if strings.Count(log, "worker registered") != 1 || strings.Count(log, "level=WARN") != halves || strings.Count(log, "TLS files can be used again") != halves {
		t.Errorf("the balancer's log:\n%s", log)
	}
}

func TestTheClientCAIsReplaced(t *testing.T) {
	k := newPKI(t)
	securetest.Write(k.dir, "client-ca.pem", k.ca.PEM)
	b := k.start("--tls-client-ca", k.file("client-ca.pem"))
	startWorker(t, b, "w", k.clientFlags(true)...)
	next := securetest.NewCA("Next CA")
	securetest.Write(k.dir, "client-ca.pem", next.PEM)
	b.eventually("the log tells of the new CA", func() bool { return strings.Count(b.printed(), `"CA in force"`) == 2 })
	args := join([]string{"submit", "--balancer", b.grpc}, k.clientFlags(true), []string{"sum", "1,2"})
	p := start(t, "client", args...)
	if code := p.exit(); code != 3 || !strings.Contains(p.printed(), "does not trust the CA of the client certificate") {
		t.Errorf("with a certificate of the old CA: exit code %d, %s", code, p.printed())
	}
	next.Issue(securetest.Leaf{Client: true}).Write(k.dir, "client")
	if out, code := run(t, "client", args...); out != "3\n" || code != 0 {
		t.Errorf("with one of the new CA: %q, exit code %d", out, code)
	}
	if n := strings.Count(b.printed(), "worker registered"); n != 1 {
		t.Errorf("the worker, whose certificate is of the old CA, was registered %d times: its stream did not stay", n)
	}
}

func TestWhatTLSRefusesEndsWithAWordAndACode(t *testing.T) {
	k, stranger := newPKI(t), newPKI(t)
	b, plain := k.start(), startBalancer(t)
	for _, c := range []struct{ want, target, flags string }{
		{"is not signed by a CA in " + stranger.dir, b.grpc, "--tls-ca " + stranger.file("ca.pem")},
		{"is not signed by a CA that the system trusts", b.grpc, "--tls"},
		{"and not for other.example", b.grpc, "--tls-server-name other.example --tls-ca " + k.file("ca.pem")},
		{"does not speak TLS", plain.grpc, "--tls"},
	} {
		for name, more := range map[string][]string{
			"client submit":  {"sum", "1"},
			"client workers": nil,
			"worker":         nil,
			"adapter":        {"--legacy-clients", "127.0.0.1:0", "--legacy-workers", ""},
		} {
			words := strings.Fields(name)
			p := start(t, words[0], join(words[1:], []string{"--balancer", c.target}, strings.Fields(c.flags), more)...)
			if code := p.exit(); code != 3 || !strings.Contains(p.printed(), c.want) {
				t.Errorf("%s %s: exit code %d, want 3 and %q", name, c.flags, code, c.want)
			}
		}
	}
	p := start(t, "client", "submit", "--balancer", b.grpc, "--connect-timeout", "300ms", "sum", "1")
	if code := p.exit(); code != 3 || !strings.Contains(p.printed(), "if it wants TLS there, give --tls") {
		t.Errorf("without TLS: exit code %d", code)
	}
	w := start(t, "worker", "--balancer", b.grpc)
	w.waitLine(`no connection.*if it wants TLS there, give --tls`)
}

func TestListeningInTheClearMustBeAskedFor(t *testing.T) {
	k := newPKI(t)
	off := []string{"--legacy-clients", "", "--legacy-workers", ""}
	for _, c := range []struct {
		name string
		args []string
		open string // the flag of the port that is named; empty: none
	}{
		{"balancer", join([]string{"--grpc", "0.0.0.0:0"}, off), "--grpc 0.0.0.0:0"},
		{"balancer", join([]string{"--grpc", "[::]:0"}, off), "--grpc [::]:0"},
		{"balancer", join([]string{"--grpc", ":0"}, off), "--grpc :0"},
		{"balancer", []string{"--grpc", "localhost:0", "--legacy-clients", "0.0.0.0:0", "--legacy-workers", ""}, "--legacy-clients 0.0.0.0:0"},
		{"balancer", []string{"--grpc", "localhost:0", "--legacy-clients", "", "--legacy-workers", ":0"}, "--legacy-workers :0"},
		{"balancer", join([]string{"--grpc", ":0", "--legacy-clients", ":0", "--legacy-workers", ""}, k.serverFlags()), "--legacy-clients :0"},
		{"balancer", join([]string{"--grpc", ":0", "--legacy-clients", ":0", "--legacy-workers", "", "--legacy-tls"}, k.serverFlags()), ""},
		{"balancer", join([]string{"--grpc", "localhost:0"}, off), ""},
		{"adapter", []string{"--legacy-clients", ":0", "--legacy-workers", ""}, "--legacy-clients :0"},
		{"adapter", []string{"--legacy-clients", ":0", "--legacy-workers", "", "--legacy-tls-cert", k.file("server.pem"), "--legacy-tls-key", k.file("server.key")}, ""},
	} {
		args := c.args
		if c.name == "balancer" {
			args = append(args, "--store", "memory:")
		}
		p := start(t, c.name, args...)
		if c.open == "" {
			p.waitLine("listening for")
			p.signal(syscall.SIGTERM)
			if code := p.exit(); code != 0 || strings.Contains(p.printed(), "level=WARN") {
				t.Errorf("%s %q: exit code %d", c.name, args, code)
			}
			continue
		}
		if code := p.exit(); code != 2 || !strings.Contains(p.printed(), c.open+" (") || !strings.Contains(p.printed(), "--insecure") || !strings.Contains(p.printed(), "tls") {
			t.Errorf("%s %q: exit code %d, and should name %q", c.name, args, code, c.open)
		}
		p = start(t, c.name, append(args, "--insecure")...)
		p.waitLine("level=WARN.*" + strings.NewReplacer("[", `\[`, "]", `\]`).Replace(c.open))
		p.waitLine("listening for")
	}
}

func TestARefusalToListenLeavesNothingBehind(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if _, code := run(t, "balancer", "--grpc", ":0", "--legacy-clients", "", "--legacy-workers", "", "--store", "file:"+dir); code != 2 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("a store was made: %v", err)
	}
}

func TestPeersThatNeverShakeHandsAreDropped(t *testing.T) {
	k := newPKI(t)
	b := k.start("--legacy-tls", "--tls-handshake-timeout", "300ms")
	var idle []net.Conn
	for _, address := range []string{b.grpc, b.clients, b.workers} {
		for range 10 {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			idle = append(idle, conn)
		}
	}
	startWorker(t, b, "w", k.clientFlags(false)...)
	k.ask(b.clients)
	for _, conn := range idle {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, conn); err != nil {
			t.Fatalf("a peer that said nothing: %v", err)
		}
	}
}

func TestGRPCurlOverTLS(t *testing.T) {
	grpcurl := need(t, "grpcurl")
	k := newPKI(t)
	mutual := k.start("--tls-client-ca", k.file("ca.pem"))
	startWorker(t, mutual, "w", k.clientFlags(true)...)
	b := k.start()
	startWorker(t, b, "w", k.clientFlags(false)...)
	own := []string{"-cert", k.file("client.pem"), "-key", k.file("client.key")}
	for _, c := range []struct {
		target string
		flags  []string
		ok     bool
	}{{b.grpc, nil, true}, {mutual.grpc, own, true}, {mutual.grpc, nil, false}} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		out, err := exec.CommandContext(ctx, grpcurl, join([]string{"-cacert", k.file("ca.pem"), "-max-time", "10"}, c.flags,
			[]string{"-d", `{"function":"sum","text":"1,2,3,4,5"}`, c.target, "reparto.v1.TaskService/Submit"})...).CombinedOutput()
		cancel()
		if got := err == nil && strings.Contains(string(out), `"text": "15"`); got != c.ok {
			t.Errorf("%q: %v\n%s", c.flags, err, out)
		}
	}
}
