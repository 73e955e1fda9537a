package wire

import (
	"encoding/binary"

	"google.golang.org/protobuf/encoding/protowire"

	pb "reparto/gen/reparto/v1"
)

func hintOfWorkRequest(m *pb.WorkRequest) int {
	if m.Register != nil || len(m.Progress) > 0 {
		return rare
	}
	n := fields
	for _, t := range m.TaskResults {
		n += spare + hintOfTaskResult(t)
	}
	return n
}

func (w *writer) workRequest(m *pb.WorkRequest) {
	for _, t := range m.TaskResults {
		hint := hintOfTaskResult(t)
		at := w.open(2, hint)
		w.taskResult(t)
		w.close(at, hint)
	}
	put(w, 4, m.Heartbeat)
	put(w, 5, m.Drain)
}

func (d *decoder) workRequest(m *pb.WorkRequest) {
	had := m.TaskResults[:cap(m.TaskResults)]
	m.Register, m.TaskResults, m.Progress, m.Heartbeat, m.Drain = nil, m.TaskResults[:0], nil, nil, nil
	var fresh slab[pb.TaskResult]
	for d.more() {
		tag, _, v := d.field()
		switch tag {
		case 2<<3 | bytes:
			t := fresh.again(had, len(m.TaskResults))
			d.about(v)
			d.taskResult(t, v)
			m.TaskResults = append(m.TaskResults, t)
		case 4<<3 | bytes:
			merged(d, &m.Heartbeat, v)
		case 5<<3 | bytes:
			merged(d, &m.Drain, v)
		default:
			d.bad = true
			return
		}
	}
}

func hintOfTaskResult(t *pb.TaskResult) int { return 18 + len(t.TaskId) + len(t.Result) }

func (w *writer) taskResult(t *pb.TaskResult) {
	w.string(1, t.TaskId)
	w.varint(2, uint64(t.Attempt))
	w.fixed(3, t.Token)
	w.bytes(4, t.Result)
	put(w, 5, t.Failure)
}

func (d *decoder) taskResult(t *pb.TaskResult, b []byte) {
	for len(b) > 0 {
		tag, n, v, rest := next(b)
		b = rest
		switch tag {
		case 1<<3 | bytes:
			t.TaskId = d.string(v)
		case 2<<3 | varint:
			t.Attempt = int32(n)
		case 3<<3 | fixed64:
			t.Token = n
		case 4<<3 | bytes:
			t.Result = d.copied(v)
		case 5<<3 | bytes:
			merged(d, &t.Failure, v)
		default:
			d.bad = true
			return
		}
	}
}

func hintOfWorkResponse(m *pb.WorkResponse) int {
	if m.Ack != nil {
		return rare
	}
	n := fields + 8*len(m.AckedTokens) + 2*fields*len(m.CancelTasks)
	for _, t := range m.AssignTasks {
		n += spare + hintOfAssignTask(t)
	}
	return n
}

func (w *writer) workResponse(m *pb.WorkResponse) {
	for _, t := range m.AssignTasks {
		hint := hintOfAssignTask(t)
		at := w.open(2, hint)
		w.assignTask(t)
		w.close(at, hint)
	}
	for _, c := range m.CancelTasks {
		put(w, 3, c)
	}
	put(w, 4, m.Heartbeat)
	put(w, 5, m.Drain)
	if n := 8 * len(m.AckedTokens); n > 0 {
		at := w.open(6, n)
		for _, t := range m.AckedTokens {
			w.b = protowire.AppendFixed64(w.b, t)
		}
		w.close(at, n)
	}
}

func (d *decoder) workResponse(m *pb.WorkResponse) {
	had := m.AssignTasks[:cap(m.AssignTasks)]
	m.Ack, m.AssignTasks, m.CancelTasks, m.Heartbeat, m.Drain, m.AckedTokens = nil, m.AssignTasks[:0], nil, nil, nil, m.AckedTokens[:0]
	var fresh slab[pb.AssignTask]
	for d.more() {
		tag, n, v := d.field()
		switch tag {
		case 2<<3 | bytes:
			t := fresh.again(had, len(m.AssignTasks))
			d.about(v)
			d.assignTask(t, v)
			m.AssignTasks = append(m.AssignTasks, t)
		case 3<<3 | bytes:
			var c *pb.CancelTask
			merged(d, &c, v)
			m.CancelTasks = append(m.CancelTasks, c)
		case 4<<3 | bytes:
			merged(d, &m.Heartbeat, v)
		case 5<<3 | bytes:
			merged(d, &m.Drain, v)
		case 6<<3 | bytes:
			for ; len(v) >= 8; v = v[8:] {
				m.AckedTokens = append(m.AckedTokens, binary.LittleEndian.Uint64(v))
			}
			d.bad = d.bad || len(v) > 0
		case 6<<3 | fixed64:
			m.AckedTokens = append(m.AckedTokens, n)
		default:
			d.bad = true
			return
		}
	}
}

func hintOfAssignTask(t *pb.AssignTask) int {
	return 24 + len(t.TaskId) + len(t.Function) + len(t.Payload) + hintOfMap(t.Metadata)
}

func (w *writer) assignTask(t *pb.AssignTask) {
	w.string(1, t.TaskId)
	w.varint(2, uint64(t.Attempt))
	w.fixed(3, t.Token)
	w.string(4, t.Function)
	w.bytes(5, t.Payload)
	w.entries(6, t.Metadata)
	w.varint(7, uint64(t.TimeRemainingMs))
}

func (d *decoder) assignTask(t *pb.AssignTask, b []byte) {
	for len(b) > 0 {
		tag, n, v, rest := next(b)
		b = rest
		switch tag {
		case 1<<3 | bytes:
			t.TaskId = d.string(v)
		case 2<<3 | varint:
			t.Attempt = int32(n)
		case 3<<3 | fixed64:
			t.Token = n
		case 4<<3 | bytes:
			t.Function = d.name(v)
		case 5<<3 | bytes:
			t.Payload = d.copied(v)
		case 6<<3 | bytes:
			d.entry(&t.Metadata, v)
		case 7<<3 | varint:
			t.TimeRemainingMs = int64(n)
		default:
			d.bad = true
			return
		}
	}
}
