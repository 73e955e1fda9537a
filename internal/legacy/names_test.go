package legacy

import (
	"strings"
	"testing"

	"reparto/internal/task"
)

func TestIDsAreValidForTheBalancer(t *testing.T) {
	for _, own := range []string{"", "task_0000cafe", "ñ \x00|@", strings.Repeat("x", 1000)} {
		id := taskID("0123abcd", 1<<63, 1<<63, []byte(own))
		if err := task.CheckID(id); err != nil {
			t.Error(err)
		}
		for _, remote := range []string{"127.0.0.1:40112", "[fe80::1%eth0]:40112", strings.Repeat("r", 200)} {
			if err := task.CheckWorkerID(workerID("0123abcd", 1<<63, own, remote)); err != nil {
				t.Error(err)
			}
		}
	}
	if got := taskID("0123abcd", 7, 3, []byte("task_0000cafe")); got != "text.0123abcd.7.3.task_0000cafe" {
		t.Error(got)
	}
	if got := workerID("0123abcd", 7, "worker_1", "[::1]:40112"); got != "worker_1@::1:40112.0123abcd.7" {
		t.Error(got)
	}
	if a, b := runName(), runName(); a == b || len(a) != 8 {
		t.Error(a, b)
	}
}

func TestAClientsOwnIDIsInTheBalancers(t *testing.T) {
	for _, own := range []string{"", "task_0000cafe", "a.b.c", "....", strings.Repeat("x", 90)} {
		if got, ok := ownID(taskID("0123abcd", 7, 3, []byte(own))); got != own || !ok {
			t.Errorf("%q: got %q, %t", own, got, ok)
		}
	}
	for _, own := range []string{"täsk", "a|b", strings.Repeat(".", maxID), strings.Repeat("x", 1000)} {
		if got, _ := ownID(taskID("0123abcd", 7, 3, []byte(own))); got == own {
			t.Errorf("%q is not in there", own)
		}
	}
	for _, id := range []string{"", "text", "text.", "text.0123abcd.7.3", "other.0123abcd.7.3.a"} {
		if got, ok := ownID(id); ok {
			t.Errorf("%q: got %q, of an id that no text client's task has", id, got)
		}
	}
}

func TestLoggable(t *testing.T) {
	for in, want := range map[string]string{
		"plain ñ": "plain ñ", "a\x1b[2Jb": `a\x1b[2Jb`, "\r\n\t\x00": `\r\n\t\x00`, "\xff": `\xff`, "\u202e": `\u202e`,
		strings.Repeat("x", 200): strings.Repeat("x", 200), strings.Repeat("x", 201): strings.Repeat("x", 200) + "…",
		strings.Repeat("x", 199) + "ñ": strings.Repeat("x", 199) + "…",
	} {
		if got := loggable(in); got != want {
			t.Errorf("%q: got %q", in, got)
		}
		if got := loggable([]byte(in)); got != want {
			t.Errorf("bytes %q: got %q", in, got)
		}
	}
}
