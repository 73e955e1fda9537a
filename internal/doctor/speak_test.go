package doctor

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"reparto/internal/dispatch"
	"reparto/internal/rpc"
)

// page puts a server of HTTP/2 there that answers everything by answer.
func page(t *testing.T, answer http.HandlerFunc) *balancer {
	t.Helper()
	l := listenTCP(t)
	b := &balancer{address: l.Addr().String(), way: new(net.Dialer).DialContext}
	s := &http.Server{Handler: answer, Protocols: new(http.Protocols)}
	s.Protocols.SetUnencryptedHTTP2(true)
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() {
		s.Close()
		serving.Wait()
	})
	return b
}

func html(status int, server, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("content-type", "text/html")
		if server != "" {
			w.Header().Set("server", server)
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, "<html><head><title>%d %s</title></head><body>%s</body></html>", status, http.StatusText(status), text)
	}
}

func TestAPageInPlaceOfAnAnswer(t *testing.T) {
	for _, c := range []struct {
		status            int
		server, text      string
		said, do, inNginx string
		inHAProxy         string
	}{
		{404, "nginx/1.22.1", "nothing here", `nginx/1.22.1, which answers 404 Not Found (text/html): "404 Not Found nothing here"`, "no route to the balancer", "grpc_pass", ""},
		{502, "nginx", "", "502 Bad Gateway", "speak HTTP/2", "", "proto h2"},
		{502, "", "The server returned an invalid or incomplete response.", "HAProxy, which answers 502", "speak HTTP/2", "", "proto h2"},
		{503, "", "No server is available to handle this request.", "HAProxy, which answers 503", "takes no balancer for healthy", "", "proto h2 check"},
		{504, "", "The server didn't respond in time.", "HAProxy, which answers 504", "firewall", "", "proto h2"},
		{413, "nginx", "", "413 Request Entity Too Large", "size of requests", "client_max_body_size 0;", ""},
		{403, "cloudflare", "", "cloudflare, which answers 403", "credentials of its own", "", ""},
		{200, "", "welcome", "what stands there, which answers 200 OK", "dial the balancer's gRPC port", "grpc_pass", ""},
	} {
		t.Run(fmt.Sprint(c.status, c.server), func(t *testing.T) {
			b := page(t, html(c.status, c.server, c.text))
			r := b.examine(t, Options{})
			r.want(t, "http2", Fail, c.said, c.do)
			r.want(t, "grpc", Fail, "no answer")
			if r.Reached {
				t.Error("a page is no answer of gRPC")
			}
			if c.inNginx != "" {
				r.lines(t, nginx, c.inNginx)
			}
			if c.inHAProxy != "" && c.server == "" {
				r.lines(t, haproxy, c.inHAProxy)
			}
			if c.server == "cloudflare" && len(r.Advice) != 0 {
				t.Errorf("advice for what is not known here: %+v", r.Advice)
			}
		})
	}
}

func TestAnAnswerWithoutTrailers(t *testing.T) {
	b := page(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("content-type", "application/grpc")
		_, _ = w.Write(make([]byte, 5))
	})
	r := b.examine(t, Options{})
	r.want(t, "http2", Fail, "no trailers", "HTTP/1.1 there loses them")
}

func TestAServerOfHTTP1(t *testing.T) {
	b := &balancer{}
	b.before(t, listenTCP(t), func(client net.Conn) {
		_, _ = client.Read(make([]byte, 4096))
		_, _ = io.WriteString(client, "HTTP/1.1 400 Bad Request\r\nServer: nginx/1.22.1\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<h1>400 Bad Request</h1>")
	})
	r := b.examine(t, Options{})
	r.want(t, "http2", Fail, `nginx/1.22.1 answers in HTTP/1.1: 400 Bad Request (text/html): "400 Bad Request"`, "switch on HTTP/2")
	r.lines(t, nginx, "listen 9090 http2;")
	if len(r.Advice) != 1 {
		t.Errorf("advice for others too: %+v", r.Advice)
	}
}

// Some close a connection that begins with HTTP/2 without a word.
func TestAServerThatAnswersHTTP1Alone(t *testing.T) {
	b := &balancer{}
	b.before(t, listenTCP(t), func(client net.Conn) {
		p := make([]byte, 4096)
		n, _ := client.Read(p)
		if strings.HasPrefix(string(p[:n]), "GET / HTTP/1.1\r\n") {
			_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
		}
	})
	r := b.examine(t, Options{})
	r.want(t, "http2", Fail, "what stands there answers in HTTP/1.1: 200 OK", "switch on HTTP/2")
	r.lines(t, haproxy, "bind :9090 proto h2")
	r.lines(t, nginx, "listen 9090 http2;")
}

func TestAPortOfTheTextProtocol(t *testing.T) {
	b := &balancer{}
	b.before(t, listenTCP(t), func(client net.Conn) {
		_, _ = client.Read(make([]byte, 4096))
		_, _ = io.WriteString(client, "ERROR|PRI * HTTP/2.0|unknown\n")
	})
	r := b.examine(t, Options{})
	r.want(t, "http2", Fail, "ERROR|PRI", "text protocol")
}

func TestABalancerThatDoesNotAnswerAtAll(t *testing.T) {
	b := serve(t, listenTCP(t), rpc.Options{}, dispatch.Options{})
	b.before(t, listenTCP(t), func(client net.Conn) {
		<-t.Context().Done()
	})
	r := b.examine(t, Options{Timeout: 50e6})
	r.want(t, "http2", Fail, "no HTTP/2")
	r.want(t, "grpc", Fail, "no answer")
}
