package local

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"reparto/client"
	"reparto/internal/dispatch"
	"reparto/internal/legacy"
	"reparto/internal/rpc"
	"reparto/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// house is a balancer with the text adapter in its process.
type house struct {
	t      testing.TB
	d      *dispatch.Dispatcher
	a      *legacy.Adapter
	border *rpc.Local
	quit   context.CancelFunc
	over   chan struct{} // closed when the adapter has ended
}

func open(t testing.TB, do dispatch.Options, o legacy.Options) *house {
	t.Helper()
	d, err := dispatch.Open(do)
	if err != nil {
		t.Fatal(err)
	}
	s := rpc.NewServer(d, rpc.Options{})
	o.ClientAddress, o.WorkerAddress, o.AckGap, o.DrainTimeout = "127.0.0.1:0", "127.0.0.1:0", -1, patience
	a, err := legacy.Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	h := &house{t: t, d: d, a: a, border: s.Local(), quit: cancel, over: make(chan struct{})}
	var running sync.WaitGroup
	running.Go(func() {
		defer close(h.over)
		if err := a.ServeFor(ctx, New(h.border), nil); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		s.Close()
		d.Close()
	})
	return h
}

func (h *house) until(what string, holds func() bool) {
	h.t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatal("not so: " + what)
		}
	}
}

// peer is an old program.
type peer struct {
	t testing.TB
	net.Conn
	in *bufio.Reader
}

func (h *house) dial(a net.Addr) *peer {
	h.t.Helper()
	conn, err := net.Dial("tcp", a.String())
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return &peer{h.t, conn, bufio.NewReader(conn)}
}

func (h *house) client() *peer { return h.dial(h.a.ClientAddr()) }

func (h *house) worker(id string) *peer {
	h.t.Helper()
	before := h.d.Info().Sessions
	p := h.dial(h.a.WorkerAddr())
	p.say("REGISTER|" + id)
	p.hear("ACK|" + id)
	h.until("the worker is in the rotation", func() bool { return h.d.Info().Sessions > before })
	return p
}

func (p *peer) say(line string) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p, line); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) hear(want string) {
	p.t.Helper()
	line, err := p.in.ReadString('\n')
	if got := strings.TrimSuffix(line, "\n"); err != nil || got != want {
		p.t.Fatalf("heard %q, %v; want %q", got, err, want)
	}
}

func TestATaskThereAndBack(t *testing.T) {
	h := open(t, dispatch.Options{}, legacy.Options{})
	c, w := h.client(), h.worker("w1")
	for _, k := range [][3]string{{"1,2", "3", "3"}, {"", "", ""}, {"x", "ERROR: no number", "ERROR: no number"}} {
		c.say("TASK|t1|" + k[0])
		w.hear("ASSIGN_TASK|t1|" + k[0])
		w.say("TASK_RESULT|t1|" + k[1])
		c.hear("RESULT|t1|" + k[2])
	}
	if n := h.d.Info(); n.Running+n.Queued != 0 || n.Sessions != 1 {
		t.Errorf("%+v", n.Counts)
	}
}

func TestTheTaskOfAWorkerThatGoesIsAnothers(t *testing.T) {
	h := open(t, dispatch.Options{}, legacy.Options{})
	c, w1, w2 := h.client(), h.worker("w1"), h.worker("w2")
	c.say("TASK|t1|1\nTASK|t2|2")
	w1.hear("ASSIGN_TASK|t1|1")
	w2.hear("ASSIGN_TASK|t2|2")
	_ = w1.Close()
	h.until("the worker has left", func() bool { return h.d.Info().Sessions == 1 })
	w2.say("TASK_RESULT|t2|b")
	c.hear("RESULT|t2|b")
	w2.hear("ASSIGN_TASK|t1|1")
	w2.say("TASK_RESULT|t1|a")
	c.hear("RESULT|t1|a")
	if n := h.a.Counters(); n.Abandoned != 1 || n.Answers != 2 {
		t.Errorf("counters %+v", n)
	}
}

// The slot of a worker stays taken until it answers, which nobody can tell it not
// to; its answer is for nobody then.
func TestAClientThatGoesCancels(t *testing.T) {
	h := open(t, dispatch.Options{}, legacy.Options{})
	gone, w := h.client(), h.worker("w1")
	gone.say("TASK|t1|1")
	w.hear("ASSIGN_TASK|t1|1")
	_ = gone.Conn.(*net.TCPConn).SetLinger(0)
	_ = gone.Close()
	h.until("the task is cancelled", func() bool { return h.d.Info().Running == 0 })
	c := h.client()
	c.say("TASK|t2|2")
	h.until("the next waits", func() bool { return h.d.Info().Queued == 1 })
	w.say("TASK_RESULT|t1|a")
	w.hear("ASSIGN_TASK|t2|2")
	w.say("TASK_RESULT|t2|b")
	c.hear("RESULT|t2|b")
}

func TestALimitOfTheBalancerIsTold(t *testing.T) {
	h := open(t, dispatch.Options{MaxPayload: 4}, legacy.Options{})
	c := h.client()
	c.say("TASK|t1|12345")
	c.hear("RESULT|t1|ERROR: payload: has 5 bytes; at most 4 are allowed (PAYLOAD_TOO_LARGE)")
}

// An adapter that stops takes no more, and its workers finish what they have.
func TestWhatRunsFinishes(t *testing.T) {
	h := open(t, dispatch.Options{}, legacy.Options{})
	c, w := h.client(), h.worker("w1")
	c.say("TASK|t1|1")
	w.hear("ASSIGN_TASK|t1|1")
	h.quit()
	h.until("the worker is leaving", func() bool {
		w := h.d.Workers("", "", 1)
		return len(w) == 1 && w[0].Draining
	})
	w.say("TASK_RESULT|t1|a")
	c.hear("RESULT|t1|a")
	select {
	case <-h.over:
	case <-time.After(patience):
		t.Fatal("the adapter did not end")
	}
	if n := h.d.Info().Sessions; n != 0 {
		t.Errorf("%d workers are left", n)
	}
}

// A worker is not taken for silent while its balancer says nothing but heartbeats,
// and a slow one keeps its task.
func TestAQuietWorkerStays(t *testing.T) {
	const beat = 10 * time.Millisecond
	h := open(t, dispatch.Options{Heartbeat: beat}, legacy.Options{})
	c, w := h.client(), h.worker("w1")
	session := h.d.Workers("", "", 1)[0].SessionID
	began := time.Now()
	c.say("TASK|t1|1")
	w.hear("ASSIGN_TASK|t1|1")
	h.until("twenty heartbeats have passed", func() bool { return time.Since(began) > 20*beat })
	if now := h.d.Workers("", "", 1); len(now) != 1 || now[0].SessionID != session {
		t.Error("it has another session, or none")
	}
	w.say("TASK_RESULT|t1|a")
	c.hear("RESULT|t1|a")
	if n := h.a.Counters(); n.Abandoned != 0 || n.Stray != 0 || h.d.Info().Sessions != 1 {
		t.Errorf("counters %+v, %d sessions", n, h.d.Info().Sessions)
	}
}

// A process that slept finds its workers silent. They don't know, and go on with what
// they have.
func TestAWorkerFoundSilentComesBackWithItsTask(t *testing.T) {
	const beat = 10 * time.Millisecond
	h := open(t, dispatch.Options{Heartbeat: beat}, legacy.Options{})
	b := New(h.border)
	ctx, cancel := context.WithCancel(t.Context())
	asleep := make(chan struct{})
	var finish func(legacy.Answer)
	ended := make(chan error, 1)
	go func() {
		ended <- b.Work(ctx, legacy.Worker{ID: "w1", Function: "sum"}, func(_ context.Context, _ worker.Task, answer func(legacy.Answer)) {
			finish = answer
			<-asleep
		})
	}()
	h.until("the worker is in the rotation", func() bool { return h.d.Info().Sessions == 1 })
	done := make(chan string, 1)
	submit, leave := b.Client(ctx)
	defer leave()
	submit(client.Task{Function: "sum"}, func(o client.Outcome, err error) { done <- fmt.Sprint(string(o.Result), o.Attempt, err) })
	h.until("it was found silent", func() bool { return h.d.Info().Sessions == 0 })
	close(asleep)
	h.until("it is back with what it has", func() bool {
		w := h.d.Workers("", "", 1)
		return len(w) == 1 && len(w[0].Running) == 1
	})
	finish(legacy.Answer{Result: []byte("a")})
	if got := <-done; got != "a1 <nil>" {
		t.Errorf("got %s, want the result of the first attempt", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Work ended with %v", err)
	}
}
