// Package auth says who a caller is and what it may do, by a file that can change
// while it is in use.
//
//	d, err := auth.Open("auth.yaml", auth.Options{})
//	go d.Run(ctx)                              // looks for changes, fetches keys
//	changed := d.Changed()                     // first this, then what is in force
//	who, err := d.Identify(ctx, credentials)   // for each call
//	if !who.Principal.MaySubmit("sum") { … }
//	<-changed                                  // ask again for what is still open
//
// docs/auth.md has the file by example.
package auth

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// Credentials are what a caller shows. A local name wins over a token, and a
// token over a certificate: one that is not good is refused, whatever else is
// there.
type Credentials struct {
	// Token is that of "authorization: Bearer TOKEN"; empty: none.
	Token string
	// Certificate was verified by TLS; nil: none.
	Certificate *x509.Certificate
	// Local names a principal of this very process. Only our own code sets it.
	Local string
}

// Identity is who a caller is, and until when what it has shown is good; zero:
// for ever.
type Identity struct {
	Principal *Principal
	Expires   time.Time
}

// Reasons for which nobody is identified.
const (
	NoCredentials     = "NO_CREDENTIALS"
	BadToken          = "BAD_TOKEN"
	TokenExpired      = "TOKEN_EXPIRED"
	BadCertificate    = "BAD_CERTIFICATE"
	UnknownPrincipal  = "UNKNOWN_PRINCIPAL"
	IssuerUnreachable = "ISSUER_UNREACHABLE"
)

// Error is why a caller is nobody. Its message is fit for the caller, and shows
// no token. With IssuerUnreachable another try may help, with the others not.
type Error struct{ Reason, Message string }

func (e *Error) Error() string { return e.Message }

func refuse(reason, format string, args ...any) (Identity, error) {
	return Identity{}, &Error{reason, fmt.Sprintf(format, args...)}
}

// Options of a Directory. The zero value of each field means its default.
type Options struct {
	// Interval is how often Run looks at the files. Default 500 ms; not negative.
	// A change takes effect when two looks in a row have seen it, so that a file
	// is not read while it is being written.
	Interval time.Duration
	// Log is told of changes, of files that can't be used and of keys that can't be
	// fetched. Default: nobody is.
	Log *slog.Logger
}

func (o *Options) validate() error {
	if o.Interval < 0 {
		return fmt.Errorf("auth: Interval is %v; give more than 0, or 0 for 500ms", o.Interval)
	}
	if o.Interval == 0 {
		o.Interval = 500 * time.Millisecond
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Directory knows the principals of a file. All methods but Run may be called
// concurrently.
type Directory struct {
	path string
	opt  Options

	state  atomic.Pointer[state] // in force
	flight singleflight.Group    // fetches, by URL
	client *http.Client          // fetches keys

	mu      sync.Mutex          // of whoever replaces the state
	fetches map[string]*fetched // by URL; none is forgotten

	look lookout // Run's alone
}

// state is what is in force at one time. Only its cache changes.
type state struct {
	*rules
	cache   *cache        // of verified JWTs
	changed chan struct{} // closed when another state is in force
}

// Open reads and checks the file and the key files it names, and fetches nothing:
// Run does. The error names the file, the line and the field.
func Open(path string, o Options) (*Directory, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	d := &Directory{path: path, opt: o, client: newClient(), fetches: map[string]*fetched{}}
	r, seen, err := read(path, nil)
	if err != nil {
		return nil, err
	}
	d.look.seen = seen
	d.state.Store(newState(r))
	return d, nil
}

func newState(r *rules) *state {
	return &state{rules: r, cache: newCache(), changed: make(chan struct{})}
}

// Changed returns a channel that is closed when the next change has taken effect,
// of the file or of an issuer's keys. Whoever must miss none asks for it before
// Identify.
func (d *Directory) Changed() <-chan struct{} { return d.state.Load().changed }

// Principal returns a principal by its name, nil when there is none.
func (d *Directory) Principal(name string) *Principal { return d.state.Load().byName[name] }

// Principals returns all of them by name; the map is the caller's own.
func (d *Directory) Principals() map[string]*Principal { return maps.Clone(d.state.Load().byName) }

// Identify finds out who has these credentials. The error is an *Error when it is
// nobody, or ctx's when ctx ended while it waited for the keys of a JWT's issuer:
// 5 s at most. It blocks for nothing else.
func (d *Directory) Identify(ctx context.Context, c Credentials) (Identity, error) {
	return d.identify(ctx, time.Now(), c)
}

func (d *Directory) identify(ctx context.Context, now time.Time, c Credentials) (Identity, error) {
	s := d.state.Load()
	switch {
	case c.Local != "":
		if p := s.byName[c.Local]; p != nil {
			return Identity{Principal: p}, nil
		}
		return refuse(UnknownPrincipal, "no principal is named %.128q", c.Local)
	case c.Token == "" && c.Certificate == nil:
		return refuse(NoCredentials, "no credentials came with the call; send a token as \"authorization: Bearer TOKEN\", or use a client certificate")
	case c.Token == "":
		return s.byCertificate(now, c.Certificate)
	case !looksLikeJWT(c.Token):
		return s.byToken(now, c.Token)
	}
	return d.byJWT(ctx, now, c.Token)
}

func looksLikeJWT(token string) bool {
	return !strings.HasPrefix(token, tokenPrefix) && strings.Count(token, ".") == 2
}
