package gearman

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

func TestAppend(t *testing.T) {
	for _, c := range []struct {
		kind Kind
		args []string
		want string
	}{
		{GrabJob, nil, "\x00REQ\x00\x00\x00\x09\x00\x00\x00\x00"},
		{CanDo, []string{"echo"}, "\x00REQ\x00\x00\x00\x01\x00\x00\x00\x04echo"},
		{SubmitJob, []string{"echo", "", "1,2"}, "\x00REQ\x00\x00\x00\x07\x00\x00\x00\x09echo\x00\x001,2"},
	} {
		var args [][]byte
		for _, a := range c.args {
			args = append(args, []byte(a))
		}
		if got := string(Append(nil, c.kind, args...)); got != c.want {
			t.Errorf("%d %q: %q, want %q", c.kind, c.args, got, c.want)
		}
	}
}

func TestRead(t *testing.T) {
	r := strings.NewReader("\x00RES\x00\x00\x00\x0b\x00\x00\x00\x0eH:x:1\x00echo\x00a\x00b" + "\x00RES\x00\x00\x00\x0a\x00\x00\x00\x00")
	p, err := Read(r)
	if err != nil || p.Kind != JobAssign {
		t.Fatalf("%v, %v", p, err)
	}
	args, err := p.Args(3)
	if err != nil || string(args[0]) != "H:x:1" || string(args[1]) != "echo" || string(args[2]) != "a\x00b" {
		t.Errorf("arguments %q, %v", args, err)
	}
	if p, err := Read(r); err != nil || p.Kind != NoJob || len(p.Body) != 0 {
		t.Errorf("%v, %v", p, err)
	}
	if _, err := Read(r); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func TestReadRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"a request":      "\x00REQ\x00\x00\x00\x0a\x00\x00\x00\x00",
		"a cut header":   "\x00RES\x00\x00",
		"a cut body":     "\x00RES\x00\x00\x00\x0a\x00\x00\x00\x05abc",
		"too much":       "\x00RES\x00\x00\x00\x0a\xff\xff\xff\xff",
		"a server error": "\x00RES\x00\x00\x00\x13\x00\x00\x00\x05E\x00bad",
	} {
		if p, err := Read(strings.NewReader(in)); err == nil || err == io.EOF {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	if _, err := (Packet{JobAssign, []byte("H:x:1\x00echo")}).Args(3); err == nil {
		t.Error("two arguments passed for three")
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("\x00RES\x00\x00\x00\x0a\x00\x00\x00\x02ab"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if p, err := Read(bytes.NewReader(in)); err == nil && len(p.Body)+headerSize > len(in) {
			t.Errorf("%d bytes of %d", len(p.Body), len(in))
		}
	})
}
