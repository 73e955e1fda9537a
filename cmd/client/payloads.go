package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// maxLine is how long a line of standard input may be, without its line feed. A
// balancer may take less, and then says so.
const maxLine = 4 << 20

// payloads gives out the payloads of tasks, one after the other.
type payloads struct {
	given  []string
	lines  *bufio.Reader // nil when they are given
	number int
	single bool // there is exactly one
}

func source(given []string, fromStdin bool, stdin io.Reader) *payloads {
	if fromStdin {
		return &payloads{lines: bufio.NewReaderSize(stdin, 64<<10)}
	}
	return &payloads{given: given, single: len(given) == 1}
}

// next returns the next payload, which is never nil, or nil at the end. A
// problem says what is wrong with this one alone; err ends it all.
func (p *payloads) next() (payload []byte, problem, err error) {
	p.number++
	if p.lines == nil {
		if p.number > len(p.given) {
			return nil, nil, nil
		}
		return []byte(p.given[p.number-1]), nil, nil
	}
	return p.line()
}

// ready reports whether the next payload is there without waiting for input.
func (p *payloads) ready() bool { return p.lines == nil || p.lines.Buffered() > 0 }

// line reads a line of any length, but keeps no more than maxLine of it.
func (p *payloads) line() (line []byte, problem, err error) {
	line, size := []byte{}, 0
	for {
		part, err := p.lines.ReadSlice('\n')
		size += len(part)
		if size <= maxLine+2 { // \r\n do not count
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && size == 0:
			return nil, nil, nil
		case err != nil && !errors.Is(err, io.EOF):
			return nil, nil, err
		}
		break
	}
	line = bytes.TrimSuffix(line, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if size > maxLine+2 || len(line) > maxLine {
		return nil, &errInput{fmt.Sprintf("line %d has about %d bytes; at most %d are allowed", p.number, size, maxLine)}, nil
	}
	return line, nil, nil
}
