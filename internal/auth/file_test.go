package auth

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// example is the file that docs/auth.md shows.
func example(t testing.TB) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "auth.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "```yaml\n")
	text, _, found := strings.Cut(text, "```\n")
	if !found {
		t.Fatal("docs/auth.md shows no file")
	}
	return text
}

func TestTheExample(t *testing.T) {
	d := open(t, example(t))
	expect(t, "a token", who(t, d, noon, Credentials{Token: "abc"}), "shop")
	expect(t, "a token with an end", who(t, d, noon, Credentials{Token: "def"}), "shop")
	expect(t, "a certificate", who(t, d, noon, Credentials{Certificate: dnsCertificate("ops.example.com")}), "ops")
	expect(t, "a text port", who(t, d, noon, Credentials{Local: "text"}), "text")
	shop, scaler, ops := d.Principal("shop"), d.Principal("scaler"), d.Principal("ops")
	if !shop.MaySubmit("images.scale") || shop.MayWorkAny() || shop.Administers() || !scaler.MayWork("images.scale") || scaler.MaySubmitAny() || !ops.Administers() {
		t.Errorf("they are %+v, %+v, %+v", shop, scaler, ops)
	}
	if want := (Limits{TasksInFlight: 1000, TasksPerSecond: 500, Burst: 1000}); shop.Limits != want {
		t.Errorf("the limits are %+v", shop.Limits)
	}
}

// hashes of two tokens.
const (
	hashA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	hashB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

func TestRefusedFiles(t *testing.T) {
	one := func(fields string) string { return "principals:\n- {name: a, " + fields + "}\n" }
	issuer := func(fields string) string { return "principals: [{name: a}]\nissuers:\n- {" + fields + "}\n" }
	from := `issuer: "https://a", audience: b`
	for _, c := range []struct{ what, text, want string }{
		{"nothing", "", ": is empty; give at least one principal"},
		{"a comment", "# nobody\n", ": is empty"},
		{"no YAML", "principals: [", ": line 1: did not find expected node content"},
		{"two documents", "principals: [{name: a}]\n---\nprincipals: []\n", ": has more than one YAML document"},
		{"a list", "- a\n", ":1: the file is a list; want the fields principals, issuers"},
		{"an unknown field", "principals: [{name: a}]\nusers: []\n", `:2: the file has an unknown field "users"; known are principals, issuers`},
		{"no principals", "issuers: []\n", ":1: the file has no principals"},
		{"an empty list", "principals: []\n", ":1: principals is empty; nobody could do anything"},
		{"nothing for the list", "principals:\n", ":1: principals is nothing; want a list"},
		{"a name for the list", "principals: shop\n", ":1: principals is text; want a list, such as [a, b]"},
		{"a field twice", "principals:\n- name: a\n  submit: [x]\n  submit: [y]\n", ":4: principals[0].submit is there twice, first at line 3"},
		{"an unknown field of a principal", "principals:\n- name: a\n  Submit: [x]\n", `:3: principals[0] has an unknown field "Submit"; known are name, tokens`},
		{"no name", "principals:\n- submit: [x]\n", ":2: principals[0] has no name"},
		{"an empty name", "principals: [{name: ''}]\n", ":1: principals[0].name is empty"},
		{"a name with a blank", "principals: [{name: the shop}]\n", `:1: principals[0].name is "the shop"; want 1 to 128 letters`},
		{"a name that is long", "principals: [{name: " + strings.Repeat("x", 129) + "}]\n", "want 1 to 128 letters"},
		{"a list for a name", "principals: [{name: [a]}]\n", ":1: principals[0].name is a list; want text"},
		{"a name twice", "principals:\n- name: a\n- name: a\n", `:3: principals[1].name is "a", as that of another principal is`},
		{"a token for its hash", one("tokens: [rpt_secretsecret]"), ":2: principals[0].tokens[0] is no hash of a token: want sha256: and 64 hexadecimal digits"},
		{"a short hash", one("tokens: ['sha256:abcd']"), "is no hash of a token"},
		{"a hash of nothing", one("tokens: ['sha256:']"), "is no hash of a token"},
		{"a text for tokens", one("tokens: '" + hashA + "'"), ":2: principals[0].tokens is text; want a list"},
		{"a token with no hash", one("tokens: [{expires: 2027-01-01T00:00:00Z}]"), ":2: principals[0].tokens[0] has no hash"},
		{"a token with an unknown field", one("tokens: [{hash: '" + hashA + "', until: 2027-01-01T00:00:00Z}]"), `tokens[0] has an unknown field "until"; known are hash, expires`},
		{"a token with an odd end", one("tokens: [{hash: '" + hashA + "', expires: 2027-01-01}]"), `:2: principals[0].tokens[0].expires is "2027-01-01"; want a time such as 2027-01-01T00:00:00Z`},
		{"a token with a list for its end", one("tokens: [{hash: '" + hashA + "', expires: []}]"), "expires is a list; want a time"},
		{"a token twice", one("tokens: ['" + hashA + "', '" + hashA + "']"), ":2: principals[0].tokens[1] is that of a at line 2 already"},
		{"a token of two", one("tokens: ['"+hashB+"']") + "- {name: b, tokens: ['" + hashA + "', {hash: '" + strings.ToUpper(hashB[7:]) + "'}]}\n", "tokens[1].hash is no hash"},
		{"a token of two, once in the long form", one("tokens: ['"+hashB+"']") + "- {name: b, tokens: [{hash: 'sha256:" + strings.ToUpper(hashB[7:]) + "'}]}\n", ":3: principals[1].tokens[0].hash is that of a at line 2 already"},
		{"a certificate twice", one("certificates: [a.example.com]") + "- {name: b, certificates: [A.example.com]}\n", ":3: principals[1].certificates[0] is that of a at line 2 already"},
		{"an address in two forms", one("certificates: ['::1', '0:0::1']"), "certificates[1] is that of a at line 2 already"},
		{"no name of a certificate", one("certificates: ['CN=shop']"), `:2: principals[0].certificates[0] is "CN=shop": no DNS name, URI, address of mail or IP address`},
		{"no URI", one("certificates: ['shop:8080']"), "no URI; want one such as spiffe://example.com/shop"},
		{"no mail", one("certificates: ['@example.com']"), "no address of mail"},
		{"a subject and no issuer", one("subjects: [x]"), ":2: principals[0].subjects[0] needs an issuer; the file has none"},
		{"a pattern that matches nothing", one("submit: ['sum,images']"), `:2: principals[0].submit[0] is "sum,images", which no function is called`},
		{"an empty pattern", one("work: ['']"), "work[0] is empty"},
		{"a text for patterns", one("work: sum"), "work is text; want a list"},
		{"an odd truth", one("administer: yes"), ":2: principals[0].administer is text; want true or false"},
		{"a number for a truth", one("administer: 1"), "administer is int; want true or false"},
		{"a list of limits", one("limits: [1]"), "limits is a list; want the fields connections"},
		{"an unknown limit", one("limits: {tasks: 1}"), `limits has an unknown field "tasks"`},
		{"a negative limit", one("limits: {streams: -1}"), `:2: principals[0].limits.streams is "-1"; want a whole number from 0 to 1000000000`},
		{"half a stream", one("limits: {streams: 0.5}"), `streams is "0.5"; want a whole number`},
		{"a limit too large", one("limits: {queued_bytes: 1000000000000001}"), "want a whole number from 0 to 1000000000000000"},
		{"a limit past all numbers", one("limits: {burst: 99999999999999999999}"), "want a whole number"},
		{"no rate", one("limits: {tasks_per_second: .nan}"), `tasks_per_second is ".nan"; want a number from 0`},
		{"an endless rate", one("limits: {tasks_per_second: .inf}"), "want a number from 0"},
		{"a text for a rate", one("limits: {tasks_per_second: many}"), `is "many"; want a number`},
		{"an issuer with no name", issuer("audience: b, jwks_url: 'https://a'"), ":3: issuers[0] has no issuer"},
		{"an issuer with no audience", issuer("issuer: a, jwks_url: 'https://a'"), ":3: issuers[0] has no audience"},
		{"an issuer with an empty claim", issuer(from + ", claim: '', jwks_url: 'https://a'"), "claim is empty"},
		{"an issuer with no keys", issuer(from), ":3: issuers[0] needs its keys from jwks_file or from jwks_url"},
		{"an issuer with keys twice", issuer(from + ", jwks_url: 'https://a', jwks_file: x"), "from one of them alone"},
		{"an issuer twice", issuer(from+", jwks_url: 'https://a'") + "- {" + from + ", jwks_url: 'https://b'}\n", `:4: issuers[1].issuer is "https://a", as that of another one is`},
		{"keys in the clear", issuer(from + ", jwks_url: 'http://a'"), `:3: issuers[0].jwks_url is "http://a"; want https`},
		{"keys with a password", issuer(from + ", jwks_url: 'https://a:b@c'"), "jwks_url has a name or password in it"},
		{"keys from nowhere", issuer(from + ", jwks_url: 'file:///keys'"), "is no URL of the web"},
		{"a file of keys that is not there", issuer(from + ", jwks_file: none.json"), ":3: issuers[0].jwks_file can't be read: "},
		{"a folder of keys", issuer(from + ", jwks_file: ."), "is no regular file"},
		{"a file of no keys", issuer(from + ", jwks_file: auth.yaml"), "auth.yaml, which is no JSON Web Key Set"},
		{"one of two issuers", issuer(from+", jwks_url: 'https://a'") + "- {issuer: b, audience: b, jwks_url: 'https://b'}\n", ""},
		{"a subject of either", "principals: [{name: a, subjects: [x]}]\nissuers: [{issuer: a, audience: b, jwks_url: 'https://a'}, {issuer: b, audience: b, jwks_url: 'https://a'}]\n", ":1: principals[0].subjects[0] could be of any of the 2 issuers; write {issuer: ..., subject: ...}"},
		{"a subject of nobody", "principals: [{name: a, subjects: [{issuer: c, subject: x}]}]\nissuers: [{issuer: a, audience: b, jwks_url: 'https://a'}]\n", `subjects[0].issuer is "c", which is none of the issuers of this file`},
		{"half a subject", "principals: [{name: a, subjects: [{issuer: a}]}]\nissuers: [{issuer: a, audience: b, jwks_url: 'https://a'}]\n", "subjects[0] needs both issuer and subject"},
		{"a subject twice", "principals: [{name: a, subjects: [x]}, {name: b, subjects: [{issuer: a, subject: x}]}]\nissuers: [{issuer: a, audience: b, jwks_url: 'https://a'}]\n", ":1: principals[1].subjects[0].subject is that of a at line 1 already"},
	} {
		path := write(t, t.TempDir(), "auth.yaml", c.text)
		_, err := Open(path, Options{})
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: got %v", c.what, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want %q", c.what, err, c.want)
		case c.want != "" && (!strings.HasPrefix(err.Error(), path+":") || strings.Contains(err.Error(), "secret")):
			t.Errorf("%s: %v names no file, or shows a token", c.what, err)
		}
	}
}

func TestFilesThatCantBeRead(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		filepath.Join(dir, "none.yaml"): "no such file",
		dir:                             "is no regular file",
		write(t, dir, "large.yaml", strings.Repeat("#", maxFile+1)): "is larger than 16777216 bytes",
	} {
		if _, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
}

// TestAliases: what YAML has against repetition may be used, and can't loop.
func TestAliases(t *testing.T) {
	d := open(t, "principals:\n- {name: a, submit: &all [sum, echo]}\n- {name: b, submit: *all}\n")
	if !d.Principal("b").MaySubmit("echo") {
		t.Error("b may not submit what a may")
	}
	path := write(t, t.TempDir(), "auth.yaml", "principals: &p [*p]\n")
	if _, err := Open(path, Options{}); err == nil {
		t.Error("a list in itself is taken")
	}
}

// FuzzFile: nothing panics, and what is taken once is taken again and says the
// same.
func FuzzFile(f *testing.F) {
	for _, s := range []string{example(f), oneIssuer, "", "principals: [{name: a}]", "principals: &p [*p]", "principals: [{name: a, submit: &x [b], work: *x}]", "a: b\n---\n", "principals:\n- name: a\n  limits: {burst: 1e3}\n"} {
		f.Add(s)
	}
	path := filepath.Join(f.TempDir(), "auth.yaml")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "jwks_file") {
			t.Skip() // it would read whatever is named
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		first, err := Open(path, Options{})
		if err != nil {
			if !strings.Contains(err.Error(), path) {
				t.Errorf("%v names no file", err)
			}
			return
		}
		again, err := Open(path, Options{})
		if err != nil {
			t.Fatalf("it is refused the second time: %v", err)
		}
		names, all := first.state.Load().byName, again.state.Load().byName
		if len(names) == 0 || len(names) != len(all) {
			t.Errorf("%d principals, and then %d", len(names), len(all))
		}
		for name, p := range names {
			q := all[name]
			if name != p.Name || q == nil || p.Limits != q.Limits || p.MaySubmit("sum") != q.MaySubmit("sum") || p.MayWorkAny() != q.MayWorkAny() || p.Administers() != q.Administers() {
				t.Errorf("%+v, and then %+v", p, q)
			}
		}
	})
}
