package client

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

func TestDialRefusesNonsense(t *testing.T) {
	for name, dial := range map[string]func() (*Client, error){
		"no target":           func() (*Client, error) { return Dial(" ") },
		"bad target":          func() (*Client, error) { return Dial("unix://%zz") },
		"negative timeout":    func() (*Client, error) { return Dial("localhost:1", WithConnectTimeout(-1)) },
		"negative bound":      func() (*Client, error) { return Dial("localhost:1", WithMaxInFlight(-1)) },
		"nil for credentials": func() (*Client, error) { return Dial("localhost:1", WithTransportCredentials(nil)) },
	} {
		if c, err := dial(); err == nil {
			t.Errorf("%s: no error", name)
			c.Close()
		}
	}
}

func TestDialConnectsOnlyWhenATaskNeedsIt(t *testing.T) {
	c, err := Dial("localhost:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	b := newBalancer(t)
	c := New(b.conn, WithMaxInFlight(2))
	sent := submitting(t.Context(), c, Task{Function: "f"})
	s := b.stream()
	s.tasks(1)
	told := make(chan error, 1)
	c.SubmitFunc(t.Context(), Task{Function: "f"}, func(_ Outcome, err error) { told <- err })
	s.tasks(1)
	waits := submitting(t.Context(), c, Task{Function: "f"})
	waitingForRoom(t, c, 1)
	c.Close()
	for _, err := range []error{wait(t, sent).err, <-told, wait(t, waits).err} {
		if e := wantError(t, err, "CLIENT_CLOSED"); e.Code != codes.Canceled {
			t.Errorf("got %v", e.Code)
		}
	}
	_, err := c.Submit(t.Context(), Task{Function: "f"})
	wantError(t, err, "CLIENT_CLOSED")
	c.SubmitFunc(t.Context(), Task{Function: "f"}, func(_ Outcome, err error) { told <- err })
	wantError(t, <-told, "CLIENT_CLOSED")
	select {
	case <-s.pb.Context().Done(): // the balancer cancels what was left
	case <-time.After(patience):
		t.Error("the stream lives on")
	}
}

func TestNewWithNonsenseSaysSoAtEachCall(t *testing.T) {
	b := newBalancer(t)
	for name, c := range map[string]*Client{
		"bound": New(b.conn, WithMaxInFlight(-1)), "no connection": New(nil), "nil option": New(b.conn, nil),
	} {
		_, err := c.Submit(t.Context(), Task{Function: "f"})
		if e := wantError(t, err, "OPTIONS"); e.Code != codes.InvalidArgument {
			t.Errorf("%s: got %v", name, e)
		}
		c.SubmitFunc(t.Context(), Task{Function: "f"}, func(_ Outcome, err error) { wantError(t, err, "OPTIONS") })
		c.SubmitFunc(t.Context(), Task{Function: "f"}, nil)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
