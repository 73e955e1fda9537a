package balance

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// A queue against a slice: both ends, and out of the middle.
func TestQueueIsAList(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var q queue
	var want []*entry
	for range 5000 {
		switch n := rng.IntN(5); {
		case n == 0:
			e := &entry{bytes: rng.IntN(100)}
			q.pushFront(e)
			want = append([]*entry{e}, want...)
		case n < 3:
			e := &entry{bytes: rng.IntN(100)}
			q.pushBack(e)
			want = append(want, e)
		case len(want) > 0:
			i := []int{0, len(want) - 1, rng.IntN(len(want))}[rng.IntN(3)]
			q.remove(want[i])
			if want[i].prev != nil || want[i].next != nil {
				t.Fatal("an entry that has left still knows its neighbours")
			}
			want = slices.Delete(want, i, i+1)
		}
		var got, back []*entry
		size := 0
		for e := q.head; e != nil; e = e.next {
			got = append(got, e)
			size += e.bytes
		}
		for e := q.tail; e != nil; e = e.prev {
			back = append(back, e)
		}
		slices.Reverse(back)
		if !slices.Equal(got, want) || !slices.Equal(back, want) || q.len != len(want) || q.bytes != size {
			t.Fatalf("the queue has %d entries (%d backwards), counts %d with %d bytes; want %d with %d", len(got), len(back), q.len, q.bytes, len(want), size)
		}
	}
}
