package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

const (
	// fetchTimeout is how long a fetch may take.
	fetchTimeout = 5 * time.Second
	// fetchPause is the least time from one fetch to the next, whoever asks and
	// whatever came of it.
	fetchPause = 10 * time.Second
	// refresh is how long keys are trusted before they are fetched again: a key
	// that its issuer has withdrawn is not trusted for longer.
	refresh = 10 * time.Minute
	// maxKeys is how large a key set may be, in bytes.
	maxKeys = 1 << 20
)

// fetched is what came of the last fetch from a URL.
type fetched struct {
	tried time.Time // when it began
	keys  keySet    // of the last that went well
	err   error
}

// fetch gets the keys from the URL, unless somebody has done so just now, and puts
// them in force. Whoever asks while a fetch runs waits for that one.
func (d *Directory) fetch(ctx context.Context, url string, now time.Time) error {
	// Whoever asks first may leave; the others still wait, so it goes on, for
	// fetchTimeout at most.
	done := d.flight.DoChan(url, func() (any, error) {
		return nil, d.fetchOnce(context.WithoutCancel(ctx), url, now)
	})
	select {
	case r := <-done:
		return r.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *Directory) fetchOnce(ctx context.Context, url string, now time.Time) error {
	d.mu.Lock()
	before := d.fetches[url]
	if before == nil {
		before = &fetched{}
	}
	if now.Sub(before.tried) < fetchPause {
		d.mu.Unlock()
		return before.err
	}
	d.fetches[url] = &fetched{now, before.keys, before.err}
	d.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	keys, err := d.get(ctx, url)

	d.mu.Lock()
	defer d.mu.Unlock()
	after := &fetched{tried: now, keys: keys, err: err}
	if err != nil {
		after.keys = before.keys
	}
	d.fetches[url] = after
	switch {
	case err != nil && (before.err == nil || before.err.Error() != err.Error()):
		d.opt.Log.Error("an issuer's keys can't be fetched; those from before stay in force", "url", url, "error", err)
	case err == nil && before.err != nil:
		d.opt.Log.Info("an issuer's keys can be fetched again", "url", url)
	}
	if err == nil && keys.sum != before.keys.sum {
		r := *d.state.Load().rules
		d.replace(&r)
		d.opt.Log.Info("an issuer's keys changed", "url", url, "keys", len(keys.byID))
	}
	return err
}

// replace puts rules in force, with the keys that were fetched for them. d.mu is
// held.
func (d *Directory) replace(r *rules) {
	issuers := make(map[string]*issuer, len(r.issuers))
	for name, i := range r.issuers {
		if f := d.fetches[i.url]; f != nil {
			i = &issuer{i.name, i.audience, i.claim, i.url, f.keys}
		}
		issuers[name] = i
	}
	r.issuers = issuers
	old := d.state.Swap(newState(r))
	close(old.changed)
}

// due are the URLs from which keys should be fetched now.
func (d *Directory) due(now time.Time) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var urls []string
	for _, i := range d.state.Load().issuers {
		if i.url == "" {
			continue
		}
		f, pause := d.fetches[i.url], refresh
		if f != nil && f.err != nil {
			pause = fetchPause
		}
		if f == nil || now.Sub(f.tried) >= pause {
			urls = append(urls, i.url)
		}
	}
	return urls
}

// newClient keeps no connection: it is used every few minutes.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > 3 {
				return errors.New("redirected too often")
			}
			if err := checkKeysURL(r.URL.String()); err != nil {
				return fmt.Errorf("the place it redirects to %w", err)
			}
			return nil
		},
	}
}

func (d *Directory) get(ctx context.Context, url string) (keySet, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return keySet{}, err
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return keySet{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return keySet{}, fmt.Errorf("get %s: %s", url, resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxKeys+1))
	if err == nil && len(text) > maxKeys {
		err = fmt.Errorf("more than %d bytes", maxKeys)
	}
	if err != nil {
		return keySet{}, fmt.Errorf("get %s: %w", url, err)
	}
	keys, err := parseKeys(text, false)
	if err != nil {
		return keySet{}, fmt.Errorf("what %s answers %w", url, err)
	}
	return keys, nil
}

// checkKeysURL: whoever can change what comes from there can be anybody here.
func checkKeysURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("is no URL of the web; want one such as https://id.example.com/keys")
	case u.User != nil:
		return errors.New("has a name or password in it, which would show in logs; give a URL without")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return fmt.Errorf("is %.200q; want https, as keys come from another machine", s)
	}
	return nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
