package legacy

import (
	"bytes"
	"errors"
)

// errOverlong says that a peer sent more bytes without a line feed than the
// limit allows.
var errOverlong = errors.New("line over the limit")

const (
	// firstBuffer is what a connection has to read into at first: 10,000 of
	// them idle take 10 MB. An old program's message is seldom longer.
	firstBuffer = 1 << 10
	// keptBuffer is the most that a connection keeps once its input is used up.
	keptBuffer = 64 << 10
)

// framer cuts a stream of bytes into lines. It does not know about time: which
// remainder without a line feed is complete is its caller's decision.
//
//	n, err := conn.Read(f.space())
//	f.filled(n)
//	for line, ok, err := f.line(); ok; line, ok, err = f.line() { … }
//
// The same bytes give the same lines, however they were segmented.
type framer struct {
	// max is how many bytes a line may have before its line feed.
	max int
	// buf[start:] is what was read and not yet given out; no line feed is before
	// buf[scanned].
	buf            []byte
	start, scanned int
}

// space returns where to read the next bytes to; never empty as long as line
// was asked for all it has. It makes the lines given out so far invalid.
func (f *framer) space() []byte {
	if f.start == len(f.buf) {
		f.start, f.scanned, f.buf = 0, 0, f.buf[:0]
		if cap(f.buf) > keptBuffer {
			f.buf = nil
		}
	}
	if f.start > 0 && len(f.buf) == cap(f.buf) {
		n := copy(f.buf, f.buf[f.start:])
		f.scanned -= f.start
		f.start, f.buf = 0, f.buf[:n]
	}
	if len(f.buf) == cap(f.buf) {
		// Never more than one byte over the limit: that shows that there is no line
		// feed within it, and leaves no room for a longer line that has one.
		size := min(max(firstBuffer, 2*cap(f.buf)), f.max+1)
		f.buf = append(make([]byte, 0, size), f.buf...)
	}
	return f.buf[len(f.buf):cap(f.buf)]
}

// filled says that n bytes were read into what space returned.
func (f *framer) filled(n int) { f.buf = f.buf[:len(f.buf)+n] }

// line returns the next line without its line feed; it is valid until space is
// called. ok is false when there is none yet. errOverlong says that there will
// never be one again.
func (f *framer) line() (line []byte, ok bool, err error) {
	i := bytes.IndexByte(f.buf[f.scanned:], '\n')
	if i < 0 {
		f.scanned = len(f.buf)
		if len(f.buf)-f.start > f.max {
			return nil, false, errOverlong
		}
		return nil, false, nil
	}
	end := f.scanned + i
	line = f.buf[f.start:end:end]
	f.start, f.scanned = end+1, end+1
	return line, true, nil
}

// rest returns what came after the last line feed, and leaves it there.
func (f *framer) rest() []byte { return f.buf[f.start:] }

// takeRest returns what came after the last line feed as a line of its own. It
// is valid until space is called.
func (f *framer) takeRest() []byte {
	line := f.buf[f.start:]
	f.start, f.scanned = len(f.buf), len(f.buf)
	return line
}
