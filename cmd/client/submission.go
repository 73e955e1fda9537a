package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"reparto/client"
	"reparto/internal/cli"
)

// submission is one run of submit: a feeder reads payloads and submits them, the
// caller of run prints what comes of them, and the window lies between.
type submission struct {
	client  *client.Client
	task    client.Task // but for payload and ID
	window  *window
	log     *slog.Logger
	debug   bool
	classic bool
	ownIDs  bool
	id      string
}

// maxPrinted is how many results are taken out of the window at a time.
const maxPrinted = 256

// errInput says that a payload can't be submitted.
type errInput struct{ problem string }

func (e *errInput) Error() string { return e.problem }

// run returns what the command ends with. The feeder may be left behind, blocked
// in reading standard input, when it ends early; it then submits nothing more.
func (r *submission) run(ctx context.Context, payloads *payloads, show *printer) error {
	fed := make(chan error, 1)
	go func() {
		fed <- r.feed(context.WithoutCancel(ctx), payloads)
		r.window.finish()
	}()
	halt := context.AfterFunc(ctx, r.window.stop)
	err := r.print(show)
	interrupted := !halt()
	r.window.stop()
	// What is under way is cancelled: nobody wants it any more.
	_ = r.client.Close() // it has nothing of its own that could fail
	switch {
	case cli.IsClosedOutput(err):
		return nil
	case interrupted:
		return cli.Exit(cli.Interrupted, nil)
	case err != nil:
		return err
	}
	if err := <-fed; err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	return nil
}

// feed submits the payloads until there are no more or the window is stopped.
// Its ctx never ends: Close is what cancels tasks, all at once.
func (r *submission) feed(ctx context.Context, payloads *payloads) error {
	for n := 1; ; n++ {
		payload, problem, err := payloads.next()
		if err != nil || payload == nil && problem == nil {
			return err
		}
		t := r.task
		t.Payload, t.ID = payload, r.taskID(n, payloads.single)
		number, ok := r.window.add(t.ID, len(payload))
		if !ok {
			return nil
		}
		if problem != nil {
			r.window.settle(number, client.Outcome{}, problem)
			continue
		}
		if r.debug {
			r.log.Debug("task sent", "task_id", t.ID, "payload", string(payload))
		}
		r.client.SubmitFunc(ctx, t, func(out client.Outcome, err error) { r.window.settle(number, out, err) })
	}
}

// taskID is the id under which a task is submitted; empty leaves it to the
// balancer. The old client made its own, and showed them.
func (r *submission) taskID(n int, single bool) string {
	switch {
	case r.ownIDs && single:
		return r.id
	case r.ownIDs:
		return r.id + "-" + strconv.Itoa(n)
	case r.classic:
		var b [8]byte
		rand.Read(b[:]) // never fails
		return "task_" + hex.EncodeToString(b[:])
	}
	return ""
}

// print prints results in order until there are no more.
func (r *submission) print(show *printer) error {
	defer show.bar.close()
	batch := make([]entry, 0, maxPrinted)
	for {
		var more bool
		if batch, more = r.window.next(batch[:0], false); more && len(batch) == 0 {
			// Nothing to do: let people see what there is.
			if err := show.flush(); err != nil {
				return err
			}
			batch, more = r.window.next(batch[:0], true)
		}
		if !more {
			break
		}
		for i := range batch {
			if err := r.printOne(show, &batch[i]); err != nil {
				return errors.Join(err, show.flush())
			}
		}
		clear(batch)
	}
	if r.classic {
		r.log.Debug("disconnected")
		r.log.Debug("summary", "results", show.summary, "omitted", show.count-len(show.summary))
	}
	return show.finish()
}

func (r *submission) printOne(show *printer, e *entry) error {
	if e.out.TaskID == "" {
		e.out.TaskID = e.id
	}
	if broken, ok := errors.AsType[*client.Error](e.err); ok && broken.Reason == "NO_CONNECTION" {
		// None of the rest would fare better.
		return cli.Exit(cli.NoConnection, fmt.Errorf("the connection to the balancer is lost: %w", broken))
	}
	if r.debug {
		result := string(e.out.Result)
		if e.err != nil {
			result = "ERROR: " + e.err.Error()
		}
		r.log.Debug("result received", "task_id", e.out.TaskID, "result", result)
	}
	return show.result(e)
}
