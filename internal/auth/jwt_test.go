package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// keys are an issuer's, by kid.
type keys map[string]crypto.Signer

var algorithmOf = map[string]jose.SignatureAlgorithm{"es": jose.ES256, "rs": jose.RS256, "ed": jose.EdDSA, "ps": jose.PS256, "new": jose.ES256, "stranger": jose.ES256}

// theKeys are made once: RSA takes its time.
var theKeys = sync.OnceValue(func() keys {
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	k := keys{"rs": rs, "ps": rs}
	for _, kid := range []string{"es", "new", "stranger"} {
		if k[kid], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			panic(err)
		}
	}
	if _, k["ed"], err = ed25519.GenerateKey(rand.Reader); err != nil {
		panic(err)
	}
	return k
})

func newKeys(testing.TB) keys { return theKeys() }

// set is the public half of some of them, as issuers publish it.
func (k keys) set(t testing.TB, kids ...string) string {
	t.Helper()
	var set jose.JSONWebKeySet
	for _, kid := range kids {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k[kid].Public(), KeyID: kid, Algorithm: string(algorithmOf[kid]), Use: "sig"})
	}
	text, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const (
	theIssuer = "https://id.example.com"
	oneIssuer = `principals:
- {name: shop, subjects: [shop-service]}
- {name: day, subjects: [day-service]}
issuers:
- {issuer: "https://id.example.com", audience: reparto, jwks_file: keys.json}
`
)

func (k keys) open(t testing.TB) *Directory {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "keys.json", k.set(t, "es", "rs", "ed", "ps"))
	d, err := Open(write(t, dir, "auth.yaml", oneIssuer), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// sign makes a JWT that is good at noon, with some claims replaced, or, by nil,
// left out.
func (k keys) sign(t testing.TB, kid string, claims map[string]any) string {
	t.Helper()
	return signedBy(t, jose.SigningKey{Algorithm: algorithmOf[kid], Key: k[kid]}, kid, claims)
}

func signedBy(t testing.TB, key jose.SigningKey, kid string, claims map[string]any) string {
	t.Helper()
	opt := &jose.SignerOptions{}
	if kid != "" {
		opt = opt.WithHeader("kid", kid)
	}
	s, err := jose.NewSigner(key, opt)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]any{"iss": theIssuer, "aud": "reparto", "sub": "shop-service", "iat": noon.Unix(), "exp": noon.Add(time.Hour).Unix()}
	for name, v := range claims {
		if all[name] = v; v == nil {
			delete(all, name)
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := s.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signature.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func upToSignature(token string) string { return token[:strings.LastIndex(token, ".")] }

// unsigned is a JWT of this header and good claims.
func unsigned(t testing.TB, k keys, header, signature string) string {
	t.Helper()
	parts := strings.Split(k.sign(t, "es", nil), ".")
	return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + parts[1] + "." + signature
}

func TestJWT(t *testing.T) {
	k := newKeys(t)
	d := k.open(t)
	type claims = map[string]any
	for _, c := range []struct{ what, token, want string }{
		{"ES256", k.sign(t, "es", nil), "shop"},
		{"RS256", k.sign(t, "rs", nil), "shop"},
		{"PS256", k.sign(t, "ps", nil), "shop"},
		{"EdDSA", k.sign(t, "ed", nil), "shop"},
		{"another subject", k.sign(t, "es", claims{"sub": "day-service"}), "day"},
		{"one of several audiences", k.sign(t, "es", claims{"aud": []string{"a", "reparto"}}), "shop"},
		{"no iat", k.sign(t, "es", claims{"iat": nil}), "shop"},
		{"wrong issuer", k.sign(t, "es", claims{"iss": "https://id.example.com/"}), `BAD_TOKEN: issuer is "https://id.example.com/"`},
		{"no issuer", k.sign(t, "es", claims{"iss": nil}), `BAD_TOKEN: issuer is ""`},
		{"wrong audience", k.sign(t, "es", claims{"aud": "shop"}), `BAD_TOKEN: is for "shop"; want "reparto"`},
		{"no audience", k.sign(t, "es", claims{"aud": nil}), `BAD_TOKEN: is for nobody; want "reparto"`},
		{"many audiences", k.sign(t, "es", claims{"aud": strings.Split("1,2,3,4,5,6,7", ",")}), `BAD_TOKEN: "5", and 2 more; want "reparto"`},
		{"expired just now", k.sign(t, "es", claims{"exp": noon.Unix()}), "TOKEN_EXPIRED: at 2026-11-23T12:00:00Z"},
		{"good for a second", k.sign(t, "es", claims{"exp": noon.Unix() + 1}), "shop"},
		{"no exp", k.sign(t, "es", claims{"exp": nil}), "BAD_TOKEN: never expires"},
		{"a text for exp", k.sign(t, "es", claims{"exp": "tomorrow"}), "BAD_TOKEN: could be read"},
		{"exp past all times", k.sign(t, "es", claims{"exp": 1e300}), "BAD_TOKEN: could be read"},
		{"not yet valid", k.sign(t, "es", claims{"nbf": noon.Unix() + 31}), "BAD_TOKEN: not valid yet"},
		{"a clock a bit ahead", k.sign(t, "es", claims{"nbf": noon.Unix() + 30, "iat": noon.Unix() + 30}), "shop"},
		{"issued in the future", k.sign(t, "es", claims{"iat": noon.Unix() + 31}), "BAD_TOKEN: not valid yet"},
		{"unknown kid", k.sign(t, "stranger", nil), `BAD_TOKEN: a key that "https://id.example.com" does not have: kid "stranger" for ES256`},
		{"no kid", signedBy(t, jose.SigningKey{Algorithm: jose.ES256, Key: k["es"]}, "", nil), "BAD_TOKEN: no kid"},
		{"a stranger's key", signedBy(t, jose.SigningKey{Algorithm: jose.ES256, Key: k["stranger"]}, "es", nil), "BAD_TOKEN: signature"},
		{"the right key for another algorithm", signedBy(t, jose.SigningKey{Algorithm: jose.RS512, Key: k["rs"]}, "rs", nil), `BAD_TOKEN: kid "rs" for RS512`},
		{"missing sub", k.sign(t, "es", claims{"sub": nil}), `BAD_TOKEN: no claim "sub"`},
		{"a number for sub", k.sign(t, "es", claims{"sub": 7}), "BAD_TOKEN: could be read"},
		{"unknown sub", k.sign(t, "es", claims{"sub": "Shop-Service"}), `UNKNOWN_PRINCIPAL: subject "Shop-Service" of "https://id.example.com"`},
		{"alg none", unsigned(t, k, `{"alg":"none","kid":"es"}`, ""), "BAD_TOKEN: not signed"},
		{"alg None", unsigned(t, k, `{"alg":"None","kid":"es"}`, "AAAA"), "BAD_TOKEN: not signed"},
		{"no alg", unsigned(t, k, `{"kid":"es"}`, "AAAA"), "BAD_TOKEN: not signed"},
		{"no signature", unsigned(t, k, `{"alg":"ES256","kid":"es"}`, ""), "BAD_TOKEN: signature"},
		{"a signature of something else", upToSignature(k.sign(t, "es", claims{"sub": "day-service"})) + "." + strings.Split(k.sign(t, "es", nil), ".")[2], "BAD_TOKEN: signature"},
		{"a part that is critical", unsigned(t, k, `{"alg":"ES256","kid":"es","crit":["x"],"x":1}`, "AAAA"), "BAD_TOKEN: signature"},
		{"no JWT", "a.b.c", "BAD_TOKEN: no JWT"},
		{"far too long", k.sign(t, "es", claims{"x": strings.Repeat("x", maxJWT)}), "BAD_TOKEN: at most 16384"},
	} {
		expect(t, c.what, who(t, d, noon, Credentials{Token: c.token}), c.want)
	}
	id, err := d.identify(t.Context(), noon, Credentials{Token: k.sign(t, "es", nil)})
	if err != nil || !id.Expires.Equal(noon.Add(time.Hour)) {
		t.Errorf("it is said to expire at %v (%v)", id.Expires, err)
	}
}

// TestJWTSignedWithThePublicKey: whoever takes HS256 takes a public key for the
// secret.
func TestJWTSignedWithThePublicKey(t *testing.T) {
	k := newKeys(t)
	d := k.open(t)
	der, err := x509.MarshalPKIXPublicKey(k["rs"].Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range [][]byte{der, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})} {
		token := signedBy(t, jose.SigningKey{Algorithm: jose.HS256, Key: secret}, "rs", nil)
		expect(t, "HS256", who(t, d, noon, Credentials{Token: token}), "BAD_TOKEN: by an algorithm that is not taken")
	}
}

func TestRememberedJWTExpires(t *testing.T) {
	k := newKeys(t)
	d := k.open(t)
	c := Credentials{Token: k.sign(t, "es", nil)}
	for _, at := range []struct {
		now  time.Time
		want string
	}{{noon, "shop"}, {noon, "shop"}, {noon.Add(time.Hour - 1), "shop"}, {noon.Add(time.Hour), "TOKEN_EXPIRED: at 2026-11-23T13:00:00Z"}} {
		expect(t, at.now.String(), who(t, d, at.now, c), at.want)
	}
	if n := d.state.Load().cache.Len(); n != 1 {
		t.Errorf("%d JWTs are remembered", n)
	}
	expect(t, "a forged one", who(t, d, noon, Credentials{Token: c.Token[:len(c.Token)-6] + "AAAAAA"}), "BAD_TOKEN: signature")
	if n := d.state.Load().cache.Len(); n != 1 {
		t.Errorf("%d JWTs are remembered after a forged one", n)
	}
}

func TestSeveralIssuersAndClaims(t *testing.T) {
	k := newKeys(t)
	dir := t.TempDir()
	write(t, dir, "a.json", k.set(t, "es"))
	write(t, dir, "b.json", k.set(t, "new"))
	d, err := Open(write(t, dir, "auth.yaml", `principals:
- {name: a, subjects: [{issuer: "https://a", subject: x}]}
- {name: b, subjects: [{issuer: "https://b", subject: x}]}
issuers:
- {issuer: "https://a", audience: reparto, jwks_file: a.json}
- {issuer: "https://b", audience: b, claim: azp, jwks_file: `+dir+`/b.json}
`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	type claims = map[string]any
	for _, c := range []struct{ what, token, want string }{
		{"of a", k.sign(t, "es", claims{"iss": "https://a", "sub": "x"}), "a"},
		{"of b", k.sign(t, "new", claims{"iss": "https://b", "aud": "b", "azp": "x", "sub": "y"}), "b"},
		{"of b for a", k.sign(t, "new", claims{"iss": "https://b", "azp": "x"}), `BAD_TOKEN: want "b"`},
		{"by the key of a for b", k.sign(t, "es", claims{"iss": "https://b", "aud": "b", "azp": "x"}), "BAD_TOKEN: does not have"},
		{"a list for the claim", k.sign(t, "new", claims{"iss": "https://b", "aud": "b", "azp": []string{"x"}}), `BAD_TOKEN: no claim "azp"`},
	} {
		expect(t, c.what, who(t, d, noon, Credentials{Token: c.token}), c.want)
	}
}
