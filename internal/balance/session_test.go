package balance

import (
	"errors"
	"fmt"
	"testing"

	"reparto/internal/task"
)

func TestRegistrationsAtTheirEdges(t *testing.T) {
	names := func(n int) []string {
		all := make([]string, n)
		for i := range all {
			all[i] = fmt.Sprint("f", i)
		}
		return all
	}
	with := func(change func(*Registration)) Registration {
		r := Registration{WorkerID: "w", Functions: []string{"f"}, Slots: 2}
		change(&r)
		return r
	}
	for name, c := range map[string]struct {
		r     Registration
		field string // "" when it is good
	}{
		"good":               {with(func(r *Registration) {}), ""},
		"no worker id":       {with(func(r *Registration) { r.WorkerID = "" }), "worker_id"},
		"a bad worker id":    {with(func(r *Registration) { r.WorkerID = "w/1" }), "worker_id"},
		"no function":        {with(func(r *Registration) { r.Functions = nil }), "functions"},
		"256 functions":      {with(func(r *Registration) { r.Functions = names(256) }), ""},
		"257 functions":      {with(func(r *Registration) { r.Functions = names(257) }), "functions"},
		"a bad function":     {with(func(r *Registration) { r.Functions = []string{"f", "a b"} }), "functions"},
		"a function twice":   {with(func(r *Registration) { r.Functions = []string{"f", "g", "f"} }), "functions"},
		"no slot":            {with(func(r *Registration) { r.Slots = 0 }), "slots"},
		"slots below none":   {with(func(r *Registration) { r.Slots = -1 }), "slots"},
		"65536 slots":        {with(func(r *Registration) { r.Slots = 65536 }), ""},
		"65537 slots":        {with(func(r *Registration) { r.Slots = 65537 }), "slots"},
		"as many as slots":   {with(func(r *Registration) { r.Running = make([]Claim, 2) }), ""},
		"more than slots":    {with(func(r *Registration) { r.Running = make([]Claim, 3) }), "running"},
		"a label not UTF-8":  {with(func(r *Registration) { r.Labels = map[string]string{"k": "\xff"} }), "labels"},
		"labels, as allowed": {with(func(r *Registration) { r.Labels = map[string]string{"zone": "a"} }), ""},
	} {
		err := c.r.Check()
		if c.field == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if bad, ok := errors.AsType[*task.InvalidError](err); !ok || bad.Field != c.field {
			t.Errorf("%s: got %v, want the field %s named", name, err, c.field)
		}
	}
}

// A function is remembered while somebody offers it or waits for it, and no
// longer.
func TestFunctionsAreForgotten(t *testing.T) {
	s := New(Options{})
	known := func(want int, when string) {
		t.Helper()
		if got := len(s.functions); got != want {
			t.Errorf("%s: %d functions are known, want %d", when, got, want)
		}
	}
	ref, _ := s.Submit(start, newTask("1", 0))
	known(1, "one waits")
	ses := s.Join(start, Registration{WorkerID: "w", Functions: []string{"f", "g"}, Slots: 1})
	known(2, "two are offered")
	s.Leave(start, ses)
	known(1, "the worker has left")
	s.Cancel(start, ref, task.CancelClientGone)
	known(0, "nobody waits")
	ses = s.Join(start, Registration{WorkerID: "w", Functions: []string{"f"}, Slots: 1})
	s.Join(start, Registration{WorkerID: "w", Functions: []string{"g"}, Slots: 1})
	known(1, "the worker came again with another function")
	s.Leave(start, ses) // that has been replaced
	known(1, "a session left that had left")
}

// Progress is shown for what is held, and for nothing else.
func TestProgressIsShown(t *testing.T) {
	s := New(Options{})
	ses := s.Join(start, Registration{WorkerID: "w", Functions: []string{"f"}, Slots: 1})
	submitError(s, newTask("t", 0))
	token := s.Take()[0].Token
	s.Progress(ses, token, Progress{40, "half-way, nearly"})
	info := s.Sessions(start, "", "", 1, 1)[0]
	if len(info.Running) != 1 || info.Running[0].Progress != (Progress{40, "half-way, nearly"}) {
		t.Errorf("%+v", info.Running)
	}
	s.Result(start, ses, &Result{TaskID: "t", Attempt: 1, Token: token})
	submitError(s, newTask("t2", 0))
	if info = s.Sessions(start, "", "", 1, 1)[0]; info.Running[0].Progress != (Progress{}) {
		t.Errorf("the next task in the slot begins at %+v", info.Running[0].Progress)
	}
}
