package client

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "reparto/gen/reparto/v1"
)

func TestNoConnectionInTime(t *testing.T) {
	b := newBalancer(t)
	b.down()
	c := newTestClient(t, b, WithConnectTimeout(100*time.Millisecond))
	_, err := c.Submit(t.Context(), Task{Function: "f"})
	if e := wantError(t, err, "NO_CONNECTION"); e.Code != codes.Unavailable || !strings.Contains(e.Message, "nobody listens") {
		t.Errorf("got %+v", e)
	}
}

func TestATimeLimitThatPassesWithoutAConnection(t *testing.T) {
	b := newBalancer(t)
	b.limits = nil // it accepts, and says nothing
	c := newTestClient(t, b, WithConnectTimeout(time.Hour))
	submitting(t.Context(), c, Task{Function: "older"})
	eventually(t, "it waits", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return len(c.pending) == 1 })
	_, err := c.Submit(t.Context(), Task{Function: "f", ID: "i", Timeout: 50 * time.Millisecond})
	if e := wantError(t, err, "TASK_EXPIRED"); !errors.Is(err, context.DeadlineExceeded) || status.Code(err) != codes.DeadlineExceeded || e.TaskID != "i" {
		t.Errorf("got %+v", e)
	}
}

// givenUp notes when tasks are given up for want of a stream, from its making on.
type givenUp struct {
	t       *testing.T
	c       *Client
	began   time.Time
	waiting sync.WaitGroup
	at      map[string]time.Duration
}

func newGivenUp(t *testing.T, c *Client) *givenUp {
	return &givenUp{t: t, c: c, began: time.Now(), at: map[string]time.Duration{}}
}

// submit returns once the Client has done all that it can. It is by SubmitFunc, since
// a channel that Submit waits on may have served outside of the bubble.
func (g *givenUp) submit(function string) {
	g.waiting.Add(1)
	go g.c.SubmitFunc(g.t.Context(), Task{Function: function, Idempotent: true}, func(_ Outcome, err error) {
		g.at[function] = time.Since(g.began)
		if e, ok := errors.AsType[*Error](err); !ok || e.Reason != "NO_CONNECTION" {
			g.t.Errorf("%s ended with %v", function, err)
		}
		g.waiting.Done()
	})
	synctest.Wait()
}

func (g *givenUp) want(at map[string]time.Duration) {
	g.t.Helper()
	g.waiting.Wait()
	for function, want := range at {
		if got := g.at[function]; got != want {
			g.t.Errorf("%s was given up after %v; want %v", function, got, want)
		}
	}
}

// TestPatienceBeginsWhenTheStreamIsGone: a task that had a stream when it came has
// not waited for one until that takes no more, whether it had been sent or not.
func TestPatienceBeginsWhenTheStreamIsGone(t *testing.T) {
	const patience = 20 * time.Second
	tear := func(s *script, _ *pb.SubmitStreamRequest) { s.ends <- status.Error(codes.Unavailable, "torn") }
	stop := func(s *script, sent *pb.SubmitStreamRequest) {
		s.refuse(sent)
		synctest.Wait()
		s.refuse(<-s.frames)
	}
	for name, test := range map[string]struct {
		end      func(*script, *pb.SubmitStreamRequest)
		after    time.Duration
		earliest time.Duration // when the task is given up that came before the stream
	}{
		"it breaks":       {tear, 50 * time.Second, 50*time.Second + patience},
		"it stops":        {stop, 50 * time.Second, 50*time.Second + patience},
		"it breaks young": {tear, 5 * time.Second, patience}, // it was of no use
		"it stops young":  {stop, 5 * time.Second, patience},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, streams := newScript(&pb.ClientLimits{}), make(chan *script, 1)
				streams <- s
				c := New(&scripted{streams: streams}, WithConnectTimeout(patience))
				defer c.Close()
				g := newGivenUp(t, c)
				g.submit("first")
				sent := <-s.frames
				g.submit("sent")
				sent.Tasks = append(sent.Tasks, (<-s.frames).GetTasks()...)
				g.submit("half sent") // the writer is at it
				g.submit("unsent")
				time.Sleep(test.after)
				test.end(s, sent)
				late := test.after + patience
				g.want(map[string]time.Duration{"first": test.earliest, "sent": late, "half sent": late, "unsent": late})
			})
		})
	}
}

// TestPatienceOfWhatCouldNotBeSent: what a dying stream did not take has had it until
// then.
func TestPatienceOfWhatCouldNotBeSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, streams := newScript(&pb.ClientLimits{}), make(chan *script, 1)
		streams <- s
		c := New(&scripted{streams: streams}, WithConnectTimeout(20*time.Second))
		defer c.Close()
		g := newGivenUp(t, c)
		g.submit("refused")
		f := <-s.frames
		g.submit("unsent") // the writer is at it
		time.Sleep(30 * time.Second)
		s.refuse(f)
		time.Sleep(time.Second)
		s.unsent <- errors.New("gone")
		g.want(map[string]time.Duration{"refused": 50 * time.Second, "unsent": 51 * time.Second})
	})
}

// TestPatienceIsForRoomToo: where nobody listens, a task that waited for room all the
// time has waited for a stream.
func TestPatienceIsForRoomToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(&scripted{}, WithConnectTimeout(20*time.Second), WithMaxInFlight(1))
		defer c.Close()
		g := newGivenUp(t, c)
		g.submit("first")
		time.Sleep(5 * time.Second)
		g.submit("second")
		g.want(map[string]time.Duration{"first": 20 * time.Second, "second": 25 * time.Second})
	})
}
