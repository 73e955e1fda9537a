package legacy

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParse(t *testing.T) {
	for line, want := range map[string]struct {
		v        verb
		id, data string
	}{
		"TASK|t1|1,2":              {verbTask, "t1", "1,2"},
		"  TASK|t1|1,2\r\n":        {verbTask, "t1", "1,2"},
		"TASK|t1|a|b|":             {verbTask, "t1", "a|b|"},
		"TASK||":                   {verbTask, "", ""},
		"TASK| t 1 | x":            {verbTask, " t 1 ", " x"},
		"TASK_RESULT|t1|ERROR: no": {verbTaskResult, "t1", "ERROR: no"},
		"RESULT|t1|15":             {verbResult, "t1", "15"},
		"ASSIGN_TASK|t1|ñ":         {verbAssign, "t1", "ñ"},
		"REGISTER|worker_1":        {verbRegister, "worker_1", ""},
		"ACK|worker_1":             {verbAck, "worker_1", ""},
	} {
		m, err := parse([]byte(line))
		if err != nil || m.verb != want.v || string(m.id) != want.id || string(m.data) != want.data {
			t.Errorf("%q: got %q %q %q, %v", line, m.verb, m.id, m.data, err)
		}
	}
	for line, problem := range map[string]string{
		"": "verb", "TASK": "verb", "task|t1|1": "verb", "TASKS|t1|1": "verb", "|t1|1": "verb", "NOPE|a|b": "verb",
		"TASK|t1": "two fields", "TASK_RESULT|t1": "two fields",
		"REGISTER": "verb", "REGISTER|a|b": "more than the two fields",
		"TASK|t1|\xff": "UTF-8",
	} {
		if _, err := parse([]byte(line)); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%q: got error %v, want one about %q", line, err, problem)
		}
	}
}

func TestSelfContained(t *testing.T) {
	for line, want := range map[string]bool{
		"TASK|t1|1": true, "TASK|t1|": true, "REGISTER|w": true, "TASK_RESULT|t1|x": true,
		"TASK|t1": false, "TASK": false, "TASK||1": false, "REGISTER|": false, "REGISTER": false, "TASK|t1|\xc3": false,
	} {
		if got := selfContained([]byte(line)); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{"": "", "a": "a", "a\n": "a", "a\r\n\r\n": "a", " a ": " a ", "a\tb|c": "a\tb|c"} {
		if got, err := oneLine([]byte(in)); string(got) != want || err != nil {
			t.Errorf("%q: got %q, %v", in, got, err)
		}
	}
	for in, want := range map[string]error{"a\nb": errLineBreak, "a\rb": errLineBreak, "\na": errLineBreak, "\xff": errNotUTF8} {
		if _, err := oneLine([]byte(in)); err != want {
			t.Errorf("%q: got %v", in, err)
		}
	}
}

// FuzzParse: no input makes parse panic, and what it understands comes back as
// the same line.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"TASK|t1|1,2,3", "REGISTER|w\r\n", "TASK_RESULT|t|ERROR: x|y", "ACK|", "TASK|", "\xff", "", " TASK|a| b "} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := parse(line)
		if shown := loggable(line); !utf8.ValidString(shown) || len(shown) > loggedLine+len("…") || strings.ContainsAny(shown, "\r\n\x1b\x00") {
			t.Fatalf("%q is logged as %q", line, shown)
		}
		if err != nil {
			if m.verb != "" {
				t.Fatalf("both %+v and %v", m, err)
			}
			return
		}
		var again []byte
		if m.verb == verbRegister || m.verb == verbAck {
			again = appendShort(nil, m.verb, string(m.id))
		} else {
			again = appendMessage(nil, m.verb, string(m.id), m.data)
		}
		if want := append(bytes.TrimSpace(line), '\n'); !bytes.Equal(again, want) {
			t.Fatalf("%q came back as %q", want, again)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	line := []byte("TASK|task_0000cafe|1,2,3,4,5\r")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parse(line); err != nil {
			b.Fatal(err)
		}
	}
}
