package auth

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is when most tests take place.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// open has a directory of a file with this text.
func open(t testing.TB, text string) *Directory {
	t.Helper()
	d, err := Open(write(t, t.TempDir(), "auth.yaml", text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// who tells who somebody is, or the reason and message of why it is nobody.
func who(t testing.TB, d *Directory, now time.Time, c Credentials) string {
	t.Helper()
	id, err := d.identify(t.Context(), now, c)
	if err == nil {
		return id.Principal.Name
	}
	if strings.Contains(err.Error(), c.Token) && c.Token != "" {
		t.Errorf("the message shows the token: %v", err)
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason + ": " + e.Message
	}
	return err.Error()
}

// expect holds what who tells against a name, or "REASON: part of the message".
func expect(t testing.TB, what, got, want string) {
	t.Helper()
	reason, part, refused := strings.Cut(want, ": ")
	if got != want && !(refused && strings.HasPrefix(got, reason+": ") && strings.Contains(got, part)) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestWhoIsWho(t *testing.T) {
	token, hash := NewToken()
	timed, timedHash := NewToken()
	d := open(t, `principals:
- {name: shop, tokens: ["`+hash+`"], certificates: [shop.example.com]}
- {name: day, tokens: [{hash: "`+timedHash+`", expires: 2026-11-23T14:00:00+02:00}]}
- {name: text}
`)
	for _, c := range []struct {
		what string
		c    Credentials
		now  time.Time
		want string
	}{
		{"a token", Credentials{Token: token}, noon, "shop"},
		{"another one", Credentials{Token: token[:len(token)-1] + "!"}, noon, "BAD_TOKEN: none that is known"},
		{"a short one", Credentials{Token: "x"}, noon, "BAD_TOKEN: none that is known"},
		{"ours with dots", Credentials{Token: "rpt_a.b.c"}, noon, "BAD_TOKEN: none that is known"},
		{"nearly a JWT", Credentials{Token: "a.b.c.d"}, noon, "BAD_TOKEN: none that is known"},
		{"a token in time", Credentials{Token: timed}, noon.Add(-time.Nanosecond), "day"},
		{"a token too late", Credentials{Token: timed}, noon, "TOKEN_EXPIRED: token of day expired at 2026-11-23T12:00:00Z"},
		{"a local one", Credentials{Local: "text"}, noon, "text"},
		{"a local one that is not there", Credentials{Local: "shell"}, noon, `UNKNOWN_PRINCIPAL: no principal is named "shell"`},
		{"nothing", Credentials{}, noon, "NO_CREDENTIALS: authorization: Bearer TOKEN"},
		{"a certificate", Credentials{Certificate: dnsCertificate("shop.example.com")}, noon, "shop"},
		{"a bad token beside a good certificate", Credentials{Token: "x", Certificate: dnsCertificate("shop.example.com")}, noon, "BAD_TOKEN: none that is known"},
		{"a good token beside a bad certificate", Credentials{Token: token, Certificate: dnsCertificate("nobody")}, noon, "shop"},
	} {
		expect(t, c.what, who(t, d, c.now, c.c), c.want)
	}
	id, err := d.identify(t.Context(), noon.Add(-time.Hour), Credentials{Token: timed})
	if err != nil || !id.Expires.Equal(noon) {
		t.Errorf("the token is said to expire at %v (%v)", id.Expires, err)
	}
	if id, err = d.Identify(context.Background(), Credentials{Token: token}); err != nil || !id.Expires.IsZero() {
		t.Errorf("the token without an end is said to expire at %v (%v)", id.Expires, err)
	}
	if id.Principal != d.Principal("shop") || d.Principal("nobody") != nil {
		t.Error("a principal by its name is another one")
	}
}

func TestPrincipals(t *testing.T) {
	d := open(t, "principals: [{name: a}, {name: b}]\n")
	all := d.Principals()
	if len(all) != 2 || all["a"] != d.Principal("a") || all["b"] != d.Principal("b") {
		t.Errorf("they are %v", all)
	}
	delete(all, "a")
	if d.Principal("a") == nil {
		t.Error("whoever asks for them can remove one")
	}
}

func TestOptions(t *testing.T) {
	_, err := Open("auth.yaml", Options{Interval: -time.Second})
	if err == nil || !strings.Contains(err.Error(), "Interval is -1s") {
		t.Errorf("got %v", err)
	}
}
