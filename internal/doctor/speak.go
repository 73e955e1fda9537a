package doctor

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// speech is what came back over HTTP/2 for one call of the health.
type speech struct {
	settings map[http2.SettingID]uint32
	status   string // of HTTP
	headers  http.Header
	trailers http.Header
	body     []byte // at most maxPage of it
	broken   string // how the stream was cut off, if it was
}

// maxPage is how much of an answer is looked at, in bytes.
const maxPage = 4 << 10

// speak calls the health by HTTP/2 without gRPC's help, which hides what a proxy
// says of itself.
func (e *exam) speak(ctx context.Context) {
	if e.way == nil {
		return
	}
	conn := &recorder{Conn: e.way}
	e.way = nil
	defer func() { _ = conn.Close() }() // it was only looked at
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	s, err := ask(conn, time.Now().Add(e.o.Timeout), e.scheme(), cmp.Or(e.o.ServerName, e.at.authority))
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		e.notHTTP2(ctx, conn.first, err)
		return
	}
	e.speech = s
	e.proxy.hear(s)
	e.judge(s)
	e.introduce()
}

func (e *exam) scheme() string {
	if e.o.Credentials != nil {
		return "https"
	}
	return "http"
}

// ask sends the request and reads frames until its answer has ended.
func ask(conn net.Conn, until time.Time, scheme, authority string) (*speech, error) {
	_ = conn.SetDeadline(until) // a connection that has none ends with ctx
	var head, out bytes.Buffer
	names := hpack.NewEncoder(&head)
	for _, h := range [][2]string{
		{":method", "POST"}, {":scheme", scheme}, {":path", healthpb.Health_Check_FullMethodName}, {":authority", authority},
		{"content-type", "application/grpc"}, {"te", "trailers"}, {"user-agent", "grpc-reparto-doctor"},
	} {
		if err := names.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			return nil, err
		}
	}
	out.WriteString(http2.ClientPreface)
	w := http2.NewFramer(&out, nil)
	// Into memory: these have no errors but those of frames that are too large.
	_ = w.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	_ = w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndHeaders: true})
	_ = w.WriteData(1, true, make([]byte, 5)) // an empty message
	if _, err := conn.Write(out.Bytes()); err != nil {
		return nil, err
	}
	return listen(conn)
}

func listen(conn net.Conn) (*speech, error) {
	s := &speech{settings: map[http2.SettingID]uint32{}}
	f := http2.NewFramer(conn, conn)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			if len(s.settings) == 0 && s.status == "" {
				return nil, err
			}
			s.broken = oneLine(err.Error())
			if isTimeout(err) {
				s.broken = "it took too long"
			}
			return s, nil
		}
		ended := false
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				_ = frame.ForeachSetting(func(v http2.Setting) error { s.settings[v.ID] = v.Val; return nil })
				err = f.WriteSettingsAck()
			}
		case *http2.MetaHeadersFrame:
			s.head(frame)
			ended = frame.StreamEnded()
		case *http2.DataFrame:
			s.body = append(s.body, frame.Data()[:min(len(frame.Data()), maxPage-len(s.body))]...)
			ended = frame.StreamEnded()
		case *http2.RSTStreamFrame:
			s.broken, ended = "RST_STREAM "+frame.ErrCode.String(), true
		case *http2.GoAwayFrame:
			if frame.ErrCode != http2.ErrCodeNo {
				s.broken, ended = "GOAWAY "+frame.ErrCode.String(), true
			}
		}
		if ended {
			return s, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// head takes headers, and then trailers. An answer without a body has both in one.
func (s *speech) head(f *http2.MetaHeadersFrame) {
	h := http.Header{}
	for _, field := range f.RegularFields() {
		h.Add(field.Name, field.Value)
	}
	if s.status != "" {
		s.trailers = h
		return
	}
	s.status, s.headers, s.trailers = f.PseudoValue("status"), h, h
}

// judge says whether what came is an answer of gRPC.
func (e *exam) judge(s *speech) {
	f := Finding{Check: "http2", Status: Fail, Values: map[string]any{"http_status": s.status}}
	kind := s.headers.Get("content-type")
	switch {
	case s.status == "":
		f.Said = fmt.Sprintf("HTTP/2 as far as %s, and then no answer: %s", e.proxy.who(), s.broken)
		f.Do = "look whether a balancer runs where the proxy looks for it, and at the logs of both"
	case s.status != "200" || !strings.HasPrefix(kind, "application/grpc"):
		f.Said, f.Do = fmt.Sprintf("HTTP/2 as far as %s, which answers %s", e.proxy.who(), pageOf(s.status, kind, s.body)), e.pageDo(s.status)
		e.trouble(trouble{kind: badPage, what: s.status})
	case s.trailers.Get("grpc-status") == "":
		f.Said = "the answer has no trailers, so gRPC can't tell how a call ended: " + cmp.Or(s.broken, "something on the way drops them")
		f.Do = "speak HTTP/2 on the other side of the proxy too: HTTP/1.1 there loses them"
		e.trouble(trouble{kind: badPage, what: "no trailers"})
	default:
		f.Status, f.Said = OK, "HTTP/2 from end to end, with trailers"
		if most, ok := s.settings[http2.SettingMaxConcurrentStreams]; ok {
			f.Said += fmt.Sprintf("; %d calls at a time on a connection", most)
			f.Values["max_concurrent_streams"] = most
		}
	}
	e.found(f)
}

// pageOf names an answer that is none of gRPC.
func pageOf(status, kind string, body []byte) string {
	if atoi(status) < 100 {
		return "without a status: it was not spoken to in its protocol"
	}
	said := strings.TrimSpace(status + " " + http.StatusText(atoi(status)))
	if kind != "" {
		said += " (" + kind + ")"
	}
	if text := titleOf(body); text != "" {
		said += fmt.Sprintf(": %q", text)
	}
	return said
}

// titleOf is the first words of a page.
func titleOf(body []byte) string {
	var words strings.Builder
	tag := false
	for _, r := range string(body) {
		switch {
		case r == '<':
			tag = true
			words.WriteByte(' ')
		case r == '>':
			tag = false
		case !tag:
			words.WriteRune(r)
		}
	}
	text := []rune(strings.ToValidUTF8(oneLine(words.String()), "?"))
	return string(text[:min(len(text), 100)])
}

func atoi(s string) (n int) {
	_, _ = fmt.Sscan(s, &n) // 0 when it is no number
	return n
}

// notHTTP2 finds out what speaks there instead.
func (e *exam) notHTTP2(ctx context.Context, first []byte, why error) {
	f := Finding{Check: "http2", Status: Fail, Said: "no HTTP/2: " + oneLine(why.Error()), Do: "check that the port in --balancer is the balancer's gRPC port, or a proxy's that leads there"}
	answer := first
	if len(first) == 0 {
		answer = e.oldRequest(ctx)
	}
	switch {
	case bytes.HasPrefix(answer, []byte("HTTP/1.")):
		e.oldAnswer(&f, answer)
	case e.o.Credentials == nil && (bytes.HasPrefix(first, []byte{0x15, 3}) || e.speaksTLS(ctx)):
		f.Said, f.Do = "what answers there speaks TLS", "give --tls, or --tls-ca FILE with the CA of its certificate"
	case len(answer) > 0:
		f.Said = fmt.Sprintf("what answers there speaks neither HTTP/2 nor HTTP/1.1, and begins with %.60q", answer)
		if bytes.ContainsRune(answer, '|') {
			f.Do = "this looks like a port of the text protocol: give the balancer's gRPC port (9090 unless told otherwise)"
		}
	}
	e.found(f)
}

// oldAnswer tells of an answer of HTTP/1.
func (e *exam) oldAnswer(f *Finding, answer []byte) {
	said := "HTTP/1.1"
	if r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), nil); err == nil {
		body, _ := io.ReadAll(r.Body) // as much as there is
		_ = r.Body.Close()            // memory has nothing to fail
		said = fmt.Sprintf("%s: %s", r.Proto, pageOf(fmt.Sprint(r.StatusCode), r.Header.Get("content-type"), body))
		e.proxy.hear(&speech{headers: r.Header, body: body})
	}
	f.Said = fmt.Sprintf("%s answers in %s", e.proxy.who(), said)
	f.Do = "switch on HTTP/2 where clients dial, without an upgrade from HTTP/1.1"
	e.trouble(trouble{kind: noHTTP2})
}

// oldRequest is what a request of HTTP/1.1 brings, on a connection of its own.
func (e *exam) oldRequest(ctx context.Context) []byte {
	conn, err := e.redial(ctx)
	if err != nil {
		return nil
	}
	defer func() { _ = conn.Close() }() // it was only looked at
	if e.o.Credentials != nil {
		limited, cancel := e.within(ctx)
		defer cancel()
		if conn, _, err = e.o.Credentials.ClientHandshake(limited, cmp.Or(e.o.ServerName, e.at.authority), conn); err != nil {
			return nil
		}
	}
	_ = conn.SetDeadline(time.Now().Add(e.o.Timeout)) // a connection that has none answers or closes
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", e.at.authority); err != nil {
		return nil
	}
	answer, _ := io.ReadAll(io.LimitReader(conn, maxPage)) // as much as there is
	return answer
}

// speaksTLS tries a handshake where none was asked for. Nothing is sent over it.
func (e *exam) speaksTLS(ctx context.Context) bool {
	conn, err := e.redial(ctx)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }() // it was only looked at
	limited, cancel := e.within(ctx)
	defer cancel()
	return tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}).HandshakeContext(limited) == nil
}

// recorder remembers the first bytes that were read.
type recorder struct {
	net.Conn
	first []byte
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.first = append(r.first, p[:min(n, maxPage-len(r.first))]...)
	return n, err
}
