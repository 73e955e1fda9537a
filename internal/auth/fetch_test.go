package auth

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// publisher is an issuer's server: it answers with what it was told to, and
// counts.
type publisher struct {
	mu     sync.Mutex
	status int
	keys   string
	hits   atomic.Int32
}

func (p *publisher) say(status int, keys string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status, p.keys = status, keys
}

func (p *publisher) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	p.hits.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	w.WriteHeader(p.status)
	_, _ = io.WriteString(w, p.keys)
}

// RoundTrip answers without a network, for tests in which time is made.
func (p *publisher) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := httptest.NewRecorder()
	p.ServeHTTP(answer, r)
	return answer.Result(), nil
}

// openURL has a directory whose only issuer has its keys there.
func openURL(t *testing.T, url string, log io.Writer) *Directory {
	t.Helper()
	text := strings.Replace(oneIssuer, "jwks_file: keys.json", `jwks_url: "`+url+`"`, 1)
	d, err := Open(write(t, t.TempDir(), "auth.yaml", text), Options{Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestIssuerFailsAndRecovers(t *testing.T) {
	k, p := newKeys(t), &publisher{status: http.StatusServiceUnavailable}
	server := httptest.NewServer(p)
	defer server.Close()
	var log bytes.Buffer
	d := openURL(t, server.URL, &log)
	es, next := Credentials{Token: k.sign(t, "es", nil)}, Credentials{Token: k.sign(t, "new", nil)}
	for _, step := range []struct {
		after time.Duration
		keys  string // when not empty: what the issuer has from now on
		what  string
		c     Credentials
		want  string
		hits  int32 // in all
	}{
		{0, "", "no keys yet", es, "ISSUER_UNREACHABLE: try again in 10s", 1},
		{9 * time.Second, "", "not asked again yet", es, "ISSUER_UNREACHABLE: ", 1},
		{10 * time.Second, "", "asked again, in vain", es, "ISSUER_UNREACHABLE: ", 2},
		{11 * time.Second, k.set(t, "es"), "there, and not asked yet", es, "ISSUER_UNREACHABLE: ", 2},
		{20 * time.Second, "", "fetched", es, "shop", 3},
		{21 * time.Second, "", "an unknown key, too soon", next, "BAD_TOKEN: does not have", 3},
		{30 * time.Second, "", "an unknown key", next, "BAD_TOKEN: does not have", 4},
		{31 * time.Second, k.set(t, "new"), "a key in force is not asked for", es, "shop", 4},
		{40 * time.Second, "", "the new key", next, "shop", 5},
		{41 * time.Second, "", "the old key, which is gone", es, "BAD_TOKEN: does not have", 5},
	} {
		if step.keys != "" {
			p.say(http.StatusOK, step.keys)
		}
		changed := d.Changed()
		before := d.state.Load().issuers[theIssuer].keys.sum
		expect(t, step.what, who(t, d, noon.Add(step.after), step.c), step.want)
		if hits := p.hits.Load(); hits != step.hits {
			t.Errorf("%s: the issuer was asked %d times; want %d", step.what, hits, step.hits)
		}
		select {
		case <-changed:
			if before == d.state.Load().issuers[theIssuer].keys.sum {
				t.Errorf("%s: the same keys are a change", step.what)
			}
		default:
			if before != d.state.Load().issuers[theIssuer].keys.sum {
				t.Errorf("%s: other keys are no change", step.what)
			}
		}
	}
	if n := strings.Count(log.String(), "can't be fetched"); n != 1 || !strings.Contains(log.String(), "503 Service Unavailable") {
		t.Errorf("logged %d times: %s", n, &log)
	}
	if n := strings.Count(log.String(), "can be fetched again"); n != 1 {
		t.Errorf("its recovery is logged %d times: %s", n, &log)
	}
}

// TestReloadKeepsFetchedKeys: they need not be fetched anew, and could not be.
func TestReloadKeepsFetchedKeys(t *testing.T) {
	k, p := newKeys(t), &publisher{status: http.StatusOK}
	p.keys = k.set(t, "es")
	server := httptest.NewServer(p)
	defer server.Close()
	d := openURL(t, server.URL, io.Discard)
	es, stranger := Credentials{Token: k.sign(t, "es", nil)}, Credentials{Token: k.sign(t, "stranger", nil)}
	expect(t, "before", who(t, d, noon, es), "shop")
	p.say(http.StatusBadGateway, "")
	expect(t, "an unknown key", who(t, d, noon.Add(fetchPause), stranger), "ISSUER_UNREACHABLE: try again")
	text, err := readFile(d.path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Dir(d.path), "auth.yaml", strings.Replace(text, "name: shop", "name: store", 1))
	d.lookAgain()
	d.lookAgain()
	expect(t, "after", who(t, d, noon.Add(fetchPause), es), "store")
	if n := p.hits.Load(); n != 2 {
		t.Errorf("the issuer was asked %d times", n)
	}
	p.say(http.StatusOK, k.set(t, "es"))
	changed := d.Changed()
	expect(t, "the same keys again", who(t, d, noon.Add(2*fetchPause), stranger), "BAD_TOKEN: does not have")
	select {
	case <-changed:
		t.Error("the same keys are a change")
	default:
	}
}

// TestNobodyIsAskedAboutBadTokens: who has no good token can't make us call
// others, nor wait.
func TestNobodyIsAskedAboutBadTokens(t *testing.T) {
	k, p := newKeys(t), &publisher{status: http.StatusOK}
	server := httptest.NewServer(p)
	defer server.Close()
	d := openURL(t, server.URL, io.Discard)
	for _, token := range []string{
		"x", "a.b.c", "..", unsigned(t, k, `{"alg":"none","kid":"es"}`, ""), unsigned(t, k, `{"alg":"ES256"}`, "AAAA"),
		k.sign(t, "es", map[string]any{"exp": noon.Unix() - 1}), k.sign(t, "es", map[string]any{"exp": nil}),
		k.sign(t, "es", map[string]any{"aud": "x"}), k.sign(t, "es", map[string]any{"iss": "x"}), k.sign(t, "es", map[string]any{"nbf": noon.Unix() + 60}),
	} {
		if got := who(t, d, noon, Credentials{Token: token}); !strings.HasPrefix(got, BadToken) && !strings.HasPrefix(got, TokenExpired) {
			t.Errorf("%s: %s", token, got)
		}
	}
	if n := p.hits.Load(); n != 0 {
		t.Errorf("the issuer was asked %d times", n)
	}
}

// waiting is a server that answers when it is let.
type waiting struct {
	publisher
	asked, answer chan struct{}
}

func (w *waiting) RoundTrip(r *http.Request) (*http.Response, error) {
	w.asked <- struct{}{}
	select {
	case <-w.answer:
		return w.publisher.RoundTrip(r)
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// inBubble runs a test in which the issuer answers when it is let and time is made.
func inBubble(t *testing.T, test func(t *testing.T, k keys, d *Directory, w *waiting)) {
	k := newKeys(t)
	synctest.Test(t, func(t *testing.T) {
		w := &waiting{asked: make(chan struct{}, 100), answer: make(chan struct{})}
		w.say(http.StatusOK, k.set(t, "es"))
		d := openURL(t, "https://id.example.com/keys", io.Discard)
		d.client.Transport = w
		test(t, k, d, w)
	})
}

func TestFetchIsShared(t *testing.T) {
	inBubble(t, func(t *testing.T, k keys, d *Directory, w *waiting) {
		es := Credentials{Token: k.sign(t, "es", nil)}
		first, leave := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := d.identify(first, noon, es)
			left <- err
		}()
		<-w.asked
		var others sync.WaitGroup
		for range 10 {
			others.Go(func() {
				id, err := d.identify(t.Context(), noon, es)
				if err != nil || id.Principal.Name != "shop" {
					t.Errorf("got %v", err)
				}
			})
		}
		synctest.Wait()
		leave() // whoever asked first: the others are answered all the same
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v", err)
		}
		close(w.answer)
		others.Wait()
		if n := w.hits.Load(); n != 1 || len(w.asked) != 0 {
			t.Errorf("the issuer was asked %d times, and %d without an answer", n, len(w.asked))
		}
	})
}

func TestFetchEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, k keys, d *Directory, w *waiting) {
		start := time.Now()
		expect(t, "an issuer that hangs", who(t, d, noon, Credentials{Token: k.sign(t, "es", nil)}), "ISSUER_UNREACHABLE: try again")
		if took := time.Since(start); took != fetchTimeout {
			t.Errorf("it took %v; want %v", took, fetchTimeout)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if _, err := d.identify(ctx, noon.Add(time.Minute), Credentials{Token: k.sign(t, "es", nil)}); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("with a second's time: got %v after %v", err, time.Since(start))
		}
		time.Sleep(fetchTimeout) // of the bubble: the fetch goes on until here
	})
}

// TestRunFetches: at its start, every ten minutes, and every ten seconds while it
// fails.
func TestRunFetches(t *testing.T) {
	inBubble(t, func(t *testing.T, k keys, d *Directory, w *waiting) {
		close(w.answer)
		w.say(http.StatusNotFound, "")
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- d.Run(ctx) }()
		start := time.Now()
		at := func(when time.Duration, hits int32, want string) {
			t.Helper()
			time.Sleep(time.Until(start.Add(when))) // of the bubble
			synctest.Wait()
			if n := w.hits.Load(); n != hits {
				t.Errorf("after %v the issuer was asked %d times; want %d", when, n, hits)
			}
			now := time.Now()
			token := k.sign(t, "es", map[string]any{"iat": nil, "exp": now.Add(time.Hour).Unix()})
			expect(t, when.String(), who(t, d, now, Credentials{Token: token}), want)
		}
		at(time.Millisecond, 1, "ISSUER_UNREACHABLE: try again")
		at(9*time.Second, 1, "ISSUER_UNREACHABLE: try again")
		w.say(http.StatusOK, k.set(t, "es"))
		at(11*time.Second, 2, "shop")
		w.say(http.StatusNotFound, "")
		at(9*time.Minute, 2, "shop")
		at(10*time.Minute+11*time.Second, 3, "shop") // it can't be fetched, so it stays
		w.say(http.StatusOK, k.set(t, "new"))
		changed := d.Changed()
		at(10*time.Minute+25*time.Second, 4, "BAD_TOKEN: does not have")
		<-changed
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
}

func TestWhatIsNotFetched(t *testing.T) {
	for path, want := range map[string]string{
		"/away":  "http://id.example.com/keys\"; want https",
		"/round": "redirected too often",
		"/large": "more than 1048576 bytes",
		"/gone":  "404 Not Found",
		"/page":  "answers is no JSON Web Key Set",
	} {
		mux := http.NewServeMux()
		mux.Handle("/away", http.RedirectHandler("http://id.example.com/keys", http.StatusFound))
		mux.Handle("/round", http.RedirectHandler("/round", http.StatusFound))
		mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, maxKeys+1)) })
		mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") })
		server := httptest.NewServer(mux)
		d := openURL(t, server.URL+path, io.Discard)
		if _, err := d.get(t.Context(), server.URL+path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
		server.Close()
	}
}

func TestURLsOfKeys(t *testing.T) {
	for url, good := range map[string]bool{
		"https://id.example.com/keys": true, "http://127.0.0.1:8080/keys": true, "http://[::1]/keys": true, "http://localhost/keys": true, "http://127.8.9.1": true,
		"http://id.example.com/keys": false, "http://localhost.example.com": false, "http://10.0.0.1": false, "ftp://a": false, "https://": false, "keys": false, "https://a:b@c": false, "::": false,
	} {
		if err := checkKeysURL(url); (err == nil) != good {
			t.Errorf("%s: got %v", url, err)
		}
	}
}
