package wire

import pb "reparto/gen/reparto/v1"

func hintOfEnqueueRequest(m *pb.EnqueueRequest) int {
	n := fields
	for _, t := range m.Tasks {
		n += spare + hintOfEnqueueTask(t)
	}
	return n
}

func (w *writer) enqueueRequest(m *pb.EnqueueRequest) {
	for _, t := range m.Tasks {
		hint := hintOfEnqueueTask(t)
		at := w.open(1, hint)
		w.enqueueTask(t)
		w.close(at, hint)
	}
}

func (d *decoder) enqueueRequest(m *pb.EnqueueRequest) {
	m.Tasks = nil
	var fresh slab[pb.EnqueueTask]
	for d.more() {
		tag, _, v := d.field()
		switch tag {
		case 1<<3 | bytes:
			t := fresh.next()
			d.about(v)
			d.enqueueTask(t, v)
			m.Tasks = append(m.Tasks, t)
		default:
			d.bad = true
			return
		}
	}
}

func hintOfEnqueueTask(t *pb.EnqueueTask) int {
	n := 12 + len(t.Function) + len(t.Payload) + len(t.TaskId) + hintOfMap(t.Metadata)
	if t.Text != nil {
		n += len(*t.Text)
	}
	return n
}

func (w *writer) enqueueTask(t *pb.EnqueueTask) {
	w.string(1, t.Function)
	w.bytes(2, t.Payload)
	w.optional(3, t.Text)
	w.string(4, t.TaskId)
	w.entries(5, t.Metadata)
	put(w, 6, t.RunAt)
	put(w, 7, t.Delay)
	w.varint(8, uint64(t.Priority))
	w.varint(9, uint64(t.MaxAttempts))
	put(w, 10, t.Backoff)
	put(w, 11, t.AttemptTimeout)
	put(w, 12, t.ExpireTime)
	put(w, 13, t.TimeToLive)
	put(w, 14, t.Retention)
	w.bool(15, t.FreshId)
}

func (d *decoder) enqueueTask(t *pb.EnqueueTask, b []byte) {
	for len(b) > 0 {
		tag, n, v, rest := next(b)
		b = rest
		switch tag {
		case 1<<3 | bytes:
			t.Function = d.name(v)
		case 2<<3 | bytes:
			t.Payload = d.copied(v)
		case 3<<3 | bytes:
			s := d.string(v)
			t.Text = &s
		case 4<<3 | bytes:
			t.TaskId = d.string(v)
		case 5<<3 | bytes:
			d.entry(&t.Metadata, v)
		case 6<<3 | bytes:
			merged(d, &t.RunAt, v)
		case 7<<3 | bytes:
			merged(d, &t.Delay, v)
		case 8<<3 | varint:
			t.Priority = int32(n)
		case 9<<3 | varint:
			t.MaxAttempts = int32(n)
		case 10<<3 | bytes:
			merged(d, &t.Backoff, v)
		case 11<<3 | bytes:
			merged(d, &t.AttemptTimeout, v)
		case 12<<3 | bytes:
			merged(d, &t.ExpireTime, v)
		case 13<<3 | bytes:
			merged(d, &t.TimeToLive, v)
		case 14<<3 | bytes:
			merged(d, &t.Retention, v)
		case 15<<3 | varint:
			t.FreshId = n != 0
		default:
			d.bad = true
			return
		}
	}
}

func hintOfEnqueueResponse(m *pb.EnqueueResponse) int {
	n := fields
	var errors sizes
	for _, e := range m.Results {
		n += spare + len(e.TaskId) + errors.of(e.Error)
	}
	return n
}

func (w *writer) enqueueResponse(m *pb.EnqueueResponse) {
	var errors sizes
	for _, e := range m.Results {
		hint := 4 + len(e.TaskId) + errors.of(e.Error)
		at := w.open(1, hint)
		w.string(1, e.TaskId)
		w.bool(2, e.Existed)
		w.error(3, e.Error)
		w.close(at, hint)
	}
}

func (d *decoder) enqueueResponse(m *pb.EnqueueResponse) {
	m.Results = nil
	var fresh slab[pb.Enqueued]
	for d.more() {
		tag, _, v := d.field()
		switch tag {
		case 1<<3 | bytes:
			e := fresh.next()
			d.about(v)
			d.enqueued(e, v)
			m.Results = append(m.Results, e)
		default:
			d.bad = true
			return
		}
	}
}

func (d *decoder) enqueued(e *pb.Enqueued, b []byte) {
	for len(b) > 0 {
		tag, n, v, rest := next(b)
		b = rest
		switch tag {
		case 1<<3 | bytes:
			e.TaskId = d.string(v)
		case 2<<3 | varint:
			e.Existed = n != 0
		case 3<<3 | bytes:
			d.error(&e.Error, v)
		default:
			d.bad = true
			return
		}
	}
}
