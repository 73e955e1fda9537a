package auth

import (
	"regexp"
	"strings"
	"testing"
)

func TestWhatOneMayDo(t *testing.T) {
	d := open(t, `principals:
- name: shop
  submit: [sum, "images.*"]
- name: worker
  work: ["*"]
- name: ops
  administer: true
  limits: {tasks_in_flight: 1, tasks_per_second: 2.5, burst: 3, queued_bytes: 4, connections: 5, streams: 6}
- name: nobody
  submit: []
`)
	shop, worker, ops, nobody := d.Principal("shop"), d.Principal("worker"), d.Principal("ops"), d.Principal("nobody")
	for _, c := range []struct {
		what      string
		got, want bool
	}{
		{"shop submits sum", shop.MaySubmit("sum"), true},
		{"shop submits summary", shop.MaySubmit("summary"), false},
		{"shop submits images.scale", shop.MaySubmit("images.scale"), true},
		{"shop submits imagesXscale", shop.MaySubmit("imagesXscale"), false},
		{"shop works for sum", shop.MayWork("sum"), false},
		{"shop submits for any", shop.MaySubmitAny(), true},
		{"shop works for any", shop.MayWorkAny(), false},
		{"shop administers", shop.Administers(), false},
		{"worker works for sum", worker.MayWork("sum"), true},
		{"worker submits sum", worker.MaySubmit("sum"), false},
		{"worker submits for any", worker.MaySubmitAny(), false},
		{"worker works for any", worker.MayWorkAny(), true},
		{"ops administers", ops.Administers(), true},
		{"ops submits sum", ops.MaySubmit("sum"), false},
		{"nobody submits for any", nobody.MaySubmitAny(), false},
		{"nobody submits the empty name", nobody.MaySubmit(""), false},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %v", c.what, c.got)
		}
	}
	if want := (Limits{Connections: 5, Streams: 6, TasksInFlight: 1, TasksPerSecond: 2.5, Burst: 3, QueuedBytes: 4}); ops.Limits != want {
		t.Errorf("the limits are %+v", ops.Limits)
	}
	if shop.Limits != (Limits{}) {
		t.Errorf("the limits of shop are %+v", shop.Limits)
	}
}

// FuzzPattern holds patterns against regular expressions.
func FuzzPattern(f *testing.F) {
	for _, s := range [][2]string{{"sum", "sum"}, {"images.*", "images.scale"}, {"*", ""}, {"a*a", "a"}, {"*a*b*", "xaxbx"}, {"a**b", "ab"}, {"*ab", "aab"}, {"", ""}, {"a*ab*b", "aabb"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, p, name string) {
		parts := strings.Split(p, "*")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		reference, err := regexp.Compile(`(?s)\A` + strings.Join(parts, `.*`) + `\z`)
		if err != nil || strings.ToValidUTF8(name+p, "") != name+p {
			t.Skip() // an expression too long, or . that is more than a byte
		}
		if got, want := newPattern(p).matches(name), reference.MatchString(name); got != want {
			t.Errorf("%q matches %q: got %v, want %v", p, name, got, want)
		}
	})
}
