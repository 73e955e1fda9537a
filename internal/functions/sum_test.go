package functions

import (
	"context"
	"errors"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"reparto/worker"
)

func sum(t *testing.T, payload string) (string, error) {
	t.Helper()
	out, err := Sum(t.Context(), worker.Task{Payload: []byte(payload)})
	return string(out), err
}

func TestSumAddsWhatPythonTakesForIntegers(t *testing.T) {
	for payload, want := range map[string]string{
		"1,2,3,4,5":            "15",
		"7":                    "7",
		"-5,3":                 "-2",
		" 1 ,\t2\n,\u00a03\r":  "6",
		"\x1c1\x1f,\u20282":    "3",
		"+1,-0,+0":             "1",
		"1_000,2_0_0":          "1200",
		"007,-08":              "-1",
		"\u0661\u0662,\uff11":  "13", // Arabic and full-width digits
		"\U0001d7d9\U0001d7ea": "18", // double-struck 1, sans-serif 8
		"999999999999999999,1": "1000000000000000000",
		"9223372036854775807,1,-9223372036854775808":          "0",
		"123456789012345678901234567890,-1,1_000":             "123456789012345678901234568889",
		strings.Repeat("999999999999999999,", 40) + "1":       "39999999999999999961",
		strings.Repeat("-999999999999999999,", 40) + "-1":     "-39999999999999999961",
		"1" + strings.Repeat("0", 5000) + ",-1,1,-1" + ",+1,": "",
	} {
		got, err := sum(t, payload)
		if want == "" {
			if err == nil || !strings.HasSuffix(err.Error(), ": ''") {
				t.Errorf("a trailing comma: got %v, want the empty item refused", err)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("sum of %.40q is %q, %v; want %q", payload, got, err, want)
		}
	}
}

// The right column was printed by Python 3.11.
func TestSumRefusesWithPythonsWords(t *testing.T) {
	for payload, want := range map[string]string{
		"abc":          `'abc'`,
		"1, abc ,x":    `'abc'`,
		"":             `''`,
		"1,,2":         `''`,
		"1|2":          `'1|2'`,
		"1__0":         `'1__0'`,
		"_1":           `'_1'`,
		"1_":           `'1_'`,
		"+ 1":          `'+ 1'`,
		"--1":          `'--1'`,
		"-":            `'-'`,
		"+_1":          `'+_1'`,
		"1.5":          `'1.5'`,
		"1:":           `'1:'`, // the character after 9
		"/1":           `'/1'`, // and the one before 0
		"0x10":         `'0x10'`,
		"1e3":          `'1e3'`,
		"²":            `'²'`,
		"1\n2":         `'1\n2'`,
		"a\tb\rc":      `'a\tb\rc'`,
		"1\x7f":        `'1\x7f'`,
		"\x00":         `'\x00'`,
		`\`:            `'\\'`,
		"it's":         `"it's"`,
		`a"b'c`:        `'a"b\'c'`,
		"é":            `'é'`,
		"\u200b1":      `'\u200b1'`,
		"\U000e0001":   `'\U000e0001'`,
		"1\xff":        `'1\xff'`,
		"1234567890_x": `'1234567890_x'`,

		strings.Repeat("x", 300): "'" + strings.Repeat("x", 199),
		strings.Repeat("x", 199): "'" + strings.Repeat("x", 199),
		strings.Repeat("x", 198): "'" + strings.Repeat("x", 198) + "'",
		strings.Repeat("é", 300): "'" + strings.Repeat("é", 199),
	} {
		got, err := sum(t, payload)
		if err == nil || err.Error() != "invalid literal for int() with base 10: "+want {
			t.Errorf("sum of %.40q: got %q, %v; want it refused with %s", payload, got, err, want)
		}
		if err != nil && !utf8.ValidString(err.Error()) {
			t.Errorf("sum of %q: the message %q is not UTF-8", payload, err)
		}
	}
}

func TestSumOfHugeIntegersIsQuick(t *testing.T) {
	start := time.Now()
	digits := strings.Repeat("9", 1<<20)
	got, err := sum(t, digits+",1")
	if want := "1" + strings.Repeat("0", 1<<20); err != nil || got != want {
		t.Fatalf("wrong sum of %d nines and 1 (%d digits), error %v", len(digits), len(got), err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
	if got, err := sum(t, strings.Repeat("1_", 1<<19)+"x"); err == nil {
		t.Errorf("got %.20q…, want an error", got)
	}
}

func TestFromDigitsAgreesWithBig(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2047, 2048, 2049, 4095, 4096, 4097, 10_000, 33_333} {
		digits := make([]byte, n)
		for i := range digits {
			digits[i] = '0' + byte(rng.IntN(10))
		}
		want, _ := new(big.Int).SetString(string(digits), 10)
		if got := fromDigits(string(digits), map[int]*big.Int{}); got.Cmp(want) != 0 {
			t.Errorf("%d digits come out as another integer", n)
		}
	}
}

func TestSumStopsWhenItsContextEnds(t *testing.T) {
	gone := errors.New("nobody wants it")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	_, err := Sum(ctx, worker.Task{Payload: []byte("1,12345678901234567890")})
	if !errors.Is(err, gone) {
		t.Errorf("got %v, want the context's cause", err)
	}
}

// digitValue counts on this.
func TestUnicodeDigitsComeInRunsOfTen(t *testing.T) {
	check := func(lo, hi, stride rune) {
		if (hi-lo+1)%10 != 0 || stride != 1 {
			t.Errorf("the run %U to %U, stride %d, is not one of tens", lo, hi, stride)
		}
	}
	for _, r := range unicode.Nd.R16 {
		check(rune(r.Lo), rune(r.Hi), rune(r.Stride))
	}
	for _, r := range unicode.Nd.R32 {
		check(rune(r.Lo), rune(r.Hi), rune(r.Stride))
	}
}

func TestIntegersAreWhatSumAdds(t *testing.T) {
	got, err := Integers([]byte(" 1,+2,1_000,123456789012345678901"))
	if err != nil || len(got) != 4 || got[2].String() != "1000" || got[3].String() != "123456789012345678901" {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := Integers([]byte("1,x")); err == nil || !strings.HasSuffix(err.Error(), "'x'") {
		t.Errorf("got %v, want x refused", err)
	}
}

func FuzzSum(f *testing.F) {
	for _, s := range []string{"1,2,3", " -1_0 ,+2", "", "1,,", "abc", "\u0661", "99999999999999999999", "it's"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		out, err := Sum(t.Context(), worker.Task{Payload: []byte(payload)})
		numbers, err2 := Integers([]byte(payload))
		if (err == nil) != (err2 == nil) || err != nil && err.Error() != err2.Error() {
			t.Fatalf("Sum says %v, Integers says %v", err, err2)
		}
		if err != nil {
			if m := err.Error(); !utf8.ValidString(m) || strings.ContainsAny(m, "\r\n") || len(m) > 40+4*maxQuoted {
				t.Fatalf("message %q is not fit for a line", m)
			}
			return
		}
		total := new(big.Int)
		for _, n := range numbers {
			total.Add(total, n)
		}
		if total.String() != string(out) {
			t.Fatalf("sum is %s, want %s", out, total)
		}
	})
}

func BenchmarkSum(b *testing.B) {
	task := worker.Task{Payload: []byte("1,2,3,4,5")}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Sum(b.Context(), task); err != nil {
			b.Fatal(err)
		}
	}
}
