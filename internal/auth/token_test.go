package auth

import (
	"encoding/base64"
	"errors"
	"regexp"
	"strings"
	"testing"
)

func TestNewToken(t *testing.T) {
	token, line := NewToken()
	other, otherLine := NewToken()
	if token == other || line == otherLine {
		t.Error("two tokens are the same")
	}
	secret, ours := strings.CutPrefix(token, "rpt_")
	raw, err := base64.RawURLEncoding.DecodeString(secret)
	if !ours || err != nil || len(raw) != 32 || len(secret) != 43 {
		t.Errorf("%q is not rpt_ and 43 characters of base64url (%v)", token, err)
	}
	if !regexp.MustCompile(`^sha256:[0-9a-f]{64}$`).MatchString(line) {
		t.Errorf("%q is no hash line", line)
	}
	got, err := parseHash(line)
	if err != nil || got != hashOf(token) {
		t.Errorf("%q is not the hash of the token (%v)", line, err)
	}
	// As sha256sum has it.
	if h, err := parseHash("sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"); err != nil || h != hashOf("abc") {
		t.Errorf("the hash of abc is another one (%v)", err)
	}
}

// FuzzToken: what is sent as a token is nobody's but what was made, no message
// shows it, and nothing panics.
func FuzzToken(f *testing.F) {
	k := newKeys(f)
	d := k.open(f)
	token, _ := NewToken()
	es, rs := k.sign(f, "es", nil), k.sign(f, "rs", nil)
	for _, s := range []string{token, "", ".", "..", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", es, rs, k.sign(f, "rs", map[string]any{"exp": -1e17})} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, err := d.identify(t.Context(), noon, Credentials{Token: s})
		if err == nil {
			if claims := upToSignature(s); claims != upToSignature(es) && claims != upToSignature(rs) {
				t.Errorf("%q is somebody", s)
			}
			return
		}
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Reason != BadToken && e.Reason != TokenExpired && (s != "" || e.Reason != NoCredentials) {
			t.Errorf("%q: %v", s, err)
		}
		if len(s) > 20 && strings.Contains(err.Error(), s) {
			t.Errorf("the message shows the token: %v", err)
		}
	})
}
