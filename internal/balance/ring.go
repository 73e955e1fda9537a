package balance

import "math/bits"

// ring deals turns to the sessions that offer one function. Each member has a
// position that it keeps until it leaves; the turn goes round the positions and
// passes over those that are not free. A full turn gives every member that stays
// free exactly one task, whoever joins or leaves meanwhile.
//
// The free positions are a bitmap with summaries above it, so that finding the
// next one costs the same few steps among three workers and among ten thousand.
type ring struct {
	members []*Session // by position; nil is a hole
	holes   []int
	free    bitmap
	cursor  int // the position whose turn it is
	active  int // members that do not drain
}

// join gives the session a position, not yet free.
func (r *ring) join(s *Session) int {
	r.active++
	if n := len(r.holes); n > 0 {
		pos := r.holes[n-1]
		r.holes = r.holes[:n-1]
		r.members[pos] = s
		return pos
	}
	r.members = append(r.members, s)
	r.free.grow(len(r.members))
	return len(r.members) - 1
}

// leave takes the position back. A turn that stood there moves on by itself.
func (r *ring) leave(pos int) {
	r.free.clear(pos)
	r.members[pos] = nil
	r.holes = append(r.holes, pos)
}

// setFree says whether the member at pos may get a task.
func (r *ring) setFree(pos int, free bool) {
	if free {
		r.free.set(pos)
	} else {
		r.free.clear(pos)
	}
}

// next returns the free member whose turn it is, or nil. The turn stays where
// it is until took.
func (r *ring) next() *Session {
	pos := r.free.next(r.cursor)
	if pos < 0 {
		pos = r.free.next(0)
	}
	if pos < 0 {
		return nil
	}
	return r.members[pos]
}

// took says that the member at pos has had its turn.
func (r *ring) took(pos int) {
	r.cursor = pos + 1
	if r.cursor >= len(r.members) {
		r.cursor = 0
	}
}

// bitmap is a set of small integers. levels[0] has a bit for each; a bit in
// levels[n+1] says that a word in levels[n] is not zero.
type bitmap struct{ levels [][]uint64 }

func (b *bitmap) grow(size int) {
	for n := 0; ; n++ {
		words := (size + 63) / 64
		if n == len(b.levels) {
			b.levels = append(b.levels, nil)
			if n > 0 { // the new summary must know what is below it
				b.levels[n] = make([]uint64, words)
				for i, w := range b.levels[n-1] {
					if w != 0 {
						b.levels[n][i/64] |= 1 << (i % 64)
					}
				}
			}
		}
		for len(b.levels[n]) < words {
			b.levels[n] = append(b.levels[n], 0)
		}
		if words <= 1 {
			return
		}
		size = words
	}
}

func (b *bitmap) set(i int) {
	for n := range b.levels {
		b.levels[n][i/64] |= 1 << (i % 64)
		i /= 64
	}
}

func (b *bitmap) clear(i int) {
	for n := range b.levels {
		b.levels[n][i/64] &^= 1 << (i % 64)
		if b.levels[n][i/64] != 0 {
			return
		}
		i /= 64
	}
}

func (b *bitmap) has(i int) bool {
	return len(b.levels) > 0 && i/64 < len(b.levels[0]) && b.levels[0][i/64]&(1<<(i%64)) != 0
}

// next returns the smallest member that is at least from, or -1.
func (b *bitmap) next(from int) int {
	for n := range b.levels {
		word := from / 64
		if word >= len(b.levels[n]) {
			return -1
		}
		if w := b.levels[n][word] >> (from % 64); w != 0 {
			return b.lowest(n, from+bits.TrailingZeros64(w))
		}
		from = word + 1 // go on among the words after this one, a level up
	}
	return -1
}

// lowest descends from bit i of level n to the smallest member below it.
func (b *bitmap) lowest(n, i int) int {
	for ; n > 0; n-- {
		i = i*64 + bits.TrailingZeros64(b.levels[n-1][i])
	}
	return i
}
