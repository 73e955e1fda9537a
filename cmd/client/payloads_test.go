package main

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestPayloadsAreLines(t *testing.T) {
	for in, want := range map[string]string{
		"":                "",
		"\n":              "[]",
		"a":               "[a]",
		"a\n":             "[a]",
		"a\r\nb\n":        "[a][b]",
		"a\r\r\n":         "[a\r]",
		"a\rb\n\n\x00c":   "[a\rb][][\x00c]",
		"\xff\n-\n--x\n ": "[\xff][-][--x][ ]",
	} {
		for _, r := range []io.Reader{strings.NewReader(in), iotest.OneByteReader(strings.NewReader(in)), iotest.DataErrReader(strings.NewReader(in))} {
			p := source(nil, true, r)
			var got strings.Builder
			for {
				payload, problem, err := p.next()
				if err != nil || problem != nil {
					t.Fatalf("%q: %v, %v", in, problem, err)
				}
				if payload == nil {
					break
				}
				got.WriteString("[" + string(payload) + "]")
			}
			if got.String() != want {
				t.Errorf("%q becomes %q, want %q", in, &got, want)
			}
		}
	}
}

func TestPayloadsOverTheLimitAreLeftOut(t *testing.T) {
	for size, ok := range map[int]bool{maxLine - 1: true, maxLine: true, maxLine + 1: false, maxLine + 2: false, 3 * maxLine: false} {
		for _, end := range []string{"", "\n", "\r\n"} {
			p := source(nil, true, strings.NewReader(strings.Repeat("x", size)+end+"next"))
			if end == "" {
				p = source(nil, true, strings.NewReader(strings.Repeat("x", size)))
			}
			payload, problem, err := p.next()
			if err != nil || (problem == nil) != ok || ok && len(payload) != size {
				t.Errorf("%d bytes and %q: %d bytes, %v, %v", size, end, len(payload), problem, err)
			}
			if end == "" {
				continue
			}
			if payload, problem, err = p.next(); string(payload) != "next" || problem != nil || err != nil {
				t.Errorf("after %d bytes and %q: %.20q, %v, %v", size, end, payload, problem, err)
			}
		}
	}
}

func TestPayloadsEndWithAnError(t *testing.T) {
	broken := errors.New("the tape broke")
	p := source(nil, true, io.MultiReader(strings.NewReader("one\ntw"), iotest.ErrReader(broken)))
	if payload, _, err := p.next(); string(payload) != "one" || err != nil {
		t.Errorf("got %q, %v", payload, err)
	}
	if payload, _, err := p.next(); payload != nil || !errors.Is(err, broken) {
		t.Errorf("got %q, %v: half a line is no task", payload, err)
	}
}

func TestPayloadsThatAreGiven(t *testing.T) {
	p := source([]string{"", "-"}, false, nil)
	for _, want := range []string{"", "-"} {
		if payload, problem, err := p.next(); payload == nil || string(payload) != want || problem != nil || err != nil {
			t.Errorf("got %q, %v, %v", payload, problem, err)
		}
	}
	if payload, _, err := p.next(); payload != nil || err != nil {
		t.Errorf("got %q, %v at the end", payload, err)
	}
}
