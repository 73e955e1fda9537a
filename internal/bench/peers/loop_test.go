package main

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"reparto/client"
)

// loop runs a client of a way that is not on the network, on a clock of its own,
// and returns its report.
func loop(t *testing.T, c config, open func(told) way) (r report) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c.Kind = "test"
		ways[c.Kind] = func(_ context.Context, _ config, tell told) (way, error) {
			w := open(tell)
			w.close = func() {}
			return w, nil
		}
		defer delete(ways, c.Kind)
		var kinds []string
		err := runClient(t.Context(), c, func(kind string, v any) {
			kinds = append(kinds, kind)
			if raw, err := json.Marshal(v); kind == "report" && err == nil {
				_ = json.Unmarshal(raw, &r)
			}
		})
		if err != nil || len(kinds) != 3 || kinds[0] != "go" || kinds[1] != "end" || kinds[2] != "report" {
			t.Errorf("said %v, %v", kinds, err)
		}
	})
	return r
}

// near allows for the histogram's steps.
func near(us float64, d time.Duration) bool {
	want := float64(d.Microseconds())
	return us > want*0.99 && us < want*1.01
}

func TestClosedLoop(t *testing.T) {
	const takes = 10 * time.Millisecond
	c := config{InFlight: 4, Size: 9, Warmup: 105 * time.Millisecond, Window: time.Second}
	for name, open := range map[string]func(told) way{
		"calls that block": func(told) way {
			return way{call: func(_ context.Context, _ int, payload []byte) ([]byte, error) {
				time.Sleep(takes)
				return payload, nil
			}}
		},
		"calls back": func(tell told) way {
			return way{send: func(slot int, payload []byte) error {
				time.AfterFunc(takes, func() { tell(slot, payload, nil) })
				return nil
			}}
		},
	} {
		if r := loop(t, c, open); r.Tasks != 400 || r.Rate != 400 || r.Lost != 0 || !near(r.P50, takes) || !near(r.P999, takes) {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestClosedLoopMissesWhatIsLost(t *testing.T) {
	r := loop(t, config{InFlight: 4, Size: 9, Window: time.Second}, func(tell told) way {
		return way{send: func(slot int, payload []byte) error {
			if slot != 3 {
				time.AfterFunc(10*time.Millisecond, func() { tell(slot, payload, nil) })
			}
			return nil
		}}
	})
	if r.Lost != 1 {
		t.Errorf("%+v", r)
	}
}

// A client that is held up has its tasks wait: they count from when they were due.
func TestOpenLoopCountsFromWhenTasksWereDue(t *testing.T) {
	sent := 0
	r := loop(t, config{Rate: 1000, Size: 9, Window: time.Second}, func(tell told) way {
		return way{send: func(slot int, payload []byte) error {
			if sent++; sent == 100 {
				time.Sleep(400 * time.Millisecond)
			}
			time.AfterFunc(time.Millisecond, func() { tell(slot, payload, nil) })
			return nil
		}}
	})
	if r.Lost != 0 || r.Offered < 850 || r.Offered > 1150 || r.P50 > 100_000 || r.P99 < 350_000 || r.P999 > 420_000 {
		t.Errorf("%+v", r)
	}
}

func TestOpenLoopTellsRefusedFromFailed(t *testing.T) {
	sent := 0
	r := loop(t, config{Rate: 1000, Size: 9, Window: time.Second}, func(tell told) way {
		return way{send: func(slot int, payload []byte) error {
			var err error
			switch sent++; {
			case sent%4 == 0:
				err = &client.Error{Code: codes.ResourceExhausted, Reason: "QUEUE_FULL"}
			case sent == 1:
				err = errors.New("broken")
			case sent == 2: // never answered
				return nil
			}
			go tell(slot, payload, err)
			return nil
		}}
	})
	if r.Lost != 1 || r.Failed != 1 || r.Refused < 200 || r.Refused > 300 || r.Rate+r.Refused+2 != r.Offered {
		t.Errorf("%+v", r)
	}
}
