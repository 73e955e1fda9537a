package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"reparto/internal/cli"
	"reparto/internal/secure/securetest"
)

func TestDoctorFindsNothing(t *testing.T) {
	b := startBalancer(t, nil)
	b.want(t, 0, `3\n`, "submit", "sum", "1,2") // the worker is there
	said := b.want(t, 0, `ok    connect             127.0.0.1:.*\nskip  tls .*\nok    http2 .*\nok    idle-worker .*`, "doctor", "--idle", "50ms")
	if strings.Contains(said, "warn  ") || strings.Contains(said, "FAIL  ") || strings.Contains(said, "Do:") {
		t.Errorf("it complains:\n%s", said)
	}
	b.want(t, 0, `WORKER .*\nw1 [^\n]*\n`, "workers") // and nobody else
	b.want(t, 0, `FUNCTION [^\n]*\necho +open [^\n]*\nsleep +open [^\n]*\nsum +open [^\n]*\n`, "functions")
	b.want(t, 0, `ID [^\n]*\n`, "list")
}

func TestDoctorForPrograms(t *testing.T) {
	b := startBalancer(t, nil)
	for _, flag := range []string{"--json", "--output=json"} {
		said := b.want(t, 0, `.*`, "doctor", flag, "--largest", "100000")
		checks := map[string]string{}
		for line := range strings.Lines(said) {
			var f struct {
				Check, Status, Said string
				Values              map[string]any
			}
			if err := json.Unmarshal([]byte(line), &f); err != nil || f.Said == "" {
				t.Fatalf("%v in %q", err, line)
			}
			checks[f.Check] = f.Status
			if f.Check == "message" && f.Values["passes_bytes"] != 100000.0 {
				t.Errorf("got %s", line)
			}
		}
		if checks["balancer"] != "ok" || checks["idle"] != "skip" || len(checks) < 12 {
			t.Errorf("got %v", checks)
		}
	}
}

// answering puts something there that says a few words to whoever speaks first.
func answering(t *testing.T, words string) *balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, words)
			conn.Close()
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	return &balancer{address: l.Addr().String()}
}

func TestDoctorWithoutAnAnswerOfGRPC(t *testing.T) {
	b := answering(t, "HTTP/1.1 404 Not Found\r\nServer: nginx/1.22.1\r\nContent-Length: 0\r\n\r\n")
	b.want(t, cli.NoConnection, `ok    connect .*FAIL  http2 +nginx/1.22.1 answers in HTTP/1.1: 404 Not Found\. Do: switch on HTTP/2[^\n]*\nFAIL  grpc .*

Change in the configuration of Nginx \(to judge by its header server: nginx/1.22.1\):
    listen 9090 http2;  # HTTP/2 in the clear.*\n`, "doctor")
	said := b.want(t, cli.NoConnection, `.*`, "doctor", "--json")
	var advice struct {
		Check, Proxy string
		Lines        []string
	}
	last := said[strings.LastIndex(said, "\n")+1:]
	if err := json.Unmarshal([]byte(last), &advice); err != nil || advice.Check != "advice" || advice.Proxy != "Nginx" || len(advice.Lines) != 1 {
		t.Errorf("%v: %s", err, last)
	}
	b = answering(t, "\x1b[31mERROR|no\n")
	if said := b.want(t, cli.NoConnection, `.*text protocol.*`, "doctor"); strings.Contains(said, "\x1b") {
		t.Errorf("the terminal gets %q", said)
	}
}

func TestDoctorOfAnotherServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, health.NewServer())
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) })
	defer serving.Wait()
	defer s.Stop()
	b := &balancer{address: l.Addr().String()}
	b.want(t, cli.Failed, `.*FAIL  balancer .*is no Reparto balancer.*`, "doctor")
}

func TestDoctorOfTLS(t *testing.T) {
	b := answering(t, "") // which speaks no TLS
	ca := securetest.NewCA("CA")
	dir := t.TempDir()
	file := securetest.Write(dir, "ca.pem", ca.PEM)
	cert, key := ca.Issue(securetest.Leaf{Name: "alice", Client: true}).Write(dir, "alice")
	b.want(t, cli.NoConnection, `.*warn  client-certificate  the client certificate, CN=alice, .*FAIL  tls .*`, "doctor", "--tls-ca", file, "--tls-cert", cert, "--tls-key", key)
	b.want(t, cli.NoConnection, `.*ok    client-certificate .*`, "doctor", "--tls-ca", file, "--tls-cert", cert, "--tls-key", key, "--expiry-warning", "30m")
}

func TestDoctorIsAskedWrongly(t *testing.T) {
	b := &balancer{address: "127.0.0.1:1"}
	for _, args := range [][]string{
		{"--timeout", "0s"}, {"--idle", "-1s"}, {"--largest", "-2"}, {"--expiry-warning", "soon"}, {"--tls-ca", "nowhere.pem"}, {"more"},
	} {
		b.want(t, cli.Usage, `client doctor: .*see 'client doctor --help'\)\n`, append([]string{"doctor"}, args...)...)
	}
}

func TestDoctorIsInterrupted(t *testing.T) {
	b := startBalancer(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	// The last line before streams are held.
	stop := writer(func(p []byte) {
		if out.Write(p); bytes.Contains(p, []byte("volume")) {
			cancel()
		}
	})
	if code := run(ctx, []string{"doctor", "--balancer", b.address, "--idle", "1h", "--largest", "-1"}, strings.NewReader(""), stop, io.Discard); code != cli.Interrupted {
		t.Errorf("exit code %d:\n%s", code, out.String())
	}
}

type writer func(p []byte)

func (w writer) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}
