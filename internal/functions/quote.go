package functions

import (
	"errors"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxQuoted is where Python cuts the quoted item in its message, in characters.
const maxQuoted = 200

func invalidLiteral(item string) error {
	return errors.New("invalid literal for int() with base 10: " + quote(item))
}

// quote writes s as Python's repr() does, at most maxQuoted characters of it: in
// single quotes (in double quotes if it holds single ones and no double ones),
// with what can't be printed escaped. The result is always UTF-8 on one line.
func quote(s string) string {
	mark := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		mark = '"'
	}
	out := []byte{mark}
	n := 1
	for i := 0; i < len(s) && n < maxQuoted; {
		r, size := utf8.DecodeRuneInString(s[i:])
		before := len(out)
		switch {
		case r == utf8.RuneError && size == 1:
			out = appendEscape(out, 'x', rune(s[i]), 2)
		case r == '\\' || r == rune(mark):
			out = append(out, '\\', byte(r))
		case unicode.IsPrint(r):
			out = utf8.AppendRune(out, r)
		default:
			out = appendUnprintable(out, r)
		}
		i += size
		n += utf8.RuneCount(out[before:])
	}
	out = append(out, mark)
	if n++; n > maxQuoted {
		out = cutRunes(out, maxQuoted)
	}
	return string(out)
}

func appendUnprintable(out []byte, r rune) []byte {
	switch {
	case r == '\n':
		return append(out, `\n`...)
	case r == '\r':
		return append(out, `\r`...)
	case r == '\t':
		return append(out, `\t`...)
	case r < 0x100:
		return appendEscape(out, 'x', r, 2)
	case r < 0x10000:
		return appendEscape(out, 'u', r, 4)
	}
	return appendEscape(out, 'U', r, 8)
}

func appendEscape(out []byte, kind byte, r rune, width int) []byte {
	out = append(out, '\\', kind)
	hex := strconv.FormatInt(int64(r), 16)
	return append(append(out, strings.Repeat("0", width-len(hex))...), hex...)
}

func cutRunes(b []byte, n int) []byte {
	for i := range string(b) {
		if n == 0 {
			return b[:i]
		}
		n--
	}
	return b
}
