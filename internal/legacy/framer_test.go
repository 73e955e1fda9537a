package legacy

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// cutUp feeds input to a framer in segments whose sizes are in sizes, over and
// over, and returns its lines, what was left, and the error that ended it.
func cutUp(input string, limit int, sizes []byte) (lines []string, rest string, err error) {
	f := framer{max: limit}
	for i := 0; len(input) > 0; i++ {
		n := len(input)
		if len(sizes) > 0 {
			n = min(n, int(sizes[i%len(sizes)])+1)
		}
		segment := input[:n]
		input = input[n:]
		for len(segment) > 0 {
			n := copy(f.space(), segment)
			f.filled(n)
			segment = segment[n:]
			for {
				line, ok, err := f.line()
				if err != nil {
					return lines, "", err
				}
				if !ok {
					break
				}
				lines = append(lines, string(line))
			}
		}
	}
	return lines, string(f.takeRest()), nil
}

func TestFramerLimit(t *testing.T) {
	for _, sizes := range [][]byte{nil, {0}, {6}, {99}} {
		at := strings.Repeat("x", 100)
		if lines, rest, err := cutUp(at+"\n"+at+"\n"+at, 100, sizes); err != nil || len(lines) != 2 || rest != at {
			t.Errorf("at the limit: %d lines, %q, %v", len(lines), rest, err)
		}
		for _, end := range []string{"", "\n"} {
			if lines, _, err := cutUp("ok\n"+at+"y"+end, 100, sizes); !errors.Is(err, errOverlong) || len(lines) != 1 {
				t.Errorf("over the limit: %q, %v", lines, err)
			}
		}
	}
}

func TestFramerGivesUpALargeBuffer(t *testing.T) {
	f := framer{max: 1 << 20}
	long := strings.Repeat("x", 200_000) + "\n"
	for len(long) > 0 {
		n := copy(f.space(), long)
		f.filled(n)
		long = long[n:]
		if _, ok, err := f.line(); ok != (long == "") || err != nil {
			t.Fatal(ok, err)
		}
	}
	if f.space(); cap(f.buf) > keptBuffer {
		t.Errorf("an idle connection keeps %d bytes", cap(f.buf))
	}
}

// FuzzFraming: however a stream is segmented, its lines are the same.
func FuzzFraming(f *testing.F) {
	f.Add("TASK|a|1\nTASK|b|2\r\nTASK|c|3", []byte{0, 5, 1})
	f.Add("\n\n\n", []byte{1})
	f.Add(strings.Repeat("x", 65)+"\n", []byte{10})
	f.Add(strings.Repeat("x", 64)+"\nTASK|t|1", []byte{63})
	f.Fuzz(func(t *testing.T, input string, sizes []byte) {
		const limit = 64
		lines, rest, err := cutUp(input, limit, sizes)
		var want []string
		wantRest, overlong := input, false
		for {
			line, after, found := strings.Cut(wantRest, "\n")
			if overlong = len(line) > limit; overlong || !found {
				break
			}
			want, wantRest = append(want, line), after
		}
		if overlong != errors.Is(err, errOverlong) || !slices.Equal(lines, want) || !overlong && rest != wantRest {
			t.Fatalf("in segments of %v: %q, %q, %v; want %q, %q", sizes, lines, rest, err, want, wantRest)
		}
	})
}

func BenchmarkFramer(b *testing.B) {
	f := framer{max: 1 << 20}
	segment := []byte("TASK|task_0000cafe|1,2,3,4,5\nTASK|task_0000cafe|1,2,3,4,5\nTASK|task_")
	end := []byte("0000cafe|1,2,3,4,5\n")
	b.ReportAllocs()
	for b.Loop() {
		for _, s := range [][]byte{segment, end} {
			f.filled(copy(f.space(), s))
			for _, ok, _ := f.line(); ok; _, ok, _ = f.line() {
			}
		}
	}
}
