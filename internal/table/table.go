// Package table holds what is known by a number, where numbers mostly are dense:
// they count up, or few are used again and again.
//
//	var t table.Of[flight]
//	t.Add(7).size = 9
//	if f := t.Find(7); f != nil { … }
//	t.Remove(7)
package table

import "iter"

// Of holds a V for each of some numbers. A number's place is its lower bits, and
// what finds its place taken is in a map: so numbers that are dense cost no hashing
// and lie side by side, and any others cost what they do in a map. At most half of
// all places are taken. The zero value is empty and ready. It must not be used
// concurrently.
type Of[V any] struct {
	places []place[V] // as many as a power of two
	others map[uint64]*place[V]
	len    int
}

// place holds the value of the number below its mark; one whose mark is zero is empty.
type place[V any] struct {
	value V
	mark  uint64
}

// mark is what a place bears that holds the number. The one number that has none is
// always among the others.
func mark(number uint64) uint64 { return number + 1 }

// holds reports whether the place has the number's value.
func (p *place[V]) holds(number uint64) bool { return p.mark == mark(number) && p.mark != 0 }

// A table has fewest places at first, and loses all of them when it becomes empty
// and has more than mostIdle: so that a peak is not remembered for ever.
const (
	fewest   = 64
	mostIdle = 4096
)

// Len is how many numbers are in the table.
func (t *Of[V]) Len() int { return t.len }

// at is where the number would be.
func (t *Of[V]) at(number uint64) *place[V] { return &t.places[number&uint64(len(t.places)-1)] }

// Find returns what is held under a number, or nil. It is good until the next Add or
// Remove.
func (t *Of[V]) Find(number uint64) *V {
	if t.len == 0 {
		return nil
	}
	if p := t.at(number); p.holds(number) {
		return &p.value
	}
	if p := t.others[number]; p != nil {
		return &p.value
	}
	return nil
}

// Add takes in a number, which must not be there, and returns its value, which is
// zero. It is good until the next Add or Remove.
func (t *Of[V]) Add(number uint64) *V {
	if t.len++; 2*t.len > len(t.places) {
		t.grow()
	}
	return t.put(number)
}

func (t *Of[V]) put(number uint64) *V {
	p := t.at(number)
	if p.mark != 0 || mark(number) == 0 {
		p = &place[V]{}
		if t.others == nil {
			t.others = map[uint64]*place[V]{}
		}
		t.others[number] = p
	}
	p.mark = mark(number)
	return &p.value
}

func (t *Of[V]) grow() {
	old := *t
	t.places, t.others = make([]place[V], max(fewest, 2*len(old.places))), nil
	for number, value := range old.All() {
		*t.put(number) = *value
	}
}

// Remove takes a number out. One that is not there is ignored.
func (t *Of[V]) Remove(number uint64) {
	if t.len == 0 {
		return
	}
	if p := t.at(number); p.holds(number) {
		*p = place[V]{}
	} else if t.others[number] != nil {
		delete(t.others, number)
	} else {
		return
	}
	if t.len--; t.len == 0 && len(t.places) > mostIdle {
		*t = Of[V]{}
	}
}

// All yields every number with its value, in no order. Nothing may be added or
// removed meanwhile.
func (t *Of[V]) All() iter.Seq2[uint64, *V] {
	return func(yield func(uint64, *V) bool) {
		for i := range t.places {
			if p := &t.places[i]; p.mark != 0 && !yield(p.mark-1, &p.value) {
				return
			}
		}
		for number, p := range t.others {
			if !yield(number, &p.value) {
				return
			}
		}
	}
}
