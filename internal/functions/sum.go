package functions

import (
	"context"
	"math/big"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"reparto/worker"
)

// Sum adds the integers in the payload, decimal and separated by commas, and
// gives their sum in decimal. There is no limit on their size.
//
// It takes what Python's int() takes, because the programs it replaces were
// written in Python: white space around each integer, a sign, single
// underscores between digits, digits of any script. Its error is Python's too,
// about the first item that is no integer:
//
//	invalid literal for int() with base 10: 'abc'
func Sum(ctx context.Context, t worker.Task) ([]byte, error) {
	var (
		small int64 // the sum of what is not in large
		large *big.Int
	)
	for rest, more := string(t.Payload), true; more; {
		var item string
		item, rest, more = strings.Cut(rest, ",")
		item = strings.TrimFunc(item, isSpace)
		if n, ok := parseSmall(item); ok {
			if small < -smallLimit || small > smallLimit {
				large, small = addTo(large, big.NewInt(small)), 0
			}
			small += n
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		n, ok := parseInt(item)
		if !ok {
			return nil, invalidLiteral(item)
		}
		large = addTo(large, n)
	}
	if large == nil {
		return strconv.AppendInt(nil, small, 10), nil
	}
	return large.Add(large, big.NewInt(small)).Append(nil, 10), nil
}

// Integers returns the integers that Sum would add, for showing them to people.
func Integers(payload []byte) ([]*big.Int, error) {
	var all []*big.Int
	for item := range strings.SplitSeq(string(payload), ",") {
		item = strings.TrimFunc(item, isSpace)
		n, ok := parseInt(item)
		if !ok {
			return nil, invalidLiteral(item)
		}
		all = append(all, n)
	}
	return all, nil
}

func addTo(sum, n *big.Int) *big.Int {
	if sum == nil {
		return n
	}
	return sum.Add(sum, n)
}

// smallDigits is how many digits always fit an int64 with room for one
// addition below smallLimit.
const (
	smallDigits = 18
	smallLimit  = 1 << 62
)

// parseSmall reads the integers that nearly everybody sends: ASCII digits with
// or without a minus, few enough for an int64.
func parseSmall(s string) (n int64, ok bool) {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || len(digits) > smallDigits {
		return 0, false
	}
	for i := range len(digits) {
		c := digits[i] - '0'
		if c > 9 {
			return 0, false
		}
		n = n*10 + int64(c)
	}
	if len(digits) < len(s) {
		n = -n
	}
	return n, true
}

// parseInt reads an integer of any size as Python's int() does, white space
// around it apart.
func parseInt(s string) (*big.Int, bool) {
	negative := strings.HasPrefix(s, "-")
	if negative || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	digits := make([]byte, 0, len(s))
	last := '_' // so that a leading underscore is a second one
	for _, r := range s {
		switch d, ok := digitValue(r); {
		case ok:
			digits = append(digits, '0'+d)
		case r != '_' || last == '_':
			return nil, false
		}
		last = r
	}
	if last == '_' {
		return nil, false // ends with one, or is empty
	}
	n := fromDigits(string(digits), map[int]*big.Int{})
	if negative {
		n.Neg(n)
	}
	return n, true
}

// digitValue is the value of a decimal digit of any script. In Unicode such
// digits come in runs of ten, in order from zero.
func digitValue(r rune) (byte, bool) {
	if r < utf8.RuneSelf {
		return byte(r - '0'), '0' <= r && r <= '9'
	}
	for _, run := range unicode.Nd.R16 {
		if rune(run.Lo) <= r && r <= rune(run.Hi) {
			return byte((r - rune(run.Lo)) % 10), true
		}
	}
	for _, run := range unicode.Nd.R32 {
		if rune(run.Lo) <= r && r <= rune(run.Hi) {
			return byte((r - rune(run.Lo)) % 10), true
		}
	}
	return 0, false
}

// splitDigits is from where on it pays to parse by halves.
const splitDigits = 2048

// fromDigits reads ASCII digits. big.Int's own parser takes time quadratic in
// their number, half a minute for 4 MiB; reading halves and putting them
// together by a multiplication takes a second. powers keeps the powers of ten
// that were needed, by exponent.
func fromDigits(s string, powers map[int]*big.Int) *big.Int {
	if len(s) <= splitDigits {
		n, _ := new(big.Int).SetString(s, 10)
		return n
	}
	// The lower part is a power of two long, so that few powers are needed.
	low := splitDigits / 2
	for low*2 < len(s) {
		low *= 2
	}
	n := fromDigits(s[:len(s)-low], powers)
	n.Mul(n, powerOfTen(low, powers))
	return n.Add(n, fromDigits(s[len(s)-low:], powers))
}

func powerOfTen(exponent int, powers map[int]*big.Int) *big.Int {
	if p := powers[exponent]; p != nil {
		return p
	}
	var p *big.Int
	if exponent <= splitDigits/2 {
		p = new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(exponent)), nil)
	} else {
		half := powerOfTen(exponent/2, powers)
		p = new(big.Int).Mul(half, half)
	}
	powers[exponent] = p
	return p
}

// isSpace is what Python's strip() takes for white space: unicode.IsSpace and
// the four ASCII separators.
func isSpace(r rune) bool { return unicode.IsSpace(r) || 0x1c <= r && r <= 0x1f }
