package task

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestNamesAtTheirEdges(t *testing.T) {
	for _, c := range []struct {
		check func(string) error
		field string
		good  []string
		bad   []string
	}{
		{CheckFunction, "function", []string{"a", "/pkg.Service/Method", "a-b_c", strings.Repeat("f", 128)},
			[]string{"", "a b", "a:b", "é", "a\n", "a|b", strings.Repeat("f", 129)}},
		{CheckID, "task_id", []string{"a", "task_1:2.3-4", strings.Repeat("i", 128)},
			[]string{"", "a/b", "a b", "a@b", "\x00", strings.Repeat("i", 129)}},
		{CheckWorkerID, "worker_id", []string{"w@10.0.0.1:9", strings.Repeat("w", 128)},
			[]string{"", "w/1", "w 1", "w\x1b[0m", strings.Repeat("w", 129)}},
	} {
		for _, name := range c.good {
			if err := c.check(name); err != nil {
				t.Errorf("%s %q: %v", c.field, name, err)
			}
		}
		for _, name := range c.bad {
			bad, ok := errors.AsType[*InvalidError](c.check(name))
			if !ok || bad.Field != c.field {
				t.Errorf("%s %q: got %v", c.field, name, bad)
			}
		}
	}
}

func TestMetadataAtItsEdges(t *testing.T) {
	many := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprint(i)] = ""
		}
		return m
	}
	for name, c := range map[string]struct {
		m  map[string]string
		ok bool
	}{
		"none":              {nil, true},
		"64 entries":        {many(64), true},
		"65 entries":        {many(65), false},
		"16 KiB":            {map[string]string{"k": strings.Repeat("v", 16<<10-1)}, true},
		"16 KiB and one":    {map[string]string{"k": strings.Repeat("v", 16<<10)}, false},
		"an empty key":      {map[string]string{"": "v"}, false},
		"a key not UTF-8":   {map[string]string{"\xff": "v"}, false},
		"a value not UTF-8": {map[string]string{"k": "\xff"}, false},
	} {
		err := CheckMetadata("labels", c.m)
		if bad, ok := errors.AsType[*InvalidError](err); (err == nil) != c.ok || err != nil && (!ok || bad.Field != "labels") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// FuzzCheckID holds the check against the contract's own words.
func FuzzCheckID(f *testing.F) {
	fuzzName(f, CheckID, `\A[A-Za-z0-9._:-]{1,128}\z`)
}

func FuzzCheckFunction(f *testing.F) {
	fuzzName(f, CheckFunction, `\A[A-Za-z0-9._/-]{1,128}\z`)
}

func FuzzCheckWorkerID(f *testing.F) {
	fuzzName(f, CheckWorkerID, `\A[A-Za-z0-9._:@-]{1,128}\z`)
}

// fuzzName: accepted is what the contract says, and an error is printable and
// short, whatever the name was.
func fuzzName(f *testing.F, check func(string) error, contract string) {
	allowed := regexp.MustCompile(contract)
	for _, s := range []string{"", "a", "a b", "/pkg.Service/Method", "w@h:1", strings.Repeat("x", 128), strings.Repeat("x", 129), strings.Repeat("\xff", 129), "é\xff", "a\n", "\x1b[2J"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		err := check(s)
		if got := err == nil; got != allowed.MatchString(s) {
			t.Errorf("%q: accepted is %v", s, got)
		}
		if err == nil {
			return
		}
		for _, c := range err.Error() {
			if !strconv.IsPrint(c) {
				t.Errorf("%q: the error holds %q, which is not for a terminal", s, c)
			}
		}
		if n := len(err.Error()); n > 4*MaxIDLen+200 {
			t.Errorf("the error has %d bytes", n)
		}
	})
}
