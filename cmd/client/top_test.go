package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/creack/pty"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/cli"
)

// scene is a picture with three functions and two workers.
func scene(done int64, at time.Time) *picture {
	return &picture{
		at:   at,
		info: &pb.GetServerInfoResponse{Version: "v9", Store: "memory:", Queued: 7, Workers: 2, Limits: &pb.ServerLimits{MaxBytes: 1 << 30}},
		functions: []*pb.Function{
			{Name: "alpha", Queued: 1, FinishedPerSecond: 5, RunTime: &pb.Latency{Count: 1, P50: durationpb.New(2 * time.Millisecond), P99: durationpb.New(40 * time.Millisecond)}},
			{Name: "beta", Queued: 6, FinishedPerSecond: 3, Paused: true},
			{Name: "evil\x1b[31m", Queued: 0},
		},
		workers: []*pb.Worker{
			{WorkerId: "w1", SessionId: "s1", Slots: 8, FreeSlots: 2, TasksDone: done},
			{WorkerId: "w2", SessionId: "s2", Slots: 8, FreeSlots: 8, Draining: true},
		},
	}
}

// screen is a live view without a terminal.
type screen struct {
	*testing.T
	m     *topModel
	asked []action
}

func newScreen(t *testing.T) *screen {
	s := &screen{T: t}
	s.m = newTopModel("here:1", time.Second)
	s.m.act = func(a action) (string, error) {
		s.asked = append(s.asked, a)
		return "asked to " + a.verb + " " + a.name, nil
	}
	s.send(tea.WindowSizeMsg{Width: 140, Height: 30})
	return s
}

// send gives the view a message, and what its command comes to if that is an action.
func (s *screen) send(msg tea.Msg) {
	s.Helper()
	_, cmd := s.m.Update(msg)
	if _, key := msg.(tea.KeyPressMsg); !key || cmd == nil {
		return
	}
	if result, ok := cmd().(acted); ok {
		s.m.Update(result)
	}
}

func (s *screen) press(keys ...string) {
	s.Helper()
	special := map[string]rune{"tab": tea.KeyTab, "down": tea.KeyDown, "up": tea.KeyUp, "enter": tea.KeyEnter, "esc": tea.KeyEscape, "backspace": tea.KeyBackspace}
	for _, k := range keys {
		if code, ok := special[k]; ok {
			s.send(tea.KeyPressMsg{Code: code})
		} else {
			s.send(tea.KeyPressMsg{Code: rune(k[0]), Text: k})
		}
	}
}

func (s *screen) shows(wanted ...string) {
	s.Helper()
	for _, want := range wanted {
		if !strings.Contains(s.m.text(), want) {
			s.Errorf("%q is not on the screen:\n%s", want, s.m.text())
		}
	}
}

func (s *screen) hides(unwanted ...string) {
	s.Helper()
	for _, bad := range unwanted {
		if strings.Contains(s.m.text(), bad) {
			s.Errorf("%q is on the screen:\n%s", bad, s.m.text())
		}
	}
}

func TestTopShowsABalancer(t *testing.T) {
	s := newScreen(t)
	s.shows("looking at here:1")
	start := time.Now()
	s.send(looked{picture: scene(100, start)})
	s.shows("v9, serving", "7 queued", "alpha", "beta", "paused", "2ms/40ms", "6/8", "draining", `evil\x1b[31m`)
	s.hides("evil\x1b[31m")
	s.send(looked{picture: scene(150, start.Add(2*time.Second))})
	s.shows("25.0") // tasks a second, of 50 in two seconds
}

func TestTopSortsAndFilters(t *testing.T) {
	s := newScreen(t)
	s.send(looked{picture: scene(1, time.Now())})
	before := func(a, b string) {
		t.Helper()
		if text := s.m.text(); strings.Index(text, a) > strings.Index(text, b) {
			t.Errorf("%s stands below %s:\n%s", a, b, text)
		}
	}
	before("alpha", "beta")
	s.press("s", "s") // by the queue, longest first
	s.shows("QUEUED↓")
	before("beta", "alpha")
	s.press("r")
	s.shows("QUEUED↑")
	before("alpha", "beta")
	s.press("/", "b", "e", "x", "backspace", "enter")
	s.shows("beta", "only *be*")
	s.hides("alpha")
	s.press("/", "esc")
	s.shows("alpha")
}

// TestTopAsksBeforeItDoes: nothing is paused or drained without a y.
func TestTopAsksBeforeItDoes(t *testing.T) {
	s := newScreen(t)
	s.send(looked{picture: scene(1, time.Now())})
	s.press("p")
	s.shows("pause alpha? y/n")
	s.press("n")
	if s.shows("left as it is"); len(s.asked) > 0 {
		t.Fatalf("it did %v", s.asked)
	}
	s.press("down", "p")
	s.shows("resume beta? y/n")
	s.press("y")
	s.shows("asked to resume beta")
	s.press("d")
	s.shows("press tab first")
	s.press("tab", "d", "y")
	want := []action{{"resume", "beta"}, {"drain", "w1"}}
	if len(s.asked) != 2 || s.asked[0] != want[0] || s.asked[1] != want[1] {
		t.Errorf("it did %v, want %v", s.asked, want)
	}
	s.m.act = func(action) (string, error) { return "", status.Error(codes.PermissionDenied, "may not") }
	s.press("d", "y")
	s.shows("could not: may not")
}

// TestTopKeepsTheLastViewOfABalancerThatIsGone, and goes on when it is back.
func TestTopKeepsTheLastViewOfABalancerThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScreen(t)
		gone := looked{err: status.Error(codes.Unavailable, "connection refused")}
		s.send(gone)
		s.shows("here:1 does not answer", "connection refused")
		s.send(looked{picture: scene(1, time.Now())})
		time.Sleep(3 * time.Second)
		s.send(gone)
		s.shows("alpha", "does not answer", "what is shown is 3s old")
		s.send(looked{picture: scene(2, time.Now())})
		s.hides("does not answer")
	})
}

func TestTopInSmallWindows(t *testing.T) {
	s := newScreen(t)
	s.send(looked{picture: scene(1, time.Now())})
	s.send(tea.WindowSizeMsg{Width: 79, Height: 30})
	s.shows("79 by 30 is too small: want 80 by 24")
	for _, size := range []tea.WindowSizeMsg{{Width: 80, Height: 24}, {Width: 300, Height: 100}, {Width: 80, Height: 25}} {
		s.send(size)
		s.shows("alpha", "w2", "q quit")
		if lines := strings.Count(s.m.text(), "\n") + 1; lines > size.Height {
			t.Errorf("%d lines in a window of %d", lines, size.Height)
		}
	}
	s.press("?")
	s.shows("Any key goes back")
	s.press("x")
	s.shows("alpha")
}

// TestTopPrintsWithoutATerminal, for a balancer that is really there.
func TestTopPrintsWithoutATerminal(t *testing.T) {
	b := startBalancer(t, nil)
	awaitWorker(t, b)
	var out bytes.Buffer
	if code := run(context.Background(), []string{"top", "--once", "--balancer", b.address}, strings.NewReader(""), &out, &out); code != cli.OK {
		t.Fatalf("exit %d: %s", code, out.String())
	}
	for _, want := range []string{"serving", "FUNCTION", "sum", "DISPATCH", "WORKER", "w1"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	out.Reset()
	if code := run(context.Background(), []string{"top", "--output", "json", "--balancer", b.address}, strings.NewReader(""), &out, &out); code != cli.OK || !strings.Contains(out.String(), `"worker_id":"w1"`) {
		t.Errorf("exit %d: %s", code, out.String())
	}
	if code := run(context.Background(), []string{"top", "--interval", "99ms"}, strings.NewReader(""), io.Discard, io.Discard); code != cli.Usage {
		t.Errorf("exit %d for an interval of 99ms", code)
	}
}

func awaitWorker(t *testing.T, b *balancer) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		resp, err := b.admin.ListWorkers(t.Context(), &pb.ListWorkersRequest{})
		if err == nil && len(resp.GetWorkers()) > 0 {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("no worker came: %v", err)
		}
	}
}

// TestTopInATerminal: it takes the whole screen, shows what is there, and q gives the
// screen back.
func TestTopInATerminal(t *testing.T) {
	b := startBalancer(t, nil)
	awaitWorker(t, b)
	keyboard, terminal, err := pty.Open()
	if err != nil {
		t.Skipf("SKIPPED: there are no pseudo-terminals here: %v", err)
	}
	defer keyboard.Close()
	if err := pty.Setsize(keyboard, &pty.Winsize{Rows: 30, Cols: 120}); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var seen bytes.Buffer
	var reading sync.WaitGroup
	reading.Go(func() {
		part := make([]byte, 4096)
		for {
			n, err := keyboard.Read(part)
			mu.Lock()
			seen.Write(part[:n])
			mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	screen := func() string {
		mu.Lock()
		defer mu.Unlock()
		return seen.String()
	}
	code := make(chan int, 1)
	go func() {
		code <- run(context.Background(), []string{"top", "--interval", "100ms", "--balancer", b.address}, terminal, terminal, io.Discard)
	}()
	for limit := time.Now().Add(20 * time.Second); !strings.Contains(screen(), "sleep") || !strings.Contains(screen(), "w1"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("the screen shows\n%q", screen())
		}
	}
	if _, err := keyboard.Write([]byte("q")); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-code:
		if got != cli.OK {
			t.Errorf("exit %d", got)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("q does not end it")
	}
	terminal.Close()
	reading.Wait()
	if !strings.Contains(screen(), "\x1b[?1049h") || !strings.Contains(screen(), "\x1b[?1049l") {
		t.Errorf("the screen was not taken and given back: %q", screen())
	}
}
