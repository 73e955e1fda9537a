package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"time"
)

// tokenPrefix begins our tokens, so that people and scanners know one.
const tokenPrefix = "rpt_"

// hashPrefix begins a hash line.
const hashPrefix = "sha256:"

type tokenHash [sha256.Size]byte

func hashOf(token string) tokenHash { return sha256.Sum256([]byte(token)) }

// NewToken makes a token and the line by which the file knows it. The token has
// 256 bits of chance, so a plain hash of it can't be undone by guessing.
func NewToken() (token, hashLine string) {
	var secret [32]byte
	rand.Read(secret[:])
	token = tokenPrefix + base64.RawURLEncoding.EncodeToString(secret[:])
	h := hashOf(token)
	return token, hashPrefix + hex.EncodeToString(h[:])
}

func (r *rules) byToken(now time.Time, token string) (Identity, error) {
	// How long this takes tells nothing: what is looked up is not the token but its
	// SHA-256, and the token has too much chance in it to be guessed.
	t, ok := r.tokens[hashOf(token)]
	switch {
	case !ok:
		return refuse(BadToken, "the token is none that is known here")
	case !t.expires.IsZero() && !now.Before(t.expires):
		return refuse(TokenExpired, "the token of %s expired at %s", t.principal.Name, t.expires.UTC().Format(time.RFC3339))
	}
	return Identity{t.principal, t.expires}, nil
}

// parseHash reads a hash line.
func parseHash(line string) (h tokenHash, err error) {
	digits, ok := strings.CutPrefix(line, hashPrefix)
	b, bad := hex.DecodeString(digits)
	if !ok || bad != nil || len(b) != len(h) {
		return h, errors.New("want sha256: and 64 hexadecimal digits, as \"client token new\" prints them; a token itself does not belong here")
	}
	copy(h[:], b)
	return h, nil
}
