package wire

import (
	"google.golang.org/protobuf/encoding/protowire"

	pb "reparto/gen/reparto/v1"
)

func hintOfSubmitRequest(m *pb.SubmitStreamRequest) int {
	n := fields + len(m.CancelNumbers)*10
	for _, t := range m.Tasks {
		n += spare + hintOfStreamTask(t)
	}
	return n
}

func (w *writer) submitRequest(m *pb.SubmitStreamRequest) {
	for _, t := range m.Tasks {
		hint := hintOfStreamTask(t)
		at := w.open(1, hint)
		w.streamTask(t)
		w.close(at, hint)
	}
	if n := len(m.CancelNumbers); n > 0 {
		at := w.open(2, n)
		for _, v := range m.CancelNumbers {
			w.b = protowire.AppendVarint(w.b, v)
		}
		w.close(at, n)
	}
}

func (d *decoder) submitRequest(m *pb.SubmitStreamRequest) {
	had := m.Tasks[:cap(m.Tasks)]
	m.Tasks, m.CancelNumbers = m.Tasks[:0], m.CancelNumbers[:0]
	var fresh slab[pb.StreamTask]
	for d.more() {
		tag, n, v := d.field()
		switch tag {
		case 1<<3 | bytes:
			t := fresh.again(had, len(m.Tasks))
			d.about(v)
			d.streamTask(t, v)
			m.Tasks = append(m.Tasks, t)
		case 2<<3 | bytes:
			for len(v) > 0 {
				number, size := protowire.ConsumeVarint(v)
				if size < 0 {
					d.bad = true
					return
				}
				m.CancelNumbers = append(m.CancelNumbers, number)
				v = v[size:]
			}
		case 2<<3 | varint:
			m.CancelNumbers = append(m.CancelNumbers, n)
		default:
			d.bad = true
			return
		}
	}
}

// The hint of a task is what it takes if its numbers are small.
func hintOfStreamTask(t *pb.StreamTask) int {
	n := 20 + len(t.Function) + len(t.Payload) + len(t.TaskId) + hintOfMap(t.Metadata)
	if t.Text != nil {
		n += len(*t.Text)
	}
	return n
}

func (w *writer) streamTask(t *pb.StreamTask) {
	w.varint(1, t.Number)
	w.string(2, t.Function)
	w.bytes(3, t.Payload)
	w.optional(4, t.Text)
	w.string(5, t.TaskId)
	w.entries(6, t.Metadata)
	w.varint(7, uint64(t.TimeoutMs))
	w.varint(8, uint64(t.AttemptTimeoutMs))
	w.varint(9, uint64(t.MaxAttempts))
	w.bool(10, t.FailFast)
	w.varint(11, uint64(t.Priority))
}

func (d *decoder) streamTask(t *pb.StreamTask, b []byte) {
	for len(b) > 0 {
		tag, n, v, rest := next(b)
		b = rest
		switch tag {
		case 1<<3 | varint:
			t.Number = n
		case 2<<3 | bytes:
			t.Function = d.name(v)
		case 3<<3 | bytes:
			t.Payload = d.copied(v)
		case 4<<3 | bytes:
			s := d.string(v)
			t.Text = &s
		case 5<<3 | bytes:
			t.TaskId = d.string(v)
		case 6<<3 | bytes:
			d.entry(&t.Metadata, v)
		case 7<<3 | varint:
			t.TimeoutMs = int64(n)
		case 8<<3 | varint:
			t.AttemptTimeoutMs = int64(n)
		case 9<<3 | varint:
			t.MaxAttempts = int32(n)
		case 10<<3 | varint:
			t.FailFast = n != 0
		case 11<<3 | varint:
			t.Priority = int32(n)
		default:
			d.bad = true
			return
		}
	}
}

func hintOfSubmitResponse(m *pb.SubmitStreamResponse) int {
	if m.Limits != nil {
		return rare
	}
	n := fields
	var errors sizes
	for _, o := range m.Outcomes {
		n += spare + hintOfStreamOutcome(o, &errors)
	}
	return n
}

func (w *writer) submitResponse(m *pb.SubmitStreamResponse) {
	var errors sizes
	for _, o := range m.Outcomes {
		hint := hintOfStreamOutcome(o, &errors)
		at := w.open(2, hint)
		w.streamOutcome(o)
		w.close(at, hint)
	}
}

func (d *decoder) submitResponse(m *pb.SubmitStreamResponse) {
	had := m.Outcomes[:cap(m.Outcomes)]
	m.Limits, m.Outcomes = nil, m.Outcomes[:0]
	var fresh slab[pb.StreamOutcome]
	for d.more() {
		tag, _, v := d.field()
		switch tag {
		case 2<<3 | bytes:
			o := fresh.again(had, len(m.Outcomes))
			d.about(v)
			d.streamOutcome(o, v)
			m.Outcomes = append(m.Outcomes, o)
		default:
			d.bad = true
			return
		}
	}
}

func hintOfStreamOutcome(o *pb.StreamOutcome, errors *sizes) int {
	n := 20 + len(o.TaskId) + len(o.Result) + len(o.WorkerId) + errors.of(o.Error)
	if o.Text != nil {
		n += len(*o.Text)
	}
	return n
}

func (w *writer) streamOutcome(o *pb.StreamOutcome) {
	w.varint(1, o.Number)
	w.string(2, o.TaskId)
	w.bytes(3, o.Result)
	w.optional(4, o.Text)
	put(w, 5, o.Failure)
	w.error(6, o.Error)
	w.varint(7, uint64(o.Attempt))
	w.string(8, o.WorkerId)
}

func (d *decoder) streamOutcome(o *pb.StreamOutcome, b []byte) {
	for len(b) > 0 {
		tag, n, v, rest := next(b)
		b = rest
		switch tag {
		case 1<<3 | varint:
			o.Number = n
		case 2<<3 | bytes:
			o.TaskId = d.string(v)
		case 3<<3 | bytes:
			o.Result = d.copied(v)
		case 4<<3 | bytes:
			s := d.string(v)
			o.Text = &s
		case 5<<3 | bytes:
			merged(d, &o.Failure, v)
		case 6<<3 | bytes:
			d.error(&o.Error, v)
		case 7<<3 | varint:
			o.Attempt = int32(n)
		case 8<<3 | bytes:
			o.WorkerId = d.name(v)
		default:
			d.bad = true
			return
		}
	}
}
