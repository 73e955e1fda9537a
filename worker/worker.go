// Package worker is the SDK for workers: programs that do the work which a
// Reparto balancer deals out.
//
// A worker dials the balancer, says what it can do, and runs a handler for each
// task it is given. It opens no port. A whole worker is
//
//	err := worker.Run(ctx, conn, worker.Handlers{
//		"sum": func(ctx context.Context, t worker.Task) ([]byte, error) {
//			return sum(t.Payload)
//		},
//	}, worker.Options{Slots: 8})
//
// Run goes on until ctx ends: it dials again after a break, while handlers run
// on and their results are kept for the next session. When ctx ends it takes
// nothing new, finishes what it holds, and returns nil.
//
// A task may be run more than once: here or elsewhere, after its worker or its
// connection was lost. Handlers should not mind.
package worker

import (
	"context"
	"time"

	"google.golang.org/grpc"
)

// Task is one unit of work as a handler gets it. How long it may take is the
// deadline of the handler's context.
type Task struct {
	// ID names the task; it stays the same when the task is run again.
	ID string
	// Function is the name under which the handler was registered.
	Function string
	// Attempt counts from 1, one more each time the task is given out.
	Attempt int
	// Payload is the input. It is the handler's own: it may be kept, changed and
	// returned as the result.
	Payload []byte
	// Metadata travelled with the task from its client; nil when there is none.
	Metadata map[string]string
}

// Handler does one task and returns its result, or an error that becomes the
// task's failure; see Retry, Fatal, Fail and Abandon for what an error may ask
// for. Result and error together: the error counts.
//
// Its context ends when nobody wants the result any more: the task was
// cancelled, its time is up, or Run was told to stop and DrainTimeout has
// passed. context.Cause then tells which. A handler that returns an error after
// that has its task answered as cancelled; one that returns a result has it
// delivered. A handler that does not return keeps its slot.
//
// Handlers run concurrently, up to Options.Slots at a time. A panic fails the
// task (reason PANIC) and nothing else.
type Handler func(ctx context.Context, t Task) ([]byte, error)

// Handlers maps the names of functions, [A-Za-z0-9._/-]{1,128}, to what does
// them. A worker offers 1 to 256.
type Handlers map[string]Handler

// Run is a worker, from its first dial to its last answer. It blocks.
//
// conn stays the caller's, who closes it after Run has returned; it may be
// shared with other Runs under other IDs.
//
// Run returns
//   - nil once ctx has ended and everything that the worker held was answered;
//   - an error at once, before anything is dialled, when h or o is wrong;
//   - an error that wraps the balancer's status when dialling again can't help:
//     INVALID_ARGUMENT, UNAUTHENTICATED, PERMISSION_DENIED, UNIMPLEMENTED, or
//     ABORTED because another worker registered under the same ID. The contexts
//     of all handlers are cancelled first, and Run waits for them;
//   - the error that a handler gave to Abandon;
//   - an error that says what was left behind, when ctx has ended and either
//     DrainTimeout passed with handlers that did not stop or results that could
//     not be delivered, or, with a DrainTimeout of 0, nothing ran any more and
//     for 10 s there was no connection to deliver results on.
//
// Any other trouble is logged and cured by dialling again, after a wait that
// grows from 0.1 to 10 s, with jitter. Handlers run on meanwhile: the balancer
// is told what still runs, and gets the results over the next session.
//
// Every goroutine that Run started has ended when it returns, handlers
// included. The one exception are handlers that still run after DrainTimeout:
// the error says how many, and their goroutines are the caller's. With a
// DrainTimeout of 0, a handler that never returns keeps Run from returning.
func Run(ctx context.Context, conn grpc.ClientConnInterface, h Handlers, o Options) error {
	o, err := o.complete(h)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return nil
	}
	return o.run(ctx, conn, h)
}

// What is not up to the user.
const (
	// maxFrameBytes bounds a frame of results; a larger result travels alone.
	maxFrameBytes = 1 << 20
	// defaultFrameTasks and the three below hold when an ack does not say.
	defaultFrameTasks   = 256
	defaultMaxPayload   = 4 << 20
	defaultMaxMessage   = 4 << 20
	defaultHeartbeat    = 5 * time.Second
	silentAfter         = 3 // heartbeat intervals
	registrationTimeout = 10 * time.Second
	// registerBytes is more than a registration takes beside what it lists as
	// running.
	registerBytes     = 64 << 10
	maxLoggedPayload  = 1024
	maxReconnectAfter = time.Hour
	// closeTimeout is how long the balancer may take to end a stream whose other
	// side is closed.
	closeTimeout = 5 * time.Second
	// grace is the time from cancelling all handlers to leaving without them.
	grace = time.Second
	// deliveryTimeout is how long results may look for a connection after ctx has
	// ended, nothing runs any more, and DrainTimeout sets no limit.
	deliveryTimeout = 10 * time.Second
)
