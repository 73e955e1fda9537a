package ids

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestAnIDIsAUUIDOfVersion7(t *testing.T) {
	var s Source
	before := time.Now().UnixMilli()
	id, err := uuid.Parse(s.New())
	after := time.Now().UnixMilli()
	if err != nil || id.Version() != 7 || id.Variant() != uuid.RFC4122 {
		t.Fatalf("%v: version %v, variant %v, %v", id, id.Version(), id.Variant(), err)
	}
	var ms int64
	for _, b := range id[:6] {
		ms = ms<<8 | int64(b)
	}
	if ms < before || ms > after {
		t.Errorf("it says %d ms; it was made between %d and %d", ms, before, after)
	}
}

func TestTextIsTheLibrarys(t *testing.T) {
	const high, low = 0x0123456789abcdef, 0xfedcba9876543210
	want := uuid.UUID{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10}.String()
	if got := text(high, low); string(got[:]) != want {
		t.Errorf("%s, want %s", got[:], want)
	}
}

func TestIDsDifferAndAreInOrder(t *testing.T) {
	var s Source
	lists := make([][]string, 4)
	var wg sync.WaitGroup
	for i := range lists {
		wg.Go(func() {
			for range 20_000 {
				lists[i] = append(lists[i], s.New())
			}
		})
	}
	wg.Wait()
	var all []string
	for _, l := range lists {
		if !slices.IsSorted(l) {
			t.Error("not in the order in which they were made")
		}
		all = append(all, l...)
	}
	slices.Sort(all)
	if n := len(slices.Compact(all)); n != 80_000 {
		t.Errorf("%d of 80000 differ", n)
	}
	var a, b Source
	if a.New()[19:] == b.New()[19:] {
		t.Error("two sources have the same chance")
	}
}

func BenchmarkNew(b *testing.B) {
	var s Source
	b.ReportAllocs()
	for b.Loop() {
		s.New()
	}
}
