package wire

import pb "reparto/gen/reparto/v1"

// Errors are seldom, until the balancer is overloaded: then they are most of what
// it says, and nearly all the same. So one that comes again within a message costs
// no more than its bytes: it is written once and copied, and read once and shared.

// written is the last error that a message got, with its tag.
type written struct {
	error *pb.Error
	b     []byte // a copy: what is in the message may still move
}

// sizes has hints of errors, and looks at the same one once.
type sizes struct {
	error *pb.Error
	hint  int
}

func (s *sizes) of(e *pb.Error) int {
	if e == nil {
		return 0
	}
	if e != s.error {
		s.error, s.hint = e, hintOfError(e)
	}
	return s.hint
}

func hintOfError(e *pb.Error) int {
	return 12 + len(e.Reason) + len(e.Message) + hintOfMap(e.Metadata)
}

func (w *writer) error(field uint64, e *pb.Error) {
	if e == nil {
		return
	}
	if e == w.last.error {
		w.b = append(w.b, w.last.b...)
		return
	}
	from := len(w.b)
	hint := hintOfError(e)
	at := w.open(field, hint)
	w.varint(1, uint64(e.Code))
	w.string(2, e.Reason)
	w.string(3, e.Message)
	w.varint(4, uint64(e.RetryAfterMs))
	w.entries(5, e.Metadata)
	w.close(at, hint)
	w.last.error, w.last.b = e, append(w.last.b[:0], w.b[from:]...)
}

// read is the last error that was read, and what it was read from.
type read struct {
	error *pb.Error
	b     []byte
}

func (d *decoder) error(to **pb.Error, b []byte) {
	if *to != nil { // two in one place become one: that is the library's to do
		d.bad = true
		return
	}
	if d.last.error != nil && string(b) == string(d.last.b) {
		*to = d.last.error
		return
	}
	e := &pb.Error{}
	*to, d.last = e, read{e, b}
	for len(b) > 0 {
		tag, n, v, rest := next(b)
		b = rest
		switch tag {
		case 1<<3 | varint:
			e.Code = int32(n)
		case 2<<3 | bytes:
			e.Reason = d.name(v)
		case 3<<3 | bytes:
			e.Message = d.name(v)
		case 4<<3 | varint:
			e.RetryAfterMs = int64(n)
		case 5<<3 | bytes:
			d.entry(&e.Metadata, v)
		default:
			d.bad = true
			return
		}
	}
}
