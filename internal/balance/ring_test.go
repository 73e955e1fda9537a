package balance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// dealt takes n turns and tells who had them.
func dealt(r *ring, n int) string {
	var names []string
	for range n {
		ses := r.next()
		if ses == nil {
			names = append(names, "-")
			continue
		}
		names = append(names, ses.WorkerID)
		r.took(slices.Index(r.members, ses))
	}
	return strings.Join(names, " ")
}

// ringOf has a free member for each name, at the positions 0, 1, 2, …
func ringOf(names string) *ring {
	r := &ring{}
	for _, name := range strings.Fields(names) {
		r.setFree(r.join(named(name)), true)
	}
	return r
}

func named(name string) *Session { return &Session{Registration: Registration{WorkerID: name}} }

func TestRingDealsInTurn(t *testing.T) {
	for _, c := range []struct{ name, members, want string }{
		{"none", "", "- -"},
		{"one", "a", "a a a"},
		{"several", "a b c", "a b c a b c a"},
	} {
		if got := dealt(ringOf(c.members), len(strings.Fields(c.want))); got != c.want {
			t.Errorf("%s: dealt %s, want %s", c.name, got, c.want)
		}
	}
}

// The turn stands at c, the third of five, when something happens.
func TestRingInMidTurn(t *testing.T) {
	free := func(positions string, free bool) func(*ring) {
		return func(r *ring) {
			for _, p := range positions {
				r.setFree(int(p-'a'), free)
			}
		}
	}
	leave := func(positions string) func(*ring) {
		return func(r *ring) {
			for _, p := range positions {
				r.leave(int(p - 'a'))
			}
		}
	}
	join := func(names string) func(*ring) {
		return func(r *ring) {
			for _, name := range strings.Fields(names) {
				r.setFree(r.join(named(name)), true)
			}
		}
	}
	for _, c := range []struct {
		name string
		then []func(*ring)
		want string
	}{
		{"nothing", nil, "c d e a b c"},
		{"one leaves before the turn", []func(*ring){leave("a")}, "c d e b c"},
		{"the one whose turn it is leaves", []func(*ring){leave("c")}, "d e a b d"},
		{"one leaves after the turn", []func(*ring){leave("d")}, "c e a b c"},
		{"the last leaves", []func(*ring){leave("e")}, "c d a b c"},
		{"all but one leave", []func(*ring){leave("abde")}, "c c"},
		{"all leave", []func(*ring){leave("abcde")}, "-"},
		{"all leave and others come", []func(*ring){leave("abcde"), join("v w")}, "w v w"},
		{"one joins at the end", []func(*ring){join("f")}, "c d e f a b c"},
		{"one joins where one left before the turn", []func(*ring){leave("a"), join("f")}, "c d e f b c"},
		{"one joins where one left after the turn", []func(*ring){leave("d"), join("f")}, "c f e a b c"},
		{"the one whose turn it is is full", []func(*ring){free("c", false)}, "d e a b d"},
		{"all are full", []func(*ring){free("abcde", false)}, "- -"},
		{"all are full, then one is free", []func(*ring){free("abcde", false), free("b", true)}, "b b"},
		{"all before the turn are full", []func(*ring){free("ab", false)}, "c d e c"},
		{"all after the turn are full", []func(*ring){free("cde", false)}, "a b a"},
	} {
		r := ringOf("a b c d e")
		dealt(r, 2)
		for _, f := range c.then {
			f(r)
		}
		if got := dealt(r, len(strings.Fields(c.want))); got != c.want {
			t.Errorf("%s: dealt %s, want %s", c.name, got, c.want)
		}
	}
}

// Asking whose turn it is does not take it.
func TestRingTurnStaysUntilTaken(t *testing.T) {
	r := ringOf("a b")
	for range 2 {
		if got := r.next().WorkerID; got != "a" {
			t.Errorf("the turn moved on by itself, to %s", got)
		}
	}
}

// A ring against a plain list of positions that is walked one by one.
func FuzzRing(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x03\x03\x01\x03\x02\x03"))
	f.Add(slices.Repeat([]byte{0, 3, 7, 11, 2, 0, 1, 3}, 60))
	many := slices.Repeat([]byte{0}, 3*64+5) // more than a word of members
	f.Add(append(many, slices.Repeat([]byte{3, 3, 2, 41, 3, 1, 77, 3}, 50)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzRing(t, func() (byte, bool) {
			if len(data) == 0 {
				return 0, false
			}
			b := data[0]
			data = data[1:]
			return b, true
		})
	})
}

func fuzzRing(t *testing.T, read func() (byte, bool)) {
	type member struct {
		ses  *Session
		free bool
	}
	var r ring
	var model []*member // by position; nil is a hole
	cursor, here := 0, 0
	joins := 0
	for {
		op, ok := read()
		if !ok {
			break
		}
		arg, _ := read()
		pos := (int(arg) + 256*int(op/4)) % max(len(model), 1)
		switch op % 4 {
		case 0:
			ses := named(fmt.Sprint(joins))
			at := r.join(ses)
			r.setFree(at, arg%5 > 0)
			if at == len(model) {
				model = append(model, nil)
			}
			if at > len(model)-1 || model[at] != nil {
				t.Fatalf("a member joined at %d, where one is", at)
			}
			model[at] = &member{ses, arg%5 > 0}
			joins++
			here++
		case 1:
			if pos < len(model) && model[pos] != nil {
				r.leave(pos)
				model[pos] = nil
				here--
			}
		case 2:
			if pos < len(model) && model[pos] != nil {
				model[pos].free = arg%2 == 0
				r.setFree(pos, arg%2 == 0)
			}
		case 3:
			want := -1
			for i := range model {
				if at := (cursor + i) % len(model); model[at] != nil && model[at].free {
					want = at
					break
				}
			}
			got := r.next()
			if (got == nil) != (want < 0) || got != nil && got != model[want].ses {
				t.Fatalf("the turn at %d of %d is %v's, want position %d", cursor, len(model), got, want)
			}
			if want >= 0 && arg%4 > 0 {
				r.took(want)
				cursor = (want + 1) % len(model)
			}
		}
	}
	if len(r.members)-len(r.holes) != here {
		t.Fatalf("the ring has %d members, want %d", len(r.members)-len(r.holes), here)
	}
}

func TestRingWithThousands(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	n := 0
	fuzzRing(t, func() (byte, bool) {
		n++
		if n < 2*5000 {
			return byte(4 * rng.IntN(64) * (n % 2)), true // join
		}
		return byte(rng.IntN(256)), n < 60_000
	})
}

// A bitmap against a map, where every size is one at which a level is added or
// a word is full.
func FuzzBitmap(f *testing.F) {
	f.Add(uint32(1), []byte{0, 0, 0})
	f.Add(uint32(64), []byte("\x00\x3f\x01\x3f\x02\x00"))
	f.Add(uint32(65), []byte("\x00\x40\x02\x01\x01\x40\x02\x00"))
	f.Add(uint32(4097), []byte("\x40\x00\x02\x00\x00\x01"))
	f.Add(uint32(20_000), []byte("\x0f\xf0\x33\x44\x55\x66\x77\x88"))
	f.Fuzz(func(t *testing.T, size uint32, data []byte) {
		n := int(size%20_000) + 1
		var b bitmap
		grown := 0
		set := map[int]bool{}
		for ; len(data) >= 3; data = data[3:] {
			for range 1 + int(data[0])*n/1000 { // grow in steps, as sessions join
				if grown < n {
					grown++
					b.grow(grown)
				}
			}
			i := (int(data[1])<<8 | int(data[2])) % grown
			switch data[0] % 3 {
			case 0:
				b.set(i)
				set[i] = true
			case 1:
				b.clear(i)
				delete(set, i)
			}
			checkBitmap(t, &b, set, i, grown)
		}
	})
}

func TestBitmapWithThousands(t *testing.T) {
	for _, n := range []int{1, 63, 64, 65, 4095, 4096, 4097, 10_000} {
		rng := rand.New(rand.NewPCG(uint64(n), 1))
		var b bitmap
		set := map[int]bool{}
		for i := range n {
			b.grow(i + 1)
			if rng.IntN(3) == 0 {
				b.set(i)
				set[i] = true
			}
		}
		for i := range 2000 {
			k := rng.IntN(n)
			if rng.IntN(1+i/200) == 0 { // ever emptier
				b.set(k)
				set[k] = true
			} else {
				b.clear(k)
				delete(set, k)
			}
			if i%20 == 0 {
				checkBitmap(t, &b, set, rng.IntN(n), n)
			}
		}
		for k := range set {
			b.clear(k)
		}
		checkBitmap(t, &b, nil, 0, n)
	}
}

func checkBitmap(t *testing.T, b *bitmap, set map[int]bool, from, size int) {
	t.Helper()
	want := -1
	for i := from; i < size && want < 0; i++ {
		if set[i] {
			want = i
		}
	}
	if got := b.next(from); got != want {
		t.Fatalf("of %d, the next from %d on is %d, want %d", size, from, got, want)
	}
	if b.has(from) != set[from] {
		t.Fatalf("of %d, %d is set: %v, want %v", size, from, b.has(from), set[from])
	}
	if got := b.next(size); got != -1 {
		t.Fatalf("beyond the last of %d there is %d", size, got)
	}
}
