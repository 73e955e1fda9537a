// Package ids makes the ids of tasks, workers and sessions: UUIDs of version 7
// (RFC 9562), which sort by the time at which they were made. Each task has one,
// so it is made by hand, in a fraction of the time that the usual library takes.
package ids

import (
	"crypto/rand"
	"encoding/binary"
	"iter"
	random "math/rand/v2"
	"strings"
	"sync"
	"time"
)

// Source makes ids that differ from those of any other Source, and sort in the
// order in which they were made. The zero value is ready. It may be used
// concurrently.
type Source struct {
	mu     sync.Mutex
	chance *random.ChaCha8
	last   uint64 // 48 bits of milliseconds, 12 of their fraction
	texts  strings.Builder
}

const (
	length = 36
	// together is how many ids share an allocation: one that is kept keeps them all.
	together = 16
)

// New returns an id that is made now, 36 characters long.
func (s *Source) New() (id string) {
	for id = range s.Many(time.Now(), 1) {
	}
	return id
}

// Many yields so many ids that are made at t. Whoever takes them must not ask the
// Source for others meanwhile.
func (s *Source) Many(t time.Time, n int) iter.Seq[string] {
	return func(yield func(string) bool) {
		if n == 0 {
			return
		}
		now := uint64(t.UnixNano())
		stamp := now/1e6<<12 | now%1e6>>8 // the fraction in steps of 256 ns (RFC 9562, 6.2, method 3)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.chance == nil {
			var seed [32]byte
			rand.Read(seed[:]) // never fails
			s.chance = random.NewChaCha8(seed)
		}
		for range n {
			s.last = max(stamp, s.last+1)
			if !yield(s.make(s.last)) {
				return
			}
		}
	}
}

func (s *Source) make(stamp uint64) string {
	const version, variant = 7 << 12, 1 << 63
	id := text(stamp>>12<<16|version|stamp&0xfff, variant|s.chance.Uint64()>>2)
	if s.texts.Cap()-s.texts.Len() < length {
		s.texts = strings.Builder{}
		s.texts.Grow(together * length)
	}
	from := s.texts.Len()
	s.texts.Write(id[:])
	return s.texts.String()[from:]
}

// text writes 128 bits in groups of 8-4-4-4-12 digits (RFC 9562, 4).
func text(high, low uint64) (b [length]byte) {
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	binary.BigEndian.PutUint64(b[0:], digits(high>>32))
	middle := digits(high & 0xffffffff)
	binary.BigEndian.PutUint32(b[9:], uint32(middle>>32))
	binary.BigEndian.PutUint32(b[14:], uint32(middle))
	middle = digits(low >> 32)
	binary.BigEndian.PutUint32(b[19:], uint32(middle>>32))
	binary.BigEndian.PutUint32(b[24:], uint32(middle))
	binary.BigEndian.PutUint64(b[28:], digits(low&0xffffffff))
	return b
}

// digits are the eight hexadecimal digits of 32 bits, all made at once: a byte for
// each.
func digits(x uint64) uint64 {
	x = (x | x<<16) & 0x0000ffff0000ffff
	x = (x | x<<8) & 0x00ff00ff00ff00ff
	x = (x | x<<4) & 0x0f0f0f0f0f0f0f0f
	const ones = 0x0101010101010101
	letters := (x + 6*ones) >> 4 & ones // 1 where it is over 9
	return x + '0'*ones + letters*('a'-'0'-10)
}
