package worker

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func TestOptionsAreCheckedBeforeDialling(t *testing.T) {
	ok := Handlers{"echo": echo}
	many := func(n int) Handlers {
		h := Handlers{}
		for i := range n {
			h[fmt.Sprint("f", i)] = echo
		}
		return h
	}
	labels := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprint("l", i)] = ""
		}
		return m
	}
	for _, c := range []struct {
		h    Handlers
		o    Options
		want string // part of the error; empty: none
	}{
		{ok, Options{}, ""},
		{nil, Options{}, "no handlers"},
		{Handlers{"": echo}, Options{}, "0 characters"},
		{Handlers{"a b": echo}, Options{}, `"a b" has ' ' in it`},
		{Handlers{"/pkg.Service/Method_1-x": echo}, Options{}, ""},
		{Handlers{"a:b": echo}, Options{}, "':'"},
		{Handlers{"ä": echo}, Options{}, "'ä'"},
		{Handlers{strings.Repeat("a", 128): echo}, Options{}, ""},
		{Handlers{strings.Repeat("a", 129): echo}, Options{}, "129 characters"},
		{Handlers{"echo": nil}, Options{}, "nil handler"},
		{many(256), Options{}, ""},
		{many(257), Options{}, "257 handlers"},
		{ok, Options{ID: "a:b@c.d_e-9"}, ""},
		{ok, Options{ID: "a/b"}, "Options.ID"},
		{ok, Options{ID: strings.Repeat("a", 129)}, "Options.ID"},
		{ok, Options{Slots: -1}, "Options.Slots is -1"},
		{ok, Options{Slots: 65536}, ""},
		{ok, Options{Slots: 65537}, "Options.Slots is 65537"},
		{ok, Options{Prefetch: -1}, "Options.Prefetch is -1"},
		{ok, Options{Slots: 65000, Prefetch: 536}, ""},
		{ok, Options{Slots: 65000, Prefetch: 537}, "Options.Prefetch is 537"},
		{ok, Options{Prefetch: 65535}, ""},
		{ok, Options{Prefetch: 65536}, "Options.Prefetch"},
		{ok, Options{DrainTimeout: -time.Second}, "Options.DrainTimeout"},
		{ok, Options{Build: strings.Repeat("b", 1024)}, ""},
		{ok, Options{Build: strings.Repeat("b", 1025)}, "Options.Build"},
		{ok, Options{Build: "\xff"}, "Options.Build"},
		{ok, Options{Labels: labels(64)}, ""},
		{ok, Options{Labels: labels(65)}, "65 entries"},
		{ok, Options{Labels: map[string]string{"": "x"}}, "needs a key"},
		{ok, Options{Labels: map[string]string{"k": "\xff"}}, "UTF-8"},
		{ok, Options{Labels: map[string]string{"k": strings.Repeat("x", 16<<10-1)}}, ""},
		{ok, Options{Labels: map[string]string{"k": strings.Repeat("x", 16<<10)}}, "16385 bytes"},
	} {
		_, err := c.o.complete(c.h)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("refused: %v", err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("got %v, want it to mention %s", err, c.want)
		}
	}
}

func TestDefaults(t *testing.T) {
	o, err := Options{}.complete(Handlers{"echo": echo})
	if err != nil {
		t.Fatal(err)
	}
	if o.Slots != 512 || o.Log == nil {
		t.Errorf("completed to %+v", o)
	}
	if o, _ := (Options{Prefetch: 65500}).complete(Handlers{"echo": echo}); o.Slots != 36 {
		t.Errorf("%d slots beside 65500 prefetched, want what is left", o.Slots)
	}
	host, _ := os.Hostname()
	p, _ := Options{}.complete(Handlers{"echo": echo})
	if o.ID == p.ID || !strings.HasPrefix(o.ID, host[:1]) {
		t.Errorf("made up the IDs %q and %q", o.ID, p.ID)
	}
}

func TestMadeUpIDsAreValid(t *testing.T) {
	for _, host := range []string{"", "büro 7", "日本", strings.Repeat("h", 300), "build-7.example.org"} {
		id := idFor(host)
		if err := checkName("id", id, workerIDSpecials); err != nil {
			t.Error(err)
		}
	}
}

func TestCutKeepsCharactersWhole(t *testing.T) {
	for _, c := range []struct {
		s    string
		n    int
		want string
	}{{"abc", 3, "abc"}, {"abcd", 3, "abc"}, {"aäb", 2, "a"}, {"日本", 5, "日"}, {"日", 0, ""}} {
		if got := cut(c.s, c.n); got != c.want {
			t.Errorf("cut(%q, %d) = %q, want %q", c.s, c.n, got, c.want)
		}
	}
}
