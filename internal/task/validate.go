package task

import (
	"fmt"
	"time"
	"unicode/utf8"
)

// Bounds that are part of the contract. What an operator may set is an option
// of the dispatcher instead.
const (
	MaxFunctionLen   = 128
	MaxIDLen         = 128
	MaxMetadataItems = 64
	MaxMetadataBytes = 16 << 10
	MinTimeout       = time.Millisecond
	MaxMaxAttempts   = 100
	MaxWorkerFuncs   = 256
	MaxSlots         = 65536
)

// InvalidError says which field of a request is wrong and why.
type InvalidError struct {
	// Field is the field's name as in the contract, e.g. "task_id".
	Field string
	// Problem says what was wrong, with which value, and what would be right.
	Problem string
}

func (e *InvalidError) Error() string { return e.Field + ": " + e.Problem }

// CheckFunction returns an *InvalidError unless name is [A-Za-z0-9._/-]{1,128}.
func CheckFunction(name string) error {
	return checkName("function", name, MaxFunctionLen, "._/-")
}

// CheckID returns an *InvalidError unless id is [A-Za-z0-9._:-]{1,128}.
func CheckID(id string) error { return checkName("task_id", id, MaxIDLen, "._:-") }

// CheckWorkerID returns an *InvalidError unless id is [A-Za-z0-9._:@-]{1,128}.
func CheckWorkerID(id string) error { return checkName("worker_id", id, MaxIDLen, "._:@-") }

func checkName(field, s string, limit int, punctuation string) error {
	if s == "" {
		return &InvalidError{field, "is empty; give 1 to " + fmt.Sprint(limit) + " characters"}
	}
	if len(s) > limit {
		return &InvalidError{field, fmt.Sprintf("is %d characters long (%q…); at most %d are allowed", len(s), s[:32], limit)}
	}
	for i := range len(s) {
		if !nameByte(s[i], punctuation) {
			return &InvalidError{field, fmt.Sprintf("%q has %q at position %d; allowed are letters, digits and %s", s, s[i:i+1], i, punctuation)}
		}
	}
	return nil
}

func nameByte(c byte, punctuation string) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	for i := range len(punctuation) {
		if c == punctuation[i] {
			return true
		}
	}
	return false
}

// CheckMetadata returns an *InvalidError for field unless m has at most 64
// entries and 16 KiB, with keys that are not empty and text that is UTF-8.
func CheckMetadata(field string, m map[string]string) error {
	if len(m) > MaxMetadataItems {
		return &InvalidError{field, fmt.Sprintf("has %d entries; at most %d are allowed", len(m), MaxMetadataItems)}
	}
	size := 0
	for k, v := range m {
		if k == "" {
			return &InvalidError{field, "has an entry with an empty key"}
		}
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return &InvalidError{field, fmt.Sprintf("the entry %q is not UTF-8", k)}
		}
		size += len(k) + len(v)
	}
	if size > MaxMetadataBytes {
		return &InvalidError{field, fmt.Sprintf("has %d bytes; at most %d are allowed", size, MaxMetadataBytes)}
	}
	return nil
}
