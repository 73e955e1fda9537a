package file

import (
	"encoding/binary"
	"fmt"
	"time"

	"reparto/internal/task"
)

// The keys, by the first byte:
//
//	u/<id>               a task without a final state: its record
//	d/<state>/<id>       a finished task: its record
//	o/<id>               its result, when larger than resultInline
//	p/<id>               payload and metadata of either, written once
//	r/<forget-at>/<id>   what may be forgotten when; the value is the state
//	f/<function>         the function is paused
//	v                    the format of all this
//	w                    nothing; a Write of nothing writes it
//
// <state> is one byte, <forget-at> 8 bytes of nanoseconds since 1970, big-endian.
// An id is in u/ or under one state of d/, never in two places.
const (
	unfinishedPrefix = "u/"
	resultPrefix     = "o/"
	contentPrefix    = "p/"
	pausedPrefix     = "f/"
	forgetPrefix     = "r/"
	versionKey       = "v"
	probeKey         = "w"
)

// finishedStates are the states of d/.
var finishedStates = [...]task.State{task.Succeeded, task.Failed, task.Cancelled, task.Expired}

// resultInline is the most of a result that stands within its record, where a
// listing has to step over it.
const resultInline = 512

func appendKey(b []byte, prefix, id string) []byte {
	return append(append(b, prefix...), id...)
}

func appendFinishedKey(b []byte, s task.State, id string) []byte {
	return append(append(b, 'd', '/', byte(s), '/'), id...)
}

func appendForgetKey(b []byte, at time.Time, id string) []byte {
	b = append(b, forgetPrefix...)
	b = binary.BigEndian.AppendUint64(b, uint64(max(nanos(at), 0)))
	return append(append(b, '/'), id...)
}

// forgetKeyHead is the length of a forget key up to its id.
const forgetKeyHead = len(forgetPrefix) + 8 + 1

// after is the first key behind all that start with prefix.
func after(prefix string) []byte {
	b := []byte(prefix)
	b[len(b)-1]++
	return b
}

// forgetBound is the first key of the retention index behind q.ForgettableAt.
func forgetBound(q task.Query) []byte {
	b := appendForgetKey(nil, q.ForgettableAt, "")
	b[len(b)-1]++
	return b
}

// forgetEntry reads an entry of the retention index.
func forgetEntry(key, value []byte) (task.Record, error) {
	if len(key) <= forgetKeyHead || len(value) != 1 {
		return task.Record{}, fmt.Errorf("an entry of the retention index is %x=%x: the data is damaged", key, value)
	}
	at := binary.BigEndian.Uint64(key[len(forgetPrefix):])
	return task.Record{
		Task:     task.Task{ID: string(key[forgetKeyHead:])},
		State:    task.State(value[0]),
		ForgetAt: time.Unix(0, int64(at)),
	}, nil
}
