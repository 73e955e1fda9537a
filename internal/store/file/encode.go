package file

import (
	"encoding/binary"
	"math"
	"time"

	"reparto/internal/task"
)

// encoding is the version of the two encodings below, the first byte of every
// value. Another one gets another number, and decode keeps reading the old.
//
// A record of version ownedEncoding has an owner. One without is written as
// before, so that where nobody is told apart an older balancer can read it.
const (
	encoding      = 1
	ownedEncoding = 2
)

// Bits that say which parts of a record follow, in the order of the encoding.
const (
	hasOwnID = 1 << iota
	hasFreshID
	hasFailFast
	hasFingerprint
	hasDeadline
	hasDurable
	hasRunAt
	hasEnqueued
	hasDue
	hasAttempts
	hasFinished
	hasForgetAt
	hasOutcome
	hasWasRunning
	hasFailure
	hasResultApart // the result stands under a key of its own
)

// appendRecord appends all of r but its ID, which is in the key, its payload and
// metadata, and its result when it is apart.
//
// The function and the state come first: a listing that filters by them needs
// to read no further.
func appendRecord(b []byte, r *task.Record, resultApart bool) []byte {
	if r.Owner == "" {
		b = append(b, encoding)
	} else {
		b = append(b, ownedEncoding)
	}
	b = append(b, byte(r.State))
	b = appendString(b, r.Function)
	if r.Owner != "" {
		b = appendString(b, r.Owner)
	}
	flags := flagsOf(r)
	if resultApart {
		flags |= hasResultApart
	}
	b = binary.AppendUvarint(b, flags)
	if flags&hasFingerprint != 0 {
		b = append(b, r.Fingerprint...)
	}
	b = appendTimeIf(b, flags&hasDeadline, r.Deadline)
	b = binary.AppendVarint(b, int64(r.AttemptTimeout))
	b = binary.AppendVarint(b, int64(r.MaxAttempts))
	b = binary.AppendVarint(b, int64(r.Priority))
	if flags&hasDurable != 0 {
		b = appendDurable(b, r.Durable, flags)
	}
	b = binary.AppendUvarint(b, r.Seq)
	b = appendTimeIf(b, flags&hasEnqueued, r.Enqueued)
	b = appendTimeIf(b, flags&hasDue, r.Due)
	b = binary.AppendVarint(b, int64(r.FailedAttempts))
	b = binary.AppendVarint(b, int64(r.LostAttempts))
	b = appendTimeIf(b, flags&hasFinished, r.Finished)
	b = appendTimeIf(b, flags&hasForgetAt, r.ForgetAt)
	if flags&hasOutcome != 0 {
		b = appendOutcome(b, &r.Outcome, flags)
	}
	if flags&hasAttempts != 0 {
		b = binary.AppendUvarint(b, uint64(len(r.Attempts)))
		for i := range r.Attempts {
			b = appendAttempt(b, &r.Attempts[i])
		}
	}
	return b
}

func flagsOf(r *task.Record) uint64 {
	o := &r.Outcome
	var flags uint64
	for _, f := range [...]struct {
		set bool
		bit uint64
	}{
		{r.OwnID, hasOwnID},
		{r.FreshID, hasFreshID},
		{r.FailFast, hasFailFast},
		{r.Fingerprint != "", hasFingerprint},
		{!r.Deadline.IsZero(), hasDeadline},
		{r.Durable != nil, hasDurable},
		{r.Durable != nil && !r.Durable.RunAt.IsZero(), hasRunAt},
		{!r.Enqueued.IsZero(), hasEnqueued},
		{!r.Due.IsZero(), hasDue},
		{len(r.Attempts) > 0, hasAttempts},
		{!r.Finished.IsZero(), hasFinished},
		{!r.ForgetAt.IsZero(), hasForgetAt},
		{o.State != 0 || len(o.Result) > 0 || o.Failure != nil || o.Attempt != 0 || o.WorkerID != "", hasOutcome},
		{o.WasRunning, hasWasRunning},
		{o.Failure != nil, hasFailure},
	} {
		if f.set {
			flags |= f.bit
		}
	}
	return flags
}

func appendDurable(b []byte, d *task.Durable, flags uint64) []byte {
	b = appendTimeIf(b, flags&hasRunAt, d.RunAt)
	b = binary.AppendVarint(b, int64(d.Backoff.Initial))
	b = appendFloat(b, d.Backoff.Multiplier)
	b = binary.AppendVarint(b, int64(d.Backoff.Maximum))
	b = appendFloat(b, d.Backoff.Jitter)
	b = binary.AppendVarint(b, int64(d.TTL))
	return binary.AppendVarint(b, int64(d.Retention))
}

func appendOutcome(b []byte, o *task.Outcome, flags uint64) []byte {
	b = append(b, byte(o.State))
	b = binary.AppendVarint(b, int64(o.Attempt))
	b = appendString(b, o.WorkerID)
	if flags&hasFailure != 0 {
		b = appendFailure(b, o.Failure)
	}
	if flags&hasResultApart != 0 {
		return b
	}
	return appendBytes(b, o.Result)
}

// Bits of an attempt.
const (
	attemptEnded = 1 << iota
	attemptFailed
	attemptStarted
)

func appendAttempt(b []byte, a *task.Attempt) []byte {
	var flags byte
	if !a.Ended.IsZero() {
		flags |= attemptEnded
	}
	if a.Failure != nil {
		flags |= attemptFailed
	}
	if !a.Started.IsZero() {
		flags |= attemptStarted
	}
	b = append(b, flags)
	b = binary.AppendVarint(b, int64(a.Number))
	b = binary.LittleEndian.AppendUint64(b, a.Token)
	b = appendString(b, a.WorkerID)
	b = appendTimeIf(b, uint64(flags&attemptStarted), a.Started)
	b = appendTimeIf(b, uint64(flags&attemptEnded), a.Ended)
	if a.Failure != nil {
		b = appendFailure(b, a.Failure)
	}
	return b
}

func appendFailure(b []byte, f *task.Failure) []byte {
	b = appendString(b, f.Reason)
	b = appendString(b, f.Message)
	retry := byte(0)
	if f.Retry {
		retry = 1
	}
	b = append(b, retry)
	return binary.AppendVarint(b, int64(f.RetryAfter))
}

// appendContent appends what a task keeps from its first day to its last:
// metadata and payload.
func appendContent(b []byte, t *task.Task) []byte {
	b = append(b, encoding)
	b = binary.AppendUvarint(b, uint64(len(t.Metadata)))
	for k, v := range t.Metadata {
		b = appendString(b, k)
		b = appendString(b, v)
	}
	return append(b, t.Payload...)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendBytes(b, s []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendFloat(b []byte, f float64) []byte {
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(f))
}

func appendTimeIf(b []byte, set uint64, t time.Time) []byte {
	if set == 0 {
		return b
	}
	return binary.LittleEndian.AppendUint64(b, uint64(nanos(t)))
}

// nanos is t in nanoseconds since 1970; a time before 1678 or after 2261 counts
// as the first or last that fits.
func nanos(t time.Time) int64 {
	switch s := t.Unix(); {
	case s >= math.MaxInt64/int64(time.Second):
		return math.MaxInt64
	case s <= math.MinInt64/int64(time.Second):
		return math.MinInt64
	}
	return t.UnixNano()
}
