package auth

import (
	"context"
	"errors"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	// maxJWT is how long a JWT may be, in bytes; what is longer is not looked at.
	maxJWT = 16 << 10
	// leeway is how far an issuer's clock may be ahead of ours.
	leeway = 30 * time.Second
	// maxVerified is how many JWTs are remembered as verified.
	maxVerified = 10_000
)

// cache are JWTs that were verified under one state. One that is found is good
// but for its expiry. A JWT that was refused is not there: it costs its caller as
// much the next time.
type cache = lru.Cache[tokenHash, Identity]

func newCache() *cache {
	c, err := lru.New[tokenHash, Identity](maxVerified)
	if err != nil {
		panic(err) // of a size below 1
	}
	return c
}

// signed is a JWT that was parsed, and is not verified.
type signed struct {
	*jwt.JSONWebToken
	claims jwt.Claims
	all    map[string]any
}

// parseJWT takes nothing that is not signed by a public key's algorithm, or that
// names no key.
func parseJWT(token string) (*signed, error) {
	if len(token) > maxJWT {
		_, err := refuse(BadToken, "the token has %d bytes; at most %d are read", len(token), maxJWT)
		return nil, err
	}
	parsed, err := jwt.ParseSigned(token, algorithms)
	j := &signed{JSONWebToken: parsed}
	switch {
	case errors.As(err, new(*jose.ErrUnexpectedSignatureAlgorithm)):
		_, err = refuse(BadToken, "the token is a JWT that is not signed, or by an algorithm that is not taken; want one of %v", algorithms)
		return nil, err
	case err != nil || parsed.UnsafeClaimsWithoutVerification(&j.claims, &j.all) != nil:
		_, err = refuse(BadToken, "the token is not known here, and no JWT that could be read")
		return nil, err
	case parsed.Headers[0].KeyID == "":
		_, err = refuse(BadToken, "the token is a JWT whose header has no kid, which names the issuer's key")
		return nil, err
	}
	return j, nil
}

// byJWT blocks only for a JWT in which all is right but that the key it names is
// not known yet.
func (d *Directory) byJWT(ctx context.Context, now time.Time, token string) (Identity, error) {
	hash := hashOf(token)
	if id, ok := d.state.Load().cache.Get(hash); ok {
		if !now.Before(id.Expires) {
			return expired(id.Expires)
		}
		return id, nil
	}
	j, err := parseJWT(token)
	if err != nil {
		return Identity{}, err
	}
	var unreachable error
	for again := false; ; again = true {
		s := d.state.Load() // another one may be in force after a fetch
		i, err := s.issuerOf(j, now)
		if err != nil {
			return Identity{}, err
		}
		header := j.Headers[0]
		keys := i.keys.find(header.KeyID, header.Algorithm)
		switch {
		case len(keys) > 0:
			id, err := s.verify(j, i, keys)
			if err == nil {
				s.cache.Add(hash, id)
			}
			return id, err
		case i.url == "" || again && unreachable == nil:
			return refuse(BadToken, "the token names a key that %.200q does not have: kid %.100q for %s", i.name, header.KeyID, header.Algorithm)
		case again:
			return refuse(IssuerUnreachable, "the keys of %.200q can't be fetched at the moment; try again in %v", i.name, fetchPause)
		}
		unreachable = d.fetch(ctx, i.url, now)
		if unreachable != nil && ctx.Err() != nil {
			return Identity{}, ctx.Err()
		}
	}
}

// issuerOf finds who is said to have issued it, if all is well that can be seen
// without a key.
func (r *rules) issuerOf(j *signed, now time.Time) (*issuer, error) {
	i, err := r.issuers[j.claims.Issuer], error(nil)
	switch {
	case i == nil:
		_, err = refuse(BadToken, "the token's issuer is %.200q, which is none that is trusted here", j.claims.Issuer)
	case j.claims.Expiry == nil:
		_, err = refuse(BadToken, "the token never expires; give it an exp")
	case !j.claims.Audience.Contains(i.audience):
		_, err = refuse(BadToken, "the token is for %s; want %q among its audiences", listed(j.claims.Audience), i.audience)
	case !now.Before(j.claims.Expiry.Time()):
		_, err = expired(j.claims.Expiry.Time())
	case j.claims.ValidateWithLeeway(jwt.Expected{Time: now}, leeway) != nil:
		_, err = refuse(BadToken, "the token is not valid yet, by its nbf or iat; here it is %s", now.UTC().Format(time.RFC3339))
	}
	return i, err
}

func expired(at time.Time) (Identity, error) {
	return refuse(TokenExpired, "the token expired at %s", at.UTC().Format(time.RFC3339))
}

// verify looks at the signature, and then whom the JWT is about.
func (r *rules) verify(j *signed, i *issuer, keys []jose.JSONWebKey) (Identity, error) {
	good := false
	for _, key := range keys {
		good = good || j.Claims(key) == nil
	}
	if !good {
		return refuse(BadToken, "the token's signature is not by the key of %.200q that it names", i.name)
	}
	name, _ := j.all[i.claim].(string)
	if name == "" {
		return refuse(BadToken, "the token has no claim %.100q, or one that is no text", i.claim)
	}
	p := r.subjects[subject{i.name, name}]
	if p == nil {
		return refuse(UnknownPrincipal, "no principal has the subject %.200q of %.200q", name, i.name)
	}
	return Identity{p, j.claims.Expiry.Time()}, nil
}
