package legacy

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxID = 128 // the contract's bound on task and worker ids
	// maxTextIDMetadata bounds a task id that travels with its task as metadata,
	// well below the contract's 16 KiB. A longer one stays here, and a text
	// worker sees the balancer's id in its place.
	maxTextIDMetadata = 4 << 10
	// loggedLine is how many bytes of a peer's text a log line shows.
	loggedLine = 200
)

// runName returns eight random hexadecimal digits, which keep the ids of this
// run of the adapter apart from those of any other.
func runName() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// taskID names a text client's task for the balancer, unique across adapters
// and their runs: `text.<run>.<connection>.<number>.<the client's own>`.
func taskID(run string, conn, number uint64, own []byte) string {
	b := make([]byte, 0, 64)
	b = append(b, "text."...)
	b = append(b, run...)
	b = append(b, '.')
	b = strconv.AppendUint(b, conn, 10)
	b = append(b, '.')
	b = strconv.AppendUint(b, number, 10)
	b = append(b, '.')
	b = appendClean(b, own, "._:-", maxID-len(b))
	return string(b)
}

// ownID returns the client's own part of an id from taskID. Where that could not hold
// the client's own id as it was, the two differ.
func ownID(id string) (own string, ok bool) {
	own, ok = strings.CutPrefix(id, "text.")
	for range 3 {
		if ok {
			_, own, ok = strings.Cut(own, ".")
		}
	}
	return own, ok
}

// workerID names a text worker for the balancer, unique across adapters and
// their runs: `<its own>@<remote>.<run>.<connection>`.
func workerID(run string, conn uint64, own, remote string) string {
	tail := make([]byte, 0, 96)
	tail = append(tail, '@')
	tail = appendClean(tail, []byte(strings.NewReplacer("[", "", "]", "").Replace(remote)), "._:-", 64)
	tail = append(tail, '.')
	tail = append(tail, run...)
	tail = append(tail, '.')
	tail = strconv.AppendUint(tail, conn, 10)
	b := appendClean(make([]byte, 0, maxID), []byte(own), "._:-", maxID-len(tail))
	return string(append(b, tail...))
}

// appendClean appends at most limit bytes of s, with '_' for each that is
// neither a letter, nor a digit, nor in punctuation.
func appendClean(b, s []byte, punctuation string, limit int) []byte {
	for _, c := range s[:min(len(s), limit)] {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte(punctuation, c) >= 0:
		default:
			c = '_'
		}
		b = append(b, c)
	}
	return b
}

// loggable returns what a peer sent as it may be shown to a person: cut to 200
// bytes, with escapes for what is not printable, so that nobody's terminal is
// driven by a stranger.
func loggable[T []byte | string](text T) string {
	var b strings.Builder
	for rest := text; len(rest) > 0; {
		r, size := utf8.DecodeRuneInString(string(rest[:min(len(rest), utf8.UTFMax)]))
		piece := string(rest[:size])
		switch {
		case r == utf8.RuneError && size == 1:
			piece = `\x` + hex.EncodeToString([]byte{rest[0]})
		case !unicode.IsPrint(r):
			piece = strings.Trim(strconv.QuoteRuneToASCII(r), "'")
		}
		if b.Len()+len(piece) > loggedLine {
			b.WriteString("…")
			break
		}
		b.WriteString(piece)
		rest = rest[size:]
	}
	return b.String()
}
