package doctor

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	pb "reparto/gen/reparto/v1"
)

// hearing is what a balancer's clock showed.
type hearing struct {
	serverID string
	ahead    time.Duration // of ours
	trip     time.Duration // there and back: it may be off by half of it
}

// skewWarning is how far clocks may be apart before it matters for times that are
// given as such: run_at, expire_time, a token's expiry.
const skewWarning = 2 * time.Second

// hear asks for the balancer's state, and notes its clock.
func (e *exam) hear(ctx context.Context, conn *grpc.ClientConn) (*pb.GetServerInfoResponse, error) {
	limited, cancel := e.within(ctx)
	defer cancel()
	began := e.o.Now()
	resp, err := pb.NewAdminServiceClient(conn).GetServerInfo(limited, &pb.GetServerInfoRequest{})
	trip := e.o.Now().Sub(began)
	if err == nil && resp.GetTime() != nil {
		e.heard = append(e.heard, hearing{resp.GetServerId(), resp.GetTime().AsTime().Sub(began.Add(trip / 2)), trip})
	}
	return resp, err
}

// several is how many connections, and how many calls on one, show whether they
// are spread.
const several = 6

// spread finds out whether connections, or calls of one, go to several balancers.
func (e *exam) spread(ctx context.Context) {
	if e.info == nil {
		e.skip("spread", "which balancer answers is only for whom it knows")
		return
	}
	calls, connections := map[string]int{}, map[string]int{}
	broken := 0
	var last error
	note := func(ids map[string]int, conn *grpc.ClientConn) {
		resp, err := e.hear(ctx, conn)
		if err != nil {
			broken, last = broken+1, err
			return
		}
		ids[resp.GetServerId()]++
	}
	for range several {
		note(calls, e.conn)
	}
	for range several { // all at once, so that each is one of several
		conn, err := e.o.Dial()
		if err != nil {
			broken, last = broken+1, err
			continue
		}
		defer func() { _ = conn.Close() }() // it was in use until here: there is nothing to fail
		note(connections, conn)
	}
	if ctx.Err() != nil {
		return
	}
	f := Finding{Check: "spread", Status: OK, Values: map[string]any{"balancers_of_connections": len(connections), "balancers_of_calls": len(calls)}}
	switch {
	case len(calls) > 1:
		f.Status = Warn
		f.Said = fmt.Sprintf("calls of one connection reach %d balancers: each knows only what was enqueued with it, so that wait, get and cancel may find nothing", len(calls))
		f.Do = "send the calls of a client to one balancer"
		e.trouble(trouble{kind: scattered})
	case len(connections) > 1:
		f.Said = fmt.Sprintf("%d connections reach %d balancers, the calls of one connection a single one", several, len(connections))
	default:
		f.Said = fmt.Sprintf("%d connections, and %d calls of one, reach a single balancer", several, several)
	}
	if broken > 0 {
		f.Status, f.Said = Fail, fmt.Sprintf("%d of %d calls failed, the last with: %s; %s", broken, 2*several, words(last), f.Said)
		f.Do = "look for a limit on connections, and for a balancer that the proxy takes for healthy and that is not"
	}
	e.found(f)
}

// clock tells how far the balancers' clocks are from ours: of each by its shortest
// round trip, and of these the worst.
func (e *exam) clock(context.Context) {
	if len(e.heard) == 0 {
		e.skip("clock", "not told")
		return
	}
	best := map[string]hearing{}
	for _, h := range e.heard {
		if b, ok := best[h.serverID]; !ok || h.trip < b.trip {
			best[h.serverID] = h
		}
	}
	var worst hearing
	for _, h := range best {
		if worst.serverID == "" || h.ahead.Abs()-h.trip/2 > worst.ahead.Abs()-worst.trip/2 {
			worst = h
		}
	}
	which, unsure := "ahead of", worst.trip/2
	if worst.ahead < 0 {
		which = "behind"
	}
	f := Finding{
		Check: "clock", Status: OK, Said: fmt.Sprintf("the balancer's is %s %s this machine's, give or take %s", span(worst.ahead.Abs()), which, span(unsure)),
		Values: map[string]any{"ahead_ms": millis(worst.ahead), "unsure_ms": millis(unsure)},
	}
	if worst.ahead.Abs()-unsure > skewWarning {
		f.Status, f.Do = Warn, "set both by NTP: points of time (run_at, expire_time, the expiry of tokens and certificates) mean another moment there"
	}
	e.found(f)
}
