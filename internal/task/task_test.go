package task

import "testing"

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
