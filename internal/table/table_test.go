package table

import (
	"maps"
	"math/rand/v2"
	"testing"
)

// What a map holds, the table holds, whatever the numbers.
func FuzzTable(f *testing.F) {
	f.Add(uint64(1), uint64(1), uint16(500))
	f.Add(uint64(1<<32), uint64(7), uint16(500))  // all in one place
	f.Add(uint64(1<<32|1), uint64(3), uint16(90)) // generations in the upper half
	f.Add(uint64(0x9e3779b97f4a7c15), uint64(5), uint16(2000))
	f.Add(^uint64(0), uint64(3), uint16(500)) // the last number, and those before it
	f.Fuzz(func(t *testing.T, step, seed uint64, n uint16) {
		chance := rand.New(rand.NewPCG(seed, 0))
		var got Of[int]
		want := map[uint64]int{}
		check := func() {
			t.Helper()
			all := map[uint64]int{}
			for number, v := range got.All() {
				all[number] = *v
			}
			if !maps.Equal(all, want) || got.Len() != len(want) {
				t.Fatalf("it holds %d numbers and yields %v, want %v", got.Len(), all, want)
			}
		}
		for i := range int(n) {
			number := chance.Uint64N(uint64(n)) * step
			switch v := got.Find(number); {
			case v == nil:
				if _, is := want[number]; is {
					t.Fatalf("%d is not found", number)
				}
				got.Remove(number)
				*got.Add(number) = i
				want[number] = i
			case *v != want[number]:
				t.Fatalf("%d has %d, want %d", number, *v, want[number])
			default:
				got.Remove(number)
				delete(want, number)
			}
			if i%64 == 0 {
				check()
			}
		}
		check()
	})
}

func TestAnEmptyTableForgetsItsPeak(t *testing.T) {
	var table Of[[100]byte]
	fill := func(n int) {
		for i := range n {
			table.Add(uint64(i))
		}
		for i := range n {
			table.Remove(uint64(i))
		}
	}
	fill(mostIdle / 2)
	if len(table.places) != mostIdle {
		t.Errorf("%d places are left, want the %d that it had: it will need them again", len(table.places), mostIdle)
	}
	fill(mostIdle)
	if table.places != nil {
		t.Errorf("%d places are left of a peak", len(table.places))
	}
}

func BenchmarkTable(b *testing.B) {
	for name, step := range map[string]uint64{"dense": 1, "in one place": 1 << 32, "anywhere": 0x9e3779b97f4a7c15} {
		b.Run(name, func(b *testing.B) {
			var t Of[*int]
			n := uint64(0)
			for ; n < 1024; n++ {
				t.Add(n * step)
			}
			for b.Loop() {
				t.Add(n * step)
				t.Find((n - 512) * step)
				t.Remove((n - 1024) * step)
				n++
			}
		})
	}
}
