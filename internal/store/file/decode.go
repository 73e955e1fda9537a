package file

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"reparto/internal/task"
)

var errTruncated = errors.New("a stored value ends too early or has a length that can't be: the data is damaged")

// decoder reads values back. It shares what many records have in common, so one
// serves a whole scan, and one goroutine.
type decoder struct {
	names   map[string]string // functions and workers, each once
	durable *task.Durable     // the last one; the next is likely the same

	b   []byte
	err error
}

// maxNames bounds the table of names: past it a scan has many more workers than
// is worth sharing.
const maxNames = 4096

// parts says how much of a record is wanted.
type parts uint8

const (
	headOnly  parts = iota // state and function
	unlisted               // without attempts and result, as a listing has it
	everyPart              // all
)

// record reads value into r, which must be zero but for its ID. Nothing of r
// refers to value afterwards. apart says that the result has a key of its own.
func (d *decoder) record(value []byte, r *task.Record, want parts) (apart bool, err error) {
	d.b, d.err = value, nil
	version := d.version(ownedEncoding)
	r.State = task.State(d.byte())
	if d.err == nil && (r.State == task.None || r.State > task.Expired) {
		d.err = fmt.Errorf("a stored task has the unknown state %d: the data is damaged or of a newer balancer", r.State)
	}
	r.Function = d.name()
	if version == ownedEncoding {
		r.Owner = d.name()
	}
	if want == headOnly || d.err != nil {
		return false, d.err
	}
	flags := d.uvarint()
	r.OwnID, r.FreshID, r.FailFast = flags&hasOwnID != 0, flags&hasFreshID != 0, flags&hasFailFast != 0
	if flags&hasFingerprint != 0 {
		r.Fingerprint = task.Fingerprint(d.take(task.FingerprintSize))
	}
	r.Deadline = d.timeIf(flags & hasDeadline)
	r.AttemptTimeout = d.duration()
	r.MaxAttempts = d.int()
	r.Priority = d.int()
	if flags&hasDurable != 0 {
		r.Durable = d.durablePart(flags)
	}
	r.Seq = d.uvarint()
	r.Enqueued = d.timeIf(flags & hasEnqueued)
	r.Due = d.timeIf(flags & hasDue)
	r.FailedAttempts = d.int()
	r.LostAttempts = d.int()
	r.Finished = d.timeIf(flags & hasFinished)
	r.ForgetAt = d.timeIf(flags & hasForgetAt)
	r.Outcome.WasRunning = flags&hasWasRunning != 0
	if flags&hasOutcome != 0 {
		d.outcome(&r.Outcome, flags, want)
	}
	if flags&hasAttempts != 0 && want == everyPart {
		r.Attempts = d.attempts()
	}
	return flags&hasResultApart != 0, d.err
}

func (d *decoder) durablePart(flags uint64) *task.Durable {
	v := task.Durable{RunAt: d.timeIf(flags & hasRunAt)}
	v.Backoff.Initial = d.duration()
	v.Backoff.Multiplier = d.float()
	v.Backoff.Maximum = d.duration()
	v.Backoff.Jitter = d.float()
	v.TTL = d.duration()
	v.Retention = d.duration()
	if d.durable == nil || *d.durable != v {
		d.durable = &v
	}
	return d.durable
}

func (d *decoder) outcome(o *task.Outcome, flags uint64, want parts) {
	o.State = task.State(d.byte())
	o.Attempt = d.int()
	o.WorkerID = d.name()
	if flags&hasFailure != 0 {
		o.Failure = d.failure()
	}
	if flags&hasResultApart != 0 {
		return
	}
	result := d.take(d.uvarint())
	if want == everyPart && len(result) > 0 {
		o.Result = append([]byte(nil), result...)
	}
}

// smallestAttempt is the least that an attempt takes, so that a damaged count
// can't ask for more memory than the value is worth.
const smallestAttempt = 11

func (d *decoder) attempts() []task.Attempt {
	n := d.uvarint()
	if n > uint64(len(d.b)/smallestAttempt) {
		d.fail()
		return nil
	}
	list := make([]task.Attempt, n)
	for i := range list {
		a := &list[i]
		flags := d.byte()
		a.Number = d.int()
		a.Token = d.fixed()
		a.WorkerID = d.name()
		a.Started = d.timeIf(uint64(flags & attemptStarted))
		a.Ended = d.timeIf(uint64(flags & attemptEnded))
		if flags&attemptFailed != 0 {
			a.Failure = d.failure()
		}
	}
	return list
}

func (d *decoder) failure() *task.Failure {
	f := &task.Failure{Reason: d.name(), Message: string(d.take(d.uvarint()))}
	f.Retry = d.byte() == 1
	f.RetryAfter = d.duration()
	return f
}

// content reads what appendContent wrote; nothing of t refers to value
// afterwards.
func (d *decoder) content(value []byte, t *task.Task) error {
	d.b, d.err = value, nil
	d.version(encoding)
	n := d.uvarint()
	if n > uint64(len(d.b)/2) {
		d.fail()
		return d.err
	}
	if n > 0 {
		t.Metadata = make(map[string]string, n)
	}
	for range n {
		k := string(d.take(d.uvarint()))
		t.Metadata[k] = string(d.take(d.uvarint()))
	}
	if d.err == nil && len(d.b) > 0 {
		t.Payload = append([]byte(nil), d.b...)
	}
	return d.err
}

// version reads the version of a value, of which newest is known.
func (d *decoder) version(newest byte) byte {
	v := d.byte()
	if d.err == nil && (v < encoding || v > newest) {
		d.err = fmt.Errorf("a stored value has encoding %d, this balancer knows up to %d: use a newer balancer", v, newest)
	}
	return v
}

func (d *decoder) fail() {
	d.b = nil
	if d.err == nil {
		d.err = errTruncated
	}
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int { return int(d.varint()) }

func (d *decoder) duration() time.Duration { return time.Duration(d.varint()) }

func (d *decoder) fixed() uint64 {
	if v := d.take(8); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}

func (d *decoder) float() float64 { return math.Float64frombits(d.fixed()) }

func (d *decoder) timeIf(set uint64) time.Time {
	if set == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(d.fixed()))
}

// name is a string that many records have.
func (d *decoder) name() string {
	v := d.take(d.uvarint())
	if s, ok := d.names[string(v)]; ok {
		return s
	}
	s := string(v)
	if d.names == nil {
		d.names = map[string]string{}
	}
	if len(d.names) < maxNames && len(s) <= task.MaxFunctionLen {
		d.names[s] = s
	}
	return s
}
