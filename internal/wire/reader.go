package wire

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Tags: the number of a field and how it is written.
const (
	varint  = uint64(protowire.VarintType)
	fixed64 = uint64(protowire.Fixed64Type)
	bytes   = uint64(protowire.BytesType)
)

// reader takes a message apart. Once it is bad, what it gives means nothing.
type reader struct {
	b   []byte
	bad bool
}

// more reports whether the message has another field.
func (r *reader) more() bool { return len(r.b) > 0 }

// fail is for what this package does not know.
func (r *reader) fail() { r.b, r.bad = nil, true }

func (r *reader) varint() uint64 {
	if len(r.b) > 0 && r.b[0] < 0x80 { // mostly: and this much is inlined
		v := r.b[0]
		r.b = r.b[1:]
		return uint64(v)
	}
	return r.long()
}

func (r *reader) long() uint64 {
	v, n := protowire.ConsumeVarint(r.b)
	if n < 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) fixed64() uint64 {
	if len(r.b) < 8 {
		r.fail()
		return 0
	}
	v := binary.LittleEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}

// bytes returns the bytes of a field, which belong to the message.
func (r *reader) bytes() []byte {
	n := r.varint()
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

// message reads a message in the message.
func (r *reader) message() reader { return reader{b: r.bytes(), bad: r.bad} }

// decoder reads a message and makes what it holds: strings and small payloads
// share allocations of at most a chunk, so that one that is kept for long keeps
// little else.
type decoder struct {
	reader
	keep   int // payloads larger than that stay where they are; 0: none does
	size   int // of the task that is being read
	text   strings.Builder
	blob   []byte
	recent [4]string // names that come again and again
	turn   int
	last   read
}

const (
	chunk = 4096
	small = 256 // the most bytes that share
)

// message reads a task, or whatever else the message has many of.
func (d *decoder) message() reader {
	r := d.reader.message()
	d.size = len(r.b)
	return r
}

// room is how large the next chunk is, for n bytes of this task: enough for those
// that follow, if they are like it.
func (d *decoder) room(n int) int {
	others := len(d.b) / (d.size + 2)
	return max(n, min(chunk, n*(1+others)))
}

// copied returns a payload that is good for ever.
func (d *decoder) copied(b []byte) []byte {
	switch {
	case len(b) == 0:
		return nil
	case d.keep > 0 && len(b) > d.keep:
		return b[:len(b):len(b)]
	case len(b) > small:
		return append([]byte(nil), b...)
	case cap(d.blob)-len(d.blob) < len(b):
		d.blob = make([]byte, 0, d.room(len(b)))
	}
	from := len(d.blob)
	d.blob = append(d.blob, b...)
	return d.blob[from:len(d.blob):len(d.blob)]
}

// string returns a copy of a text.
func (d *decoder) string(b []byte) string {
	switch {
	case len(b) == 0:
		return ""
	case !utf8.Valid(b):
		d.fail()
		return ""
	case len(b) > small:
		return string(b)
	case d.text.Cap()-d.text.Len() < len(b):
		n := d.room(len(b))
		d.text = strings.Builder{}
		d.text.Grow(n)
	}
	from := d.text.Len()
	d.text.Write(b)
	return d.text.String()[from:]
}

// name is string for texts of which there are few.
func (d *decoder) name(b []byte) string {
	for _, s := range d.recent {
		if s == string(b) {
			return s
		}
	}
	s := d.string(b)
	d.recent[d.turn] = s
	d.turn = (d.turn + 1) % len(d.recent)
	return s
}

// entry adds an entry of a map.
func (d *decoder) entry(to *map[string]string, r reader) {
	var key, value string
	for r.more() {
		switch r.varint() {
		case 1<<3 | bytes:
			key = d.string(r.bytes())
		case 2<<3 | bytes:
			value = d.string(r.bytes())
		default:
			r.fail()
		}
	}
	if r.bad {
		d.fail()
		return
	}
	if *to == nil {
		*to = map[string]string{}
	}
	(*to)[key] = value
}

// merged has the library read a message that comes seldom.
func merged[M any, P interface {
	*M
	proto.Message
}](d *decoder, to **M, b []byte) {
	if *to == nil {
		*to = new(M)
	}
	if err := (proto.UnmarshalOptions{Merge: true}).Unmarshal(b, P(*to)); err != nil {
		d.fail()
	}
}

// slab gives out messages that are allocated a few at a time.
type slab[M any] []M

func (s *slab[M]) next() *M {
	if len(*s) == 0 {
		*s = make([]M, 16)
	}
	m := &(*s)[0]
	*s = (*s)[1:]
	return m
}

// again gives out the message that a frame had in a place, emptied, or a new one.
func (s *slab[M]) again(had []*M, i int) *M {
	if i >= len(had) || had[i] == nil {
		return s.next()
	}
	m := had[i]
	*m = *new(M)
	return m
}
