package doctor

import (
	"bytes"
	"cmp"
	"net/http"
	"strings"

	"golang.org/x/net/http2"
)

// Proxies whose lines are known here.
const (
	haproxy = "HAProxy"
	nginx   = "Nginx"
)

// suspicion is what stands between, as far as it gives itself away.
type suspicion struct {
	name    string // haproxy, nginx or another; empty when nothing tells
	version string // as it gives it, if it does
	because string // what tells
	// direct says that the balancer's own HTTP/2 is heard: what stands between, if
	// anything, passes bytes on and does not know what they are.
	direct bool
}

// who is the proxy in a sentence.
func (s *suspicion) who() string { return cmp.Or(s.version, s.name, "what stands there") }

// pagesOfHAProxy are words of its error pages, which its answers of HTTP/2 have in
// place of a header that names it.
var pagesOfHAProxy = []string{
	"No server is available to handle this request.",
	"The server returned an invalid or incomplete response.",
	"The server didn't respond in time.",
	"Your browser sent an invalid request.",
	"Your browser didn't send a complete request in time.",
}

// hear draws conclusions from an answer, the strongest first.
func (s *suspicion) hear(said *speech) {
	server, via := said.headers.Get("server"), said.headers.Get("via")
	known := func(name, because string) { s.name, s.because, s.direct = name, because, false }
	switch {
	case strings.HasPrefix(server, "nginx") || strings.HasPrefix(server, "openresty"):
		s.version = server
		known(nginx, "its header server: "+server)
	case server != "":
		s.version = server
		known(firstWord(server), "its header server: "+server)
	case via != "":
		known(via, "its header via: "+via)
	case pageOfHAProxy(said.body):
		known(haproxy, "the words of its error page")
	case s.name != "":
	case likeHAProxy(said.settings):
		known(haproxy, "its HTTP/2 settings")
	case ours(said):
		s.direct = true
	}
}

// likeHAProxy recognises settings that offer tunnels and bound no headers: Envoy
// bounds them, and is known by its header.
func likeHAProxy(settings map[http2.SettingID]uint32) bool {
	_, headers := settings[http2.SettingMaxHeaderListSize]
	_, table := settings[http2.SettingHeaderTableSize]
	return settings[http2.SettingEnableConnectProtocol] == 1 && !headers && !table
}

// ours recognises the settings that our balancer's HTTP/2 begins with.
func ours(said *speech) bool {
	return said.settings[http2.SettingMaxHeaderListSize] == 64<<10 && said.settings[http2.SettingMaxFrameSize] == 16<<10 &&
		said.settings[http2.SettingInitialWindowSize] == 1<<20
}

func pageOfHAProxy(body []byte) bool {
	for _, words := range pagesOfHAProxy {
		if bytes.Contains(body, []byte(words)) {
			return true
		}
	}
	return false
}

func firstWord(s string) string {
	word, _, _ := strings.Cut(s, "/")
	return strings.TrimSpace(word)
}

// introduce tells what stands between.
func (e *exam) introduce() {
	p := &e.proxy
	switch {
	case p.name != "":
		e.found(Finding{
			Check: "proxy", Status: OK, Said: p.who() + " stands between, to judge by " + p.because,
			Values: map[string]any{"proxy": p.name, "because": p.because},
		})
	case p.direct:
		e.ok("proxy", "none that speaks HTTP: the balancer's own HTTP/2 is heard here")
	default:
		e.ok("proxy", "what ends HTTP/2 here is not known: neither our balancer's settings nor those of a proxy that is known here")
	}
}

// pageDo is what to do about a page in place of an answer.
func (e *exam) pageDo(status string) string {
	switch atoi(status) {
	case http.StatusBadGateway:
		return "let the proxy speak HTTP/2 to the balancer's gRPC port, and look whether that listens where the proxy looks for it"
	case http.StatusServiceUnavailable:
		return "the proxy takes no balancer for healthy: look whether one runs, and at the proxy's own checks of it"
	case http.StatusGatewayTimeout:
		return "the balancer does not answer the proxy in time: look whether a firewall is between them, or whether it speaks HTTP/1.1 to the gRPC port"
	case http.StatusNotFound:
		return "the proxy has no route to the balancer for /grpc.health.v1.Health/ and /reparto.v1.*: send all paths of this host and port there"
	case http.StatusRequestEntityTooLarge:
		return "lift the proxy's limit on the size of requests"
	case http.StatusUnauthorized, http.StatusForbidden:
		return "the proxy wants credentials of its own: let it leave that to the balancer"
	}
	return "dial the balancer's gRPC port, or have the proxy pass all paths of this host and port on to it by HTTP/2"
}
