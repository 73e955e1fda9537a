package legacy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"reparto/client"
	pb "reparto/gen/reparto/v1"
	"reparto/worker"
)

// submit submits by gRPC, as package client does it.
func (h *house) submit(ctx context.Context, payload string, metadata map[string]string) (string, error) {
	c := client.New(h.conn)
	defer func() { _ = c.Close() }()
	out, err := c.Submit(ctx, client.Task{Function: "sum", Payload: []byte(payload), Metadata: metadata})
	return string(out.Result), err
}

// listed returns the workers that the balancer has.
func (h *house) listed() []*pb.Worker {
	r, err := pb.NewAdminServiceClient(h.conn).ListWorkers(h.t.Context(), &pb.ListWorkersRequest{})
	if err != nil {
		h.t.Fatal(err)
	}
	return r.GetWorkers()
}

func TestTextToText(t *testing.T) {
	h := open(t, Options{})
	h.worker("worker_1").obey(textSum)
	c := h.client()
	for _, x := range [][2]string{
		{"1,2,3,4,5", "15"}, {"1|2", "ERROR: invalid literal for int() with base 10: '1|2'"},
		{"", "ERROR: invalid literal for int() with base 10: ''"}, {" 7 , 8", "15"},
	} {
		c.send("TASK|task_0000cafe|" + x[0] + "\n")
		c.want("RESULT|task_0000cafe|" + x[1] + "\n")
	}
}

func TestWorkerSeesTheClientsOwnID(t *testing.T) {
	h := open(t, Options{})
	w, c := h.worker("worker_1"), h.client()
	c.send("TASK|täsk 1|a|b\n")
	w.want("ASSIGN_TASK|täsk 1|a|b\n")
	w.send("TASK_RESULT|täsk 1|x|y\n")
	c.want("RESULT|täsk 1|x|y\n")
}

func TestWorkerVeryLongID(t *testing.T) {
	h := open(t, Options{})
	w, c := h.worker("worker_1"), h.client()
	id := strings.Repeat("i", maxTextIDMetadata+1)
	c.send("TASK|" + id + "|1\n")
	m, err := parse([]byte(w.recv()))
	if err != nil || !strings.HasPrefix(string(m.id), "text.") || len(m.id) > maxID {
		t.Fatalf("assigned as %q, %v", m.id, err)
	}
	w.send("TASK_RESULT|" + string(m.id) + "|1\n")
	var got strings.Builder
	for !strings.HasSuffix(got.String(), "\n") {
		got.WriteString(c.recv())
	}
	if got.String() != "RESULT|"+id+"|1\n" {
		t.Errorf("got %d bytes: %.100q", got.Len(), got.String())
	}
}

func TestWorkerGRPCClient(t *testing.T) {
	h := open(t, Options{})
	h.worker("worker_1").obey(textSum)
	if got, err := h.submit(t.Context(), "1,2,3\n", nil); got != "6" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	_, err := h.submit(t.Context(), "abc", nil)
	failed, ok := errors.AsType[*client.TaskError](err)
	if !ok || failed.Reason != "TEXT_WORKER_ERROR" || failed.Message != "invalid literal for int() with base 10: 'abc'" {
		t.Errorf("got %#v", err)
	}
	for payload, what := range map[string]string{"1\n2": "holds a line break", "\xff": "is not valid UTF-8"} {
		_, err := h.submit(t.Context(), payload, nil)
		if failed, ok := errors.AsType[*client.TaskError](err); !ok || !strings.Contains(failed.Message, "the payload "+what) {
			t.Errorf("%q: got %v", payload, err)
		}
	}
	// A text id that would break the line is not used.
	if got, err := h.submit(t.Context(), "1,2", map[string]string{metadataTextID: "x\nTASK_RESULT|"}); got != "3" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestWorkerEndsOfLine(t *testing.T) {
	h := open(t, Options{})
	for _, end := range []string{"\n", "\r\n", ""} {
		w, c := h.dial(h.a.WorkerAddr()), h.client()
		w.send("REGISTER|worker_1" + end)
		w.want("ACK|worker_1\n")
		c.send("TASK|t1|1,2\n")
		w.want("ASSIGN_TASK|t1|1,2\n")
		w.send("TASK_RESULT|t1|3" + end)
		c.want("RESULT|t1|3\n")
		_ = w.Close()
		until(t, "the worker's leaving", func() bool { return len(h.listed()) == 0 })
	}
}

func TestAssignmentIsNotGluedToAck(t *testing.T) {
	const gap = 80 * time.Millisecond
	h := open(t, Options{AckGap: gap})
	c := h.client()
	c.send("TASK|t1|1\n") // it waits for a worker
	until(t, "the task", func() bool { return h.a.Counters().Tasks == 1 })
	w := h.dial(h.a.WorkerAddr())
	began := time.Now() // before the ACK can have been sent
	w.send("REGISTER|worker_1\n")
	w.want("ACK|worker_1\n")
	w.want("ASSIGN_TASK|t1|1\n")
	if d := time.Since(began); d < gap {
		t.Errorf("the assignment came %v after REGISTER, the gap is %v", d, gap)
	}
	w.send("TASK_RESULT|t1|done\n")
	c.want("RESULT|t1|done\n")
}

func TestWorkerOneTaskAtATime(t *testing.T) {
	h := open(t, Options{})
	w, c := h.worker("worker_1"), h.client()
	c.send("TASK|t1|1\nTASK|t1|2\n")
	first := w.recv()
	w.wantSilence(50 * time.Millisecond)
	w.send("TASK_RESULT|t1|done\n")
	c.want("RESULT|t1|done\n")
	if second := w.recv(); second == first || !strings.HasPrefix(second, "ASSIGN_TASK|t1|") {
		t.Errorf("got %q after %q", second, first)
	}
	w.send("TASK_RESULT|t1|done\n")
	c.want("RESULT|t1|done\n")
}

func TestWorkersWithEqualIDs(t *testing.T) {
	h := open(t, Options{})
	w1, w2, c := h.worker("worker_1"), h.worker("worker_1"), h.client()
	until(t, "both in the rotation", func() bool { return len(h.listed()) == 2 })
	for _, w := range h.listed() {
		if w.GetLabels()["text_worker_id"] != "worker_1" || w.GetLabels()["protocol"] != "text" {
			t.Errorf("labels %v", w.GetLabels())
		}
	}
	c.send("TASK|t1|1\nTASK|t1|2\n")
	for _, w := range []*peer{w1, w2} {
		if got := w.recv(); !strings.HasPrefix(got, "ASSIGN_TASK|t1|") {
			t.Errorf("got %q", got)
		}
		w.send("TASK_RESULT|t1|x\n")
		c.want("RESULT|t1|x\n")
	}
}

func TestWorkerDiesInMidTask(t *testing.T) {
	for name, die := range map[string]func(*peer){"reset": (*peer).reset, "close": func(p *peer) { _ = p.Close() }} {
		t.Run(name, func(t *testing.T) {
			h := open(t, Options{})
			w, c := h.worker("worker_1"), h.client()
			c.send("TASK|t1|1,2\n")
			w.want("ASSIGN_TASK|t1|1,2\n")
			began := time.Now()
			die(w)
			until(t, "leaving the rotation", func() bool { return len(h.listed()) == 0 })
			h.worker("worker_2").obey(textSum)
			c.want("RESULT|t1|3\n")
			if d := time.Since(began); d > 5*time.Second {
				t.Errorf("the task moved after %v", d)
			}
			if n := h.a.Counters(); n.Abandoned != 1 || n.Answers != 1 {
				t.Errorf("counters %+v", n)
			}
		})
	}
}

func TestIdleWorkerThatVanishedLeavesTheRotation(t *testing.T) {
	h := open(t, Options{})
	w := h.worker("worker_1")
	until(t, "joining", func() bool { return len(h.listed()) == 1 })
	_ = w.Close()
	until(t, "leaving", func() bool { return len(h.listed()) == 0 && h.a.Counters().OpenWorkers == 0 })
	h.counts(func(n Counters) bool { return n.Abandoned == 0 })
}

func TestWorkerVanishesBetweenAckAndGap(t *testing.T) {
	h := open(t, Options{AckGap: time.Hour})
	w := h.worker("worker_1")
	_ = w.Close()
	until(t, "the connection's end", func() bool { return h.a.Counters().OpenWorkers == 0 })
}

func TestWorkerLastWordBeforeItLeaves(t *testing.T) {
	h := open(t, Options{})
	for range 20 {
		w, c := h.worker("worker_1"), h.client()
		c.send("TASK|t1|1\n")
		w.want("ASSIGN_TASK|t1|1\n")
		w.send("TASK_RESULT|t1|done") // no end but the end of input
		_ = w.Close()
		c.want("RESULT|t1|done\n")
		until(t, "leaving", func() bool { return h.a.Counters().OpenWorkers == 0 })
	}
	h.counts(func(n Counters) bool { return n.Answers == 20 })
}

func TestWorkerMalformedAndStrayLines(t *testing.T) {
	h := open(t, Options{})
	w, c := h.dial(h.a.WorkerAddr()), h.client()
	early := []string{"TASK_RESULT|t1|1", "hello", "REGISTER", "REGISTER|a|b", "TASK|t1|1"}
	for _, line := range early {
		w.send(line + "\n")
	}
	w.send("REGISTER|worker_1\n")
	w.want("ACK|worker_1\n")
	late := []string{"REGISTER|worker_2", "TASK|t1|1", "nonsense", "TASK_RESULT|t1"}
	for _, line := range late {
		w.send(line + "\n")
	}
	w.send("TASK_RESULT|t1|too early\n")
	until(t, "the stray", func() bool { return h.a.Counters().Stray == 1 })
	c.send("TASK|t1|1\n")
	w.want("ASSIGN_TASK|t1|1\n")
	w.send("TASK_RESULT|another|2\n")
	w.send("TASK_RESULT|t1|right\n")
	w.send("TASK_RESULT|t1|twice\n")
	c.want("RESULT|t1|right\n")
	until(t, "the strays", func() bool { return h.a.Counters().Stray == 3 })
	h.counts(func(n Counters) bool { return n.Malformed == uint64(len(early)+len(late)) && n.Registrations == 1 })
}

func TestWorkerKeepsItsSlotAfterCancel(t *testing.T) {
	h := open(t, Options{})
	w, c1, c2 := h.worker("worker_1"), h.client(), h.client()
	c1.send("TASK|t1|1\n")
	w.want("ASSIGN_TASK|t1|1\n")
	c1.reset()
	until(t, "the cancel", func() bool { return h.a.Counters().Undelivered == 1 })
	c2.send("TASK|t1|2\n")
	w.wantSilence(100 * time.Millisecond) // it can't be told, so it is busy
	w.send("TASK_RESULT|t1|late\n")
	w.want("ASSIGN_TASK|t1|2\n")
	w.send("TASK_RESULT|t1|right\n")
	c2.want("RESULT|t1|right\n")
}

func TestWorkerTaskTimeout(t *testing.T) {
	h := open(t, Options{WorkerTaskTimeout: 100 * time.Millisecond})
	w, c := h.worker("worker_1"), h.client()
	c.send("TASK|t1|1,2\n")
	w.want("ASSIGN_TASK|t1|1,2\n")
	w.wantEnd()
	h.worker("worker_2").obey(textSum)
	c.want("RESULT|t1|3\n")
	h.counts(func(n Counters) bool { return n.TimedOut == 1 })
}

func TestWorkerOverlongAndSlow(t *testing.T) {
	h := open(t, Options{MaxLine: 100, MessageTimeout: 100 * time.Millisecond, Quiet: 20 * time.Millisecond})
	c := h.client()
	w := h.worker("worker_1")
	c.send("TASK|t1|1,2\n")
	w.want("ASSIGN_TASK|t1|1,2\n")
	w.send("TASK_RESULT|t1|" + strings.Repeat("9", 100) + "\n")
	w.wantEnd()
	slow := h.worker("worker_2")
	slow.want("ASSIGN_TASK|t1|1,2\n")
	slow.send("TASK_RES")
	slow.wantEnd()
	h.worker("worker_3").obey(textSum)
	c.want("RESULT|t1|3\n")
	h.counts(func(n Counters) bool { return n.Overlong == 1 && n.Slow == 1 && n.Abandoned == 2 })
}

func TestManyTextClientsAndWorkers(t *testing.T) {
	const workers, clients, tasks = 20, 64, 20
	h := open(t, Options{AckGap: -1})
	for range workers {
		h.worker("worker_same").obey(textSum)
	}
	var wg sync.WaitGroup
	for i := range clients {
		c := h.client()
		wg.Go(func() {
			b := make([]byte, 1024)
			for j := range tasks {
				fmt.Fprintf(c, "TASK|t%d|%d,%d", j, i, j) // no end
				_, _ = c.Write([]byte("\n"))              // and then one
				n, err := c.Read(b)
				if want := fmt.Sprintf("RESULT|t%d|%d\n", j, i+j); err != nil || string(b[:n]) != want {
					t.Errorf("got %q, %v; want %q", b[:n], err, want)
					return
				}
			}
		})
	}
	wg.Wait()
	until(t, "counters", func() bool { n := h.a.Counters(); return n.Answers == clients*tasks && n.Stray == 0 })
}

func TestWorkerReplacedIsCutOff(t *testing.T) {
	h := open(t, Options{})
	w := h.worker("worker_1")
	until(t, "joining", func() bool { return len(h.listed()) == 1 })
	// The same id by gRPC replaces the session, for good: the text worker's
	// connection ends, which it understands.
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = worker.Run(ctx, h.conn, worker.Handlers{"sum": sum}, worker.Options{ID: h.listed()[0].GetWorkerId()})
	}()
	w.wantEnd()
	cancel()
	<-done
}
