package wire

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"
	"unsafe"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// How a field is written, which is in the lower three bits of its tag; the others
// are its number: https://protobuf.dev/programming-guides/encoding/#structure.
const (
	varint  = 0
	fixed64 = 1
	bytes   = 2
	nobodys = 7 // which nothing is
)

// next takes a field from the front of a message, which is not empty: its tag, and
// its value as a number or as bytes, which belong to the message. What is not as it
// should be gets a tag that is nobody's, so that who looks at tags finds all that is
// wrong.
func next(b []byte) (tag byte, n uint64, v, rest []byte) {
	tag = b[0]
	switch tag & 7 { // what is short, as most is, at once
	case bytes:
		if len(b) > 1 && b[1] < 0x80 && int(b[1]) <= len(b)-2 {
			end := 2 + int(b[1])
			return tag, 0, b[2:end], b[end:]
		}
	case varint:
		if len(b) > 1 && b[1] < 0x80 {
			return tag, uint64(b[1]), nil, b[2:]
		}
	case fixed64:
		if len(b) > 8 {
			return tag, binary.LittleEndian.Uint64(b[1:]), nil, b[9:]
		}
	}
	return nextLong(b)
}

func nextLong(b []byte) (tag byte, n uint64, v, rest []byte) {
	tag, b = b[0], b[1:]
	n, size := protowire.ConsumeVarint(b)
	if size < 0 {
		return nobodys, 0, nil, nil
	}
	b = b[size:]
	switch tag & 7 {
	case varint:
		return tag, n, nil, b
	case bytes:
		if n <= uint64(len(b)) {
			return tag, 0, b[:n], b[n:]
		}
	}
	return nobodys, 0, nil, nil
}

// decoder reads a message and makes what it holds: strings and small payloads
// share allocations of at most a chunk, so that one that is kept for long keeps
// little else.
type decoder struct {
	bad     bool            // what was made means nothing
	b       []byte          // what is not read yet of one of the message's buffers
	buffers mem.BufferSlice // those after it
	after   int             // bytes in them
	keep    int             // payloads larger than that stay where they are; 0: none does
	size    int             // of the task that is being read
	text    strings.Builder
	blob    []byte
	recent  [4]string // names that come again and again
	turn    int
	last    read
}

const (
	chunk = 4096
	small = 256 // the most bytes that share
)

// more reports whether the message has another field.
func (d *decoder) more() bool {
	for len(d.b) == 0 && d.after > 0 {
		d.turnOver()
	}
	return len(d.b) > 0
}

// turnOver goes on to the next buffer.
func (d *decoder) turnOver() {
	d.b, d.buffers = d.buffers[0].ReadOnlyData(), d.buffers[1:]
	d.after -= len(d.b)
}

// field takes the message's next field, as next does.
func (d *decoder) field() (tag byte, n uint64, v []byte) {
	tag, n, v, rest := next(d.b)
	if tag&7 == nobodys {
		return d.apart()
	}
	d.b, d.keep = rest, 0
	return tag, n, v
}

// apart takes a field of which the network put some into the next buffer: what is
// long comes in HTTP/2's frames of 16 KiB. It is put together in memory of its own,
// so that a payload that is most of it can stay there.
func (d *decoder) apart() (tag byte, n uint64, v []byte) {
	b := d.peek(min(d.left(), 1+binary.MaxVarintLen64)) // room for any number
	if b[0]&7 == bytes {
		n, size := protowire.ConsumeVarint(b[1:])
		if size < 0 || n > uint64(d.left()-1-size) {
			return nobodys, 0, nil
		}
		b = d.peek(1 + size + int(n))
	}
	tag, n, v, rest := next(b)
	d.keep = len(v) / 2
	d.skip(len(b) - len(rest))
	return tag, n, v
}

// left is how many bytes of the message there are yet.
func (d *decoder) left() int { return len(d.b) + d.after }

// peek returns a copy of the next n bytes, which must be there. A builder's memory
// is, unlike make's, not cleared before it is written.
func (d *decoder) peek(n int) []byte {
	var b strings.Builder
	b.Grow(n)
	b.Write(d.b[:min(n, len(d.b))])
	for _, more := range d.buffers {
		if b.Len() == n {
			break
		}
		part := more.ReadOnlyData()
		b.Write(part[:min(n-b.Len(), len(part))])
	}
	return unsafe.Slice(unsafe.StringData(b.String()), n) // nobody has the string
}

// skip goes on by n bytes, which must be there.
func (d *decoder) skip(n int) {
	for n > len(d.b) {
		n -= len(d.b)
		d.turnOver()
	}
	d.b = d.b[n:]
}

// about notes that a task is to be read next, or whatever else the message has many
// of.
func (d *decoder) about(task []byte) { d.size = len(task) }

// room is how large the next chunk is, for n bytes of this task: enough for those
// that follow, if they are like it.
func (d *decoder) room(n int) int {
	others := d.left() / (d.size + 2)
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
		d.bad = true
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
func (d *decoder) entry(to *map[string]string, b []byte) {
	var key, value string
	for len(b) > 0 {
		tag, _, v, rest := next(b)
		b = rest
		switch tag {
		case 1<<3 | bytes:
			key = d.string(v)
		case 2<<3 | bytes:
			value = d.string(v)
		default:
			d.bad = true
			return
		}
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
		d.bad = true
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
