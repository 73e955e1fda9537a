package task

import (
	"bytes"
	"fmt"
	"maps"
	"testing"
)

func TestContentIsWhatMakesTwoTasksTheSame(t *testing.T) {
	base := Task{ID: "1", Function: "f", Payload: []byte("p"), Metadata: map[string]string{"a": "1", "b": "2"}}
	same := base
	same.ID, same.MaxAttempts, same.Metadata = "2", 7, map[string]string{"b": "2", "a": "1"}
	if base.Content() != same.Content() {
		t.Error("id, attempts and the order of metadata made a difference")
	}
	for name, other := range map[string]Task{
		"function":           {Function: "g", Payload: base.Payload, Metadata: base.Metadata},
		"payload":            {Function: "f", Payload: []byte("q"), Metadata: base.Metadata},
		"metadata":           {Function: "f", Payload: base.Payload, Metadata: map[string]string{"a": "1", "b": "3"}},
		"no metadata":        {Function: "f", Payload: base.Payload},
		"another boundary":   {Function: "fp", Metadata: base.Metadata},
		"key and value swap": {Function: "f", Payload: base.Payload, Metadata: map[string]string{"a1": "", "b": "2"}},
	} {
		if base.Content() == other.Content() {
			t.Errorf("%s made no difference", name)
		}
	}
}

// A task that its client repeats under its id is the same, and each time in another
// trace.
func TestATraceIsNoContent(t *testing.T) {
	plain := Task{Function: "f", Payload: []byte("p"), Metadata: map[string]string{"a": "1"}}
	traced := plain
	traced.Metadata = map[string]string{"a": "1", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "x=y"}
	if plain.Content() != traced.Content() {
		t.Error("a trace context made a difference")
	}
	bare, only := Task{Function: "f"}, Task{Function: "f", Metadata: map[string]string{"traceparent": "x"}}
	if bare.Content() != only.Content() {
		t.Error("a trace context alone made a difference")
	}
}

func TestBytesCountWhatATaskHolds(t *testing.T) {
	small, large := Task{}, Task{Payload: make([]byte, 1000), Metadata: map[string]string{"key": "value"}}
	if got := large.Bytes() - small.Bytes(); got != 1008 {
		t.Errorf("1000 bytes of payload and 8 of metadata count as %d", got)
	}
	none, some := Outcome{}, Outcome{Result: make([]byte, 10), Failure: &Failure{Reason: "R", Message: "mm"}}
	if got := some.Bytes() - none.Bytes(); got != 13 {
		t.Errorf("10 bytes of result and 3 of failure count as %d", got)
	}
}

// FuzzContent: two tasks have the same fingerprint exactly when function,
// payload and metadata are the same, wherever their bytes are cut.
func FuzzContent(f *testing.F) {
	f.Add("f", []byte("p"), "k", "v", "f", []byte("p"), "k", "v")
	f.Add("f", []byte("p"), "k", "v", "fp", []byte(""), "k", "v")
	f.Add("f", []byte("pk"), "", "v", "f", []byte("p"), "k", "v")
	f.Add("f", []byte{0, 0, 0, 0, 0, 0, 0, 1}, "k", "", "f", []byte{}, "", "k")
	f.Fuzz(func(t *testing.T, f1 string, p1 []byte, k1, v1, f2 string, p2 []byte, k2, v2 string) {
		one := Task{ID: "1", Function: f1, Payload: p1, Metadata: map[string]string{k1: v1, "x": "y"}}
		two := Task{ID: "2", Function: f2, Payload: p2, Metadata: map[string]string{"x": "y", k2: v2}, MaxAttempts: 9}
		if k1 == TraceParent || k1 == TraceState || k2 == TraceParent || k2 == TraceState {
			t.Skip("a trace is no content")
		}
		same := f1 == f2 && bytes.Equal(p1, p2) && maps.Equal(one.Metadata, two.Metadata)
		if got := one.Content() == two.Content(); got != same {
			t.Errorf("%+v and %+v: same content is %v", one, two, got)
		}
	})
}

// The order in which a map gives its entries makes no difference, and computing
// a fingerprint changes nothing.
func TestContentIsStable(t *testing.T) {
	k := Task{Function: "f", Payload: []byte("p"), Metadata: map[string]string{}}
	for i := range 50 {
		k.Metadata[fmt.Sprint("key", i)] = fmt.Sprint(i)
	}
	want := k.Content()
	for range 50 {
		if other := (&Task{Function: "f", Payload: []byte("p"), Metadata: maps.Clone(k.Metadata)}); other.Content() != want {
			t.Fatal("the same content has two fingerprints")
		}
	}
	if none, empty := (&Task{Function: "f"}), (&Task{Function: "f", Payload: []byte{}, Metadata: map[string]string{}}); none.Content() != empty.Content() {
		t.Error("nothing and empty differ")
	}
}
