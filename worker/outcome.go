package worker

import (
	"errors"
	"fmt"
	"strings"
	"time"

	pb "reparto/gen/reparto/v1"
)

// Reasons that the SDK itself gives for failures.
const (
	reasonHandlerError    = "HANDLER_ERROR"
	reasonPanic           = "PANIC"
	reasonUnknownFunction = "UNKNOWN_FUNCTION"
	reasonResultTooLarge  = "RESULT_TOO_LARGE"
	reasonCancelled       = "CANCELLED"
)

// A failure's texts are cut here: it is for people.
const (
	maxReasonLen  = 128
	maxMessageLen = 8 << 10
)

// Retry makes err ask for another attempt at the task, after the given time or,
// when that is 0 or less, after the balancer's own backoff. How many attempts
// there are is the client's word. Without Retry, an error is the end of the
// task. Retry(nil, …) is nil.
func Retry(err error, after time.Duration) error {
	return wrap(err, verdict{retry: yes, after: max(after, 0)})
}

// Fatal makes err the end of the task, whatever Retry inside it says. Fatal(nil)
// is nil.
func Fatal(err error) error { return wrap(err, verdict{retry: no}) }

// Fail gives the failure a reason of its own, by convention in CAPITALS and at
// most 128 bytes long, instead of HANDLER_ERROR. Of nested reasons the outermost
// counts. Fail(reason, nil) is nil.
func Fail(reason string, err error) error { return wrap(err, verdict{reason: reason}) }

// Abandon says that what ran this task is gone, and this worker with it. Nothing
// more is answered: the stream is broken at once, so that all that this worker
// holds goes back to its queues as lost; the contexts of all handlers are
// cancelled, and Run returns err when they have ended. Abandon(nil) is nil.
//
// It is for handlers that hand tasks on to something that may vanish. A handler
// that merely failed returns a plain error.
func Abandon(err error) error { return wrap(err, verdict{abandon: true}) }

// verdict is an error with what should follow from it.
type verdict struct {
	err     error
	reason  string
	retry   answer
	after   time.Duration
	abandon bool
}

type answer uint8

const (
	unsaid answer = iota
	yes
	no
)

func (v *verdict) Error() string { return v.err.Error() }
func (v *verdict) Unwrap() error { return v.err }

func wrap(err error, v verdict) error {
	if err == nil {
		return nil
	}
	v.err = err
	return &v
}

// judge puts together what the wrappers around err say, the outermost first.
func judge(err error) verdict {
	sum := verdict{err: err}
	for {
		v, ok := errors.AsType[*verdict](err)
		if !ok {
			return sum
		}
		if sum.reason == "" {
			sum.reason = v.reason
		}
		if sum.retry == unsaid {
			sum.retry, sum.after = v.retry, v.after
		}
		sum.abandon = sum.abandon || v.abandon
		err = v.err
	}
}

// failure is how a handler's error goes over the wire.
func (v *verdict) failure() *pb.Failure {
	f := newFailure(v.reason, v.err.Error())
	if v.retry == yes {
		f.Retry = true
		// Rounded up: 0 would mean the balancer's own backoff.
		f.RetryAfterMs = int64((v.after + time.Millisecond - 1) / time.Millisecond)
	}
	return f
}

// newFailure makes its texts fit for the wire: a string that is not UTF-8 would
// make the whole frame unsendable.
func newFailure(reason, message string) *pb.Failure {
	reason = cut(strings.ToValidUTF8(reason, "?"), maxReasonLen)
	if reason == "" {
		reason = reasonHandlerError
	}
	return &pb.Failure{Reason: reason, Message: cut(strings.ToValidUTF8(message, "\uFFFD"), maxMessageLen)}
}

func resultTooLarge(size, limit int) *pb.Failure {
	return newFailure(reasonResultTooLarge, fmt.Sprintf("the result has %d bytes; at most %d are allowed", size, limit))
}
