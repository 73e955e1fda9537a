package wire

import (
	"unicode/utf8"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// writer puts a message together. Once it is bad, the library has the last word.
type writer struct {
	b      []byte
	bad    bool
	share  bool     // payloads that are large are not copied
	shared []shared // in their order
	last   written
}

// shared is a payload that is not copied into the message's buffer: it goes out after
// the first at bytes of that.
type shared struct {
	at      int
	payload []byte
}

// sharedFrom is from how many bytes on a payload is shared, if any may be.
const sharedFrom = 8 << 10

func isShared(payload []byte) bool { return len(payload) >= sharedFrom }

// Hints are about how many bytes something takes: fields, a message of few and
// small fields; spare, what a task may take beyond its own hint.
const (
	fields = 64
	spare  = 8
)

func hintOfMap(m map[string]string) int {
	if len(m) == 0 { // mostly: and to begin with a map costs, even if it is nil
		return 0
	}
	n := 0
	for k, v := range m {
		n += len(k) + len(v) + 12
	}
	return n
}

// tag begins a field, whose number is below 16.
func (w *writer) tag(field, kind uint64) { w.b = append(w.b, byte(field<<3|kind)) }

func (w *writer) varint(field, v uint64) {
	switch {
	case v == 0:
	case v < 0x80:
		w.b = append(w.b, byte(field<<3|varint), byte(v))
	default:
		w.tag(field, varint)
		w.b = protowire.AppendVarint(w.b, v)
	}
}

func (w *writer) bool(field uint64, v bool) {
	if v {
		w.varint(field, 1)
	}
}

func (w *writer) fixed(field, v uint64) {
	if v != 0 {
		w.tag(field, fixed64)
		w.b = protowire.AppendFixed64(w.b, v)
	}
}

func (w *writer) bytes(field uint64, v []byte) {
	if len(v) == 0 {
		return
	}
	w.length(field, len(v))
	if w.share && isShared(v) {
		w.shared = append(w.shared, shared{len(w.b), v})
		return
	}
	w.b = append(w.b, v...)
}

func (w *writer) string(field uint64, v string) {
	if v != "" {
		w.text(field, v)
	}
}

func (w *writer) optional(field uint64, v *string) {
	if v != nil {
		w.text(field, *v)
	}
}

func (w *writer) text(field uint64, v string) {
	w.bad = w.bad || !utf8.ValidString(v)
	w.length(field, len(v))
	w.b = append(w.b, v...)
}

// length begins a field of n bytes.
func (w *writer) length(field uint64, n int) {
	if n < 0x80 {
		w.b = append(w.b, byte(field<<3|bytes), byte(n))
		return
	}
	w.tag(field, bytes)
	w.b = protowire.AppendVarint(w.b, uint64(n))
}

// open begins a message in the message, of about so many bytes, and returns its
// place for close.
func (w *writer) open(field uint64, hint int) (at int) {
	w.length(field, hint)
	return len(w.b)
}

// close writes the length of a message that began there. The message moves when
// its length takes other room than was thought.
func (w *writer) close(at, hint int) {
	n := len(w.b) - at
	first := len(w.shared)
	for ; first > 0 && w.shared[first-1].at > at; first-- {
		n += len(w.shared[first-1].payload)
	}
	if n < 0x80 && hint < 0x80 {
		w.b[at-1] = byte(n)
		return
	}
	had, want := protowire.SizeVarint(uint64(hint)), protowire.SizeVarint(uint64(n))
	begin := at - had
	end := len(w.b)
	if want > had {
		w.b = append(w.b, make([]byte, want-had)...)
	}
	if want != had {
		copy(w.b[begin+want:], w.b[at:end])
		w.b = w.b[:end+want-had]
		for i := range w.shared[first:] {
			w.shared[first+i].at += want - had
		}
	}
	protowire.AppendVarint(w.b[:begin], uint64(n))
}

// buffers returns what was written, of which own is the buffer.
func (w *writer) buffers(own mem.Buffer) mem.BufferSlice {
	if len(w.shared) == 0 {
		return mem.BufferSlice{own}
	}
	defer own.Free() // its slices keep it
	all := make(mem.BufferSlice, 0, 2*len(w.shared)+1)
	from := 0
	for _, s := range w.shared {
		all = append(all, own.Slice(from, s.at), mem.SliceBuffer(s.payload))
		from = s.at
	}
	if from < len(w.b) {
		all = append(all, own.Slice(from, len(w.b)))
	}
	return all
}

func (w *writer) entries(field uint64, m map[string]string) {
	if len(m) == 0 {
		return
	}
	for k, v := range m {
		hint := len(k) + len(v) + 4
		at := w.open(field, hint)
		w.text(1, k)
		w.text(2, v)
		w.close(at, hint)
	}
}

// put has the library write a message that comes seldom; nil is none.
func put[M any, P interface {
	*M
	proto.Message
}](w *writer, field uint64, m P) {
	if m == nil {
		return
	}
	at := w.open(field, fields)
	b, err := proto.MarshalOptions{}.MarshalAppend(w.b, m)
	w.b, w.bad = b, w.bad || err != nil
	w.close(at, fields)
}
