package wire

import (
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
		switch d.varint() {
		case 2<<3 | bytes:
			t := fresh.again(had, len(m.TaskResults))
			d.taskResult(t, d.message())
			m.TaskResults = append(m.TaskResults, t)
		case 4<<3 | bytes:
			merged(d, &m.Heartbeat, d.bytes())
		case 5<<3 | bytes:
			merged(d, &m.Drain, d.bytes())
		default:
			d.fail()
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

func (d *decoder) taskResult(t *pb.TaskResult, r reader) {
	for r.more() {
		switch r.varint() {
		case 1<<3 | bytes:
			t.TaskId = d.string(r.bytes())
		case 2<<3 | varint:
			t.Attempt = int32(r.varint())
		case 3<<3 | fixed64:
			t.Token = r.fixed64()
		case 4<<3 | bytes:
			t.Result = d.copied(r.bytes())
		case 5<<3 | bytes:
			merged(d, &t.Failure, r.bytes())
		default:
			r.fail()
		}
	}
	d.bad = d.bad || r.bad
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
		switch d.varint() {
		case 2<<3 | bytes:
			t := fresh.again(had, len(m.AssignTasks))
			d.assignTask(t, d.message())
			m.AssignTasks = append(m.AssignTasks, t)
		case 3<<3 | bytes:
			var c *pb.CancelTask
			merged(d, &c, d.bytes())
			m.CancelTasks = append(m.CancelTasks, c)
		case 4<<3 | bytes:
			merged(d, &m.Heartbeat, d.bytes())
		case 5<<3 | bytes:
			merged(d, &m.Drain, d.bytes())
		case 6<<3 | bytes:
			r := d.message()
			for r.more() {
				m.AckedTokens = append(m.AckedTokens, r.fixed64())
			}
			d.bad = d.bad || r.bad
		case 6<<3 | fixed64:
			m.AckedTokens = append(m.AckedTokens, d.fixed64())
		default:
			d.fail()
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

func (d *decoder) assignTask(t *pb.AssignTask, r reader) {
	for r.more() {
		switch r.varint() {
		case 1<<3 | bytes:
			t.TaskId = d.string(r.bytes())
		case 2<<3 | varint:
			t.Attempt = int32(r.varint())
		case 3<<3 | fixed64:
			t.Token = r.fixed64()
		case 4<<3 | bytes:
			t.Function = d.name(r.bytes())
		case 5<<3 | bytes:
			t.Payload = d.copied(r.bytes())
		case 6<<3 | bytes:
			d.entry(&t.Metadata, r.message())
		case 7<<3 | varint:
			t.TimeRemainingMs = int64(r.varint())
		default:
			r.fail()
		}
	}
	d.bad = d.bad || r.bad
}
