package doctor

import (
	"fmt"
	"slices"
	"time"
)

// Advice is what to change in a proxy's configuration.
type Advice struct {
	Proxy string `json:"proxy"`
	// Because is why it is taken to be that proxy; empty when it is a guess.
	Because string `json:"because,omitempty"`
	// Lines are the configuration's, each with its reason behind it.
	Lines []string `json:"lines"`
}

// kind is what a trouble is about.
type kind int

const (
	idleCut   kind = iota + 1 // a stream was cut while nothing passed
	tooLarge                  // a message did not pass
	tooMuch                   // a stream was cut after a number of bytes
	noHTTP2                   // HTTP/1 alone, in the clear
	noALPN                    // HTTP/1 alone, over TLS
	badPage                   // a page in place of an answer of gRPC; what is its status
	scattered                 // calls of one connection go to several balancers
)

// trouble is something that a proxy's configuration can mend.
type trouble struct {
	kind  kind
	after time.Duration // of idleCut
	what  string
}

func (e *exam) trouble(t trouble) {
	if !slices.ContainsFunc(e.wrong, func(o trouble) bool { return o.kind == t.kind }) {
		e.wrong = append(e.wrong, t)
	}
}

// line is one of a configuration and why it is there.
type line struct{ text, why string }

// advice are the lines to change, for the proxy that was recognised, or for either
// when none was.
func (e *exam) advice() []Advice {
	if len(e.wrong) == 0 {
		return nil
	}
	books := map[string]func(trouble) []line{haproxy: linesOfHAProxy, nginx: linesOfNginx}
	names := []string{haproxy, nginx}
	switch {
	case e.proxy.direct:
		books = map[string]func(trouble) []line{haproxy: bytesOfHAProxy, nginx: bytesOfNginx}
	case books[e.proxy.name] != nil:
		names = []string{e.proxy.name}
	case e.proxy.name != "":
		return nil // of which nothing is known here
	}
	var all []Advice
	for _, name := range names {
		a := Advice{Proxy: name}
		if len(names) == 1 {
			a.Because = e.proxy.because
		}
		var lines []line
		for _, t := range e.wrong {
			lines = append(lines, books[name](t)...)
		}
		wide := 0
		for _, l := range lines {
			wide = max(wide, len(l.text))
		}
		for _, l := range lines {
			a.Lines = append(a.Lines, fmt.Sprintf("%-*s  # %s", wide, l.text, l.why))
		}
		if len(a.Lines) > 0 {
			all = append(all, a)
		}
	}
	return all
}

// longer says why a time limit is to be long.
func longer(t trouble) string {
	return fmt.Sprintf("idle streams were cut after %s; make it longer than the longest task", span(t.after))
}

func linesOfHAProxy(t trouble) []line {
	const server = "server balancer1 BALANCER:9090 proto h2 check"
	switch t.kind {
	case idleCut:
		return []line{{"timeout client  1h", longer(t)}, {"timeout server  1h", "likewise, on the balancer's side"}}
	case tooLarge, tooMuch:
		return []line{{"http-request deny …", "HAProxy has no limit of its own on bodies: look for such a rule on req.body_size or content-length, and at what stands behind it"}}
	case noHTTP2:
		return []line{{"bind :9090 proto h2", "HTTP/2 in the clear, where clients dial"}}
	case noALPN:
		return []line{{"bind :9090 ssl crt FILE alpn h2", "HTTP/2 over TLS, where clients dial"}}
	case badPage:
		switch t.what {
		case "404":
			return []line{{"default_backend balancers", "clients' calls find no balancer: all paths belong there"}}
		case "413":
			return linesOfHAProxy(trouble{kind: tooLarge})
		}
		return []line{{server, "HTTP/2 to the balancer; if it is so already, no balancer answers there (" + t.what + ")"}}
	case scattered:
		return []line{{"balance source", "calls of one client reach one balancer, which knows what it has enqueued"}}
	}
	return nil
}

func linesOfNginx(t trouble) []line {
	switch t.kind {
	case idleCut:
		return []line{
			{"grpc_read_timeout 1h;", longer(t)},
			{"grpc_send_timeout 1h;", "likewise, towards the balancer"},
			{"client_body_timeout 1h;", "likewise, of clients and workers that have nothing to send"},
		}
	case tooLarge, tooMuch:
		return []line{{"client_max_body_size 0;", "it counts all that passes on one stream, not a message alone"}}
	case noHTTP2:
		return []line{{"listen 9090 http2;", "HTTP/2 in the clear, where clients dial; from 1.25.1 on: listen 9090; http2 on;"}}
	case noALPN:
		return []line{{"listen 9090 ssl http2;", "HTTP/2 over TLS, where clients dial; from 1.25.1 on: listen 9090 ssl; http2 on;"}}
	case badPage:
		if t.what == "413" {
			return linesOfNginx(trouble{kind: tooLarge})
		}
		return []line{{"location / { grpc_pass grpc://BALANCER:9090; }", "all paths, and by HTTP/2 (proxy_pass speaks HTTP/1); if it is so already, no balancer answers there (" + t.what + ")"}}
	case scattered:
		return []line{{"hash $remote_addr consistent;", "in the upstream block: calls of one client reach one balancer, which knows what it has enqueued"}}
	}
	return nil
}

// bytesOfHAProxy and bytesOfNginx are for proxies that pass bytes on.
func bytesOfHAProxy(t trouble) []line {
	if t.kind != idleCut {
		return nil
	}
	return []line{
		{"timeout client  1h", longer(t) + " (mode tcp)"},
		{"timeout server  1h", "likewise, on the balancer's side"},
		{"timeout tunnel  1h", "if there is one, it counts in place of the two"},
	}
}

func bytesOfNginx(t trouble) []line {
	if t.kind != idleCut {
		return nil
	}
	return []line{{"proxy_timeout 1h;", longer(t) + " (stream module)"}}
}
