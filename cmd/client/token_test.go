package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"reparto/internal/auth"
	"reparto/internal/cli"
)

func token(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{"token", "new"}, args...), strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// known is when a token ends by the auth file that has the line.
func known(t *testing.T, token, line string) time.Time {
	t.Helper()
	path := filepath.Join(t.TempDir(), "auth.yaml")
	if err := os.WriteFile(path, []byte("principals:\n  - name: shop\n    tokens:\n      - "+line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := auth.Open(path, auth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	id, err := d.Identify(t.Context(), auth.Credentials{Token: token})
	if err != nil || id.Principal.Name != "shop" {
		t.Errorf("the token is not known by its line %s: %v", line, err)
	}
	return id.Expires
}

func TestTokenNew(t *testing.T) {
	for _, c := range []struct {
		expires string
		want    time.Duration // 0: for ever
	}{{"", 0}, {"36h", 36 * time.Hour}, {"90d", 90 * 24 * time.Hour}} {
		args, before := []string{}, time.Now().Truncate(time.Second)
		if c.expires != "" {
			args = []string{"--expires", c.expires}
		}
		ends := func(got time.Time) bool {
			if c.want == 0 {
				return got.IsZero()
			}
			return !got.Before(before.Add(c.want)) && !got.After(time.Now().Add(c.want))
		}
		code, out, errs := token(t, args...)
		lines := regexp.MustCompile(`^token:     (rpt_[A-Za-z0-9_-]{43})\nauth file: (.*)\n$`).FindStringSubmatch(out)
		if code != cli.OK || errs != "" || lines == nil {
			t.Fatalf("%v: exit code %d, stdout %q, stderr %q", args, code, out, errs)
		}
		if until := known(t, lines[1], lines[2]); !ends(until) {
			t.Errorf("%v: it ends at %v", args, until)
		}
		code, out, errs = token(t, append(args, "--output", "json")...)
		var o tokenObject
		if err := json.Unmarshal([]byte(out), &o); err != nil || code != cli.OK || errs != "" || strings.Count(out, "\n") != 1 {
			t.Fatalf("%v: exit code %d, stdout %q, stderr %q", args, code, out, errs)
		}
		if o.Token == lines[1] {
			t.Error("two tokens are the same")
		}
		if until := known(t, o.Token, o.Line); !ends(until) || (o.Expires == nil) != (c.want == 0) || o.Expires != nil && !o.Expires.Equal(until) {
			t.Errorf("%v: it ends at %v; the object says %v", args, until, o.Expires)
		}
		if !known(t, o.Token, o.Hash).IsZero() {
			t.Errorf("%v: the hash alone has an end", args)
		}
	}
}

func TestTokenNewIsAskedWrongly(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--expires 0d", `--expires is "0d": give a time such as 90d or 36h`},
		{"--expires -1h", `--expires is "-1h": give a time`},
		{"--expires tomorrow", `--expires is "tomorrow": give a time`},
		{"--expires 1.5d", `--expires is "1.5d": give a time`},
		{"--expires 99999999d", "give a hundred years at most"},
		{"--expires 999999999999999999999d", "give a hundred years at most"},
		{"--output yaml", "yaml"},
		{"shop", "shop"},
	} {
		code, out, errs := token(t, strings.Fields(c.args)...)
		if code != cli.Usage || out != "" || !strings.Contains(errs, c.want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q; want %q", c.args, code, out, errs, c.want)
		}
	}
}
