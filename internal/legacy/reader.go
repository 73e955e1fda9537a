package legacy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

var (
	// errSlow ends the connection of a peer that did not finish a message.
	errSlow = errors.New("message not finished within the limit")
	// errStopped is what next returns after stop.
	errStopped = errors.New("reading was stopped")
)

// reader reads messages from one connection. A message is complete at a line
// feed, at the end of input, or when the peer has been quiet after something
// that is well-formed as it stands.
type reader struct {
	conn  net.Conn
	frame framer
	// quiet is how long a peer must have been silent for the second; limit is
	// how long it may take from a message's first byte to its end.
	quiet, limit time.Duration

	mu      sync.Mutex // guards what follows and the connection's read deadline
	stopped bool
	armed   bool
}

func newReader(conn net.Conn, o *Options) *reader {
	return &reader{conn: conn, frame: framer{max: o.MaxLine}, quiet: o.Quiet, limit: o.MessageTimeout}
}

// next returns the next message that is not blank, without the white space
// around it. It is valid until next is called again, and blocks until there is
// one. An error is final: io.EOF at the end of input, errOverlong, errSlow,
// errStopped, or the connection's own.
//
// The clock of a message that is half here starts anew with each call: only
// time spent waiting for the peer counts, not time in which nobody read.
func (r *reader) next() ([]byte, error) {
	var began time.Time
	for {
		if r.isStopped() {
			return nil, errStopped
		}
		line, ok, err := r.frame.line()
		if err != nil {
			return nil, fmt.Errorf("%w of %d bytes", err, r.frame.max)
		}
		if ok {
			began = time.Time{}
			if line = bytes.TrimSpace(line); len(line) > 0 {
				return line, nil
			}
			continue
		}
		if len(r.frame.rest()) > 0 && began.IsZero() {
			began = time.Now()
		}
		whole, err := r.more(began)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if whole || err != nil {
			if line := bytes.TrimSpace(r.frame.takeRest()); len(line) > 0 {
				return line, nil
			}
		}
		if err != nil {
			return nil, err
		}
	}
}

// more reads once. began is when the unfinished message's first byte was seen,
// or zero when there is none. whole says that nothing came and that what there
// is is a message.
func (r *reader) more(began time.Time) (whole bool, err error) {
	if began.IsZero() {
		return false, r.read(time.Time{})
	}
	end := began.Add(r.limit)
	if time.Until(end) <= 0 {
		return false, fmt.Errorf("%w of %v", errSlow, r.limit)
	}
	err = r.read(earlier(time.Now().Add(r.quiet), end))
	if !errors.Is(err, os.ErrDeadlineExceeded) || r.isStopped() {
		return false, err
	}
	// The deadline may have passed while this process was not running, with the
	// peer's bytes waiting to be read. A read with a new deadline looks first.
	err = r.read(time.Now().Add(r.quiet / 10))
	if !errors.Is(err, os.ErrDeadlineExceeded) || r.isStopped() {
		return false, err
	}
	if selfContained(r.frame.rest()) {
		return true, nil
	}
	err = r.read(end)
	if errors.Is(err, os.ErrDeadlineExceeded) && !r.isStopped() {
		return false, fmt.Errorf("%w of %v", errSlow, r.limit)
	}
	return false, err
}

// read reads once, until the deadline (zero: none).
func (r *reader) read(deadline time.Time) error {
	r.mu.Lock()
	if r.stopped {
		r.mu.Unlock()
		return errStopped
	}
	if armed := !deadline.IsZero(); armed || r.armed {
		if err := r.conn.SetReadDeadline(deadline); err != nil {
			r.mu.Unlock()
			return err
		}
		r.armed = armed
	}
	r.mu.Unlock()
	n, err := r.conn.Read(r.frame.space())
	r.frame.filled(n)
	if n > 0 {
		return nil // an error comes again with the next read
	}
	if err != nil && r.isStopped() {
		return errStopped
	}
	return err
}

// stop makes the next that is waiting, and each one after it, return
// errStopped; what was read and not given out is lost. It does not wait, and
// may be called from any goroutine.
func (r *reader) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	_ = r.conn.SetReadDeadline(time.Unix(1, 0)) // fails only on a closed connection, which reads nothing either
}

func (r *reader) isStopped() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopped
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
