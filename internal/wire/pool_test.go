package wire

import "testing"

func TestABufferIsLargeEnough(t *testing.T) {
	var p pool
	for _, size := range []int{1, 2, 3, 1023, 1024, 1025, 1 << 21, 1<<21 + 1} {
		for range 3 { // new, and used again
			b := p.Get(size)
			if len(*b) != size {
				t.Fatalf("asked for %d bytes: got %d", size, len(*b))
			}
			p.Put(b)
		}
	}
	grown := make([]byte, 0, 1500) // as append leaves it
	p.Put(&grown)
	for _, size := range []int{1500, 2000} {
		if b := p.Get(size); len(*b) != size {
			t.Fatalf("asked for %d bytes: got %d", size, len(*b))
		}
	}
}
