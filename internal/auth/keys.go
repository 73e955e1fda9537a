package auth

import (
	"crypto"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// algorithms are those by which a JWT may be signed: all have a public key, so
// that what checks a JWT could not have made it.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// minRSA is the least size of an RSA key, in bits.
const minRSA = 2048

// keySet are an issuer's keys. Nobody changes it.
type keySet struct {
	byID map[string][]jose.JSONWebKey
	sum  string // tells two sets apart
}

// find returns the keys with the id that may have signed by the algorithm.
func (k keySet) find(id, algorithm string) []jose.JSONWebKey {
	var found []jose.JSONWebKey
	for _, key := range k.byID[id] {
		if key.Algorithm == "" || key.Algorithm == algorithm {
			found = append(found, key)
		}
	}
	return found
}

// parseKeys reads a JSON Web Key Set. Keys that are not for signatures or of a
// type not known here are left out; one at least must remain. Of a file of our
// own, what looks like a mistake is an error too.
func parseKeys(text []byte, own bool) (keySet, error) {
	var doc struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(text, &doc); err != nil || doc.Keys == nil {
		return keySet{}, errors.New(`is no JSON Web Key Set; want {"keys": [...]}`)
	}
	set := keySet{byID: map[string][]jose.JSONWebKey{}}
	var sums []string
	for i, raw := range doc.Keys {
		key, err := parseKey(raw)
		if err != nil && own {
			return keySet{}, fmt.Errorf("has in key %d %w", i+1, err)
		}
		if err != nil || key == nil {
			continue
		}
		set.byID[key.KeyID] = append(set.byID[key.KeyID], *key)
		print, err := key.Thumbprint(crypto.SHA256)
		if err != nil {
			return keySet{}, fmt.Errorf("has in key %d what can't be a key: %w", i+1, err)
		}
		sums = append(sums, fmt.Sprintf("%q %q %s", key.KeyID, key.Algorithm, base64.StdEncoding.EncodeToString(print)))
	}
	if len(set.byID) == 0 {
		return keySet{}, errors.New("has no key for signatures that has a kid")
	}
	slices.Sort(sums)
	set.sum = strings.Join(sums, "\n")
	return set, nil
}

// parseKey returns nil for a key that is fine and of no use here.
func parseKey(raw []byte) (*jose.JSONWebKey, error) {
	var head struct {
		Kty string `json:"kty"`
		Kid string `json:"kid"`
		Use string `json:"use"`
		D   string `json:"d"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, errors.New("no key at all")
	}
	switch {
	case head.Kty == "oct":
		return nil, errors.New("a secret (kty oct); only public keys belong here")
	case head.D != "":
		return nil, errors.New("a private key; only public keys belong here")
	case head.Use != "" && head.Use != "sig", !slices.Contains([]string{"RSA", "EC", "OKP"}, head.Kty):
		return nil, nil
	case head.Kid == "":
		return nil, errors.New("no kid, by which JWTs name it")
	}
	var key jose.JSONWebKey
	if err := json.Unmarshal(raw, &key); err != nil {
		return nil, fmt.Errorf("what can't be used: %w", err)
	}
	if r, ok := key.Key.(*rsa.PublicKey); ok && r.N.BitLen() < minRSA {
		return nil, fmt.Errorf("an RSA key of %d bits; want %d at least", r.N.BitLen(), minRSA)
	}
	return &key, nil
}
