package balance

import "testing"

// FuzzState reads facts from bytes and tells them to a State and to the books.
// For a long run add -fuzzminimizetime 0x: making inputs small takes the time
// that finding them should have.
func FuzzState(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("join, submit, answer, leave, tick"))
	for _, step := range []byte{1, 7, 29, 101, 251} { // walks over all facts in another order each
		seed := make([]byte, 600)
		for i := range seed {
			seed[i] = byte(i) * step
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = data[:min(len(data), 4096)]
		// A byte is a choice, two where there are more than 256 of them. The
		// first are the options; then facts follow while bytes are left.
		pick := func(n int) int {
			v, width := 0, 1
			if n > 256 {
				width = 2
			}
			for range width {
				if len(data) == 0 {
					break
				}
				v, data = v<<8|int(data[0]), data[1:]
			}
			return v % n
		}
		x := newSchedule(pick)
		if report := x.run(len(data) / 4); report != "" {
			t.Fatal(report)
		}
	})
}
