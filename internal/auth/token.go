package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
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
