package wire

import pb "reparto/gen/reparto/v1"

// Errors are seldom, until the balancer is overloaded: then they are half of what
// it says.

func hintOfError(e *pb.Error) int {
	if e == nil {
		return 0
	}
	return 12 + len(e.Reason) + len(e.Message) + hintOfMap(e.Metadata)
}

func (w *writer) error(field uint64, e *pb.Error) {
	if e == nil {
		return
	}
	hint := hintOfError(e)
	at := w.open(field, hint)
	w.varint(1, uint64(e.Code))
	w.string(2, e.Reason)
	w.string(3, e.Message)
	w.varint(4, uint64(e.RetryAfterMs))
	w.entries(5, e.Metadata)
	w.close(at, hint)
}

func (d *decoder) error(to **pb.Error, r reader) {
	if *to == nil {
		*to = &pb.Error{}
	}
	e := *to
	for r.more() {
		switch r.varint() {
		case 1<<3 | varint:
			e.Code = int32(r.varint())
		case 2<<3 | bytes:
			e.Reason = d.name(r.bytes())
		case 3<<3 | bytes:
			e.Message = d.name(r.bytes())
		case 4<<3 | varint:
			e.RetryAfterMs = int64(r.varint())
		case 5<<3 | bytes:
			d.entry(&e.Metadata, r.message())
		default:
			r.fail()
		}
	}
	d.bad = d.bad || r.bad
}
