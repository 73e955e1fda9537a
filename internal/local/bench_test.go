package local

import (
	"testing"
	"time"

	"reparto/internal/dispatch"
	"reparto/internal/legacy"
)

// BenchmarkText is the way of a text client's task to a text worker in lock-step and
// back, all in one process. The two allocate nothing.
func BenchmarkText(b *testing.B) {
	h := open(b, dispatch.Options{}, legacy.Options{})
	w, c := h.worker("w1"), h.client()
	_ = w.SetDeadline(time.Time{})
	_ = c.SetDeadline(time.Time{})
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			line, err := w.in.ReadSlice('\n')
			if err != nil {
				return
			}
			copy(line, "TASK_RESULT") // as long as ASSIGN_TASK
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	}()
	task := []byte("TASK|task_0123abcd|1,2,3\n")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(task); err != nil {
			b.Fatal(err)
		}
		if line, err := c.in.ReadSlice('\n'); err != nil || string(line) != "RESULT|task_0123abcd|1,2,3\n" {
			b.Fatalf("got %q, %v", line, err)
		}
	}
	_ = w.Close()
	<-gone
}
