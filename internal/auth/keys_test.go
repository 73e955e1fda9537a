package auth

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

func TestKeySets(t *testing.T) {
	k := newKeys(t)
	es := strings.TrimSuffix(strings.TrimPrefix(k.set(t, "es"), `{"keys":[`), `]}`)
	private, err := json.Marshal(jose.JSONWebKey{Key: k["es"], KeyID: "es"})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GODEBUG", "rsa1024min=0")
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	short, err := json.Marshal(jose.JSONWebKey{Key: weak.Public(), KeyID: "weak"})
	if err != nil {
		t.Fatal(err)
	}
	nameless := strings.Replace(es, `"kid":"es"`, `"kid":""`, 1)
	for _, c := range []struct {
		what, text  string
		file, fetch string // what is wrong with it; empty: nothing
	}{
		{"one key", `{"keys":[` + es + `]}`, "", ""},
		{"beside one for encryption", `{"keys":[{"kty":"RSA","use":"enc"},` + es + `]}`, "", ""},
		{"beside one of another type", `{"keys":[{"kty":"new","kid":"x"},` + es + `]}`, "", ""},
		{"beside a secret", `{"keys":[` + es + `,{"kty":"oct","kid":"x","k":"AAAA"}]}`, "has in key 2 a secret (kty oct)", ""},
		{"beside a private key", `{"keys":[` + es + `,` + string(private) + `]}`, "has in key 2 a private key", ""},
		{"beside one with no kid", `{"keys":[` + es + `,` + nameless + `]}`, "has in key 2 no kid", ""},
		{"beside a short one", `{"keys":[` + es + `,` + string(short) + `]}`, "RSA key of 1024 bits; want 2048", ""},
		{"beside nonsense", `{"keys":[` + es + `,{"kty":"EC","kid":"x"}]}`, "what can't be used", ""},
		{"beside a number", `{"keys":[` + es + `,7]}`, "no key at all", ""},
		{"a secret alone", `{"keys":[{"kty":"oct","kid":"x","k":"AAAA"}]}`, "a secret", "has no key for signatures"},
		{"a private key alone", `{"keys":[` + string(private) + `]}`, "a private key", "has no key for signatures"},
		{"a short one alone", `{"keys":[` + string(short) + `]}`, "1024 bits", "has no key for signatures"},
		{"none", `{"keys":[]}`, "has no key for signatures", "has no key for signatures"},
		{"a key and no set", es, "is no JSON Web Key Set", "is no JSON Web Key Set"},
		{"no JSON", "<html>", "is no JSON Web Key Set", "is no JSON Web Key Set"},
		{"nothing", "", "is no JSON Web Key Set", "is no JSON Web Key Set"},
	} {
		for own, want := range map[bool]string{true: c.file, false: c.fetch} {
			set, err := parseKeys([]byte(c.text), own)
			switch {
			case want == "" && (err != nil || len(set.find("es", "ES256")) != 1):
				t.Errorf("%s, in a file of ours %v: got %v", c.what, own, err)
			case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("%s, in a file of ours %v: got %v, want %q", c.what, own, err, want)
			}
		}
	}
}

// TestSameKeys: an issuer that gives the same keys in another order has changed
// nothing, and one that gives a key another use has.
func TestSameKeys(t *testing.T) {
	k := newKeys(t)
	sum := func(text string) string {
		t.Helper()
		set, err := parseKeys([]byte(text), true)
		if err != nil {
			t.Fatal(err)
		}
		return set.sum
	}
	both := sum(k.set(t, "es", "rs"))
	if both != sum(k.set(t, "rs", "es")) {
		t.Error("the order is a change")
	}
	for what, text := range map[string]string{
		"one key less":      k.set(t, "es"),
		"another key":       k.set(t, "es", "ps"),
		"another algorithm": strings.Replace(k.set(t, "es", "rs"), "RS256", "RS512", 1),
		"another kid":       strings.Replace(k.set(t, "es", "rs"), `"kid":"rs"`, `"kid":"x"`, 1),
	} {
		if both == sum(text) {
			t.Errorf("%s is no change", what)
		}
	}
}
