package legacy

import (
	"context"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"

	"reparto/client"
)

const (
	// reportTimeout bounds a report, and lastReportTimeout the one at the end, which
	// must not keep an adapter from stopping.
	reportTimeout     = 10 * time.Second
	lastReportTimeout = time.Second
)

// reporter tells the balancer whom an adapter serves. A report that fails costs
// nobody anything: the next one tells the same and more.
type reporter struct {
	client  *client.Client
	from    client.TextAdapter
	peers   *peerTable
	every   time.Duration
	log     *slog.Logger
	failing bool
}

// reportPeers starts to report, beyond the end of ctx. The function that it returns
// ends that, with a last report; it must be called, when no connection is left.
func (a *Adapter) reportPeers(ctx context.Context, conn grpc.ClientConnInterface) (finish func()) {
	if a.o.ReportInterval < 0 {
		return func() {}
	}
	r := &reporter{
		// A balancer that is away is not waited for: the next report comes anyway.
		client: client.New(conn, client.WithConnectTimeout(time.Millisecond)),
		from:   client.TextAdapter{ID: a.id(), Run: a.run}, peers: a.peers, every: a.o.ReportInterval, log: a.o.Log,
	}
	ctx = context.WithoutCancel(ctx)
	running, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { r.run(running) })
	return func() {
		stop()
		wg.Wait()
		r.last(ctx)
	}
}

// run reports at every interval until ctx ends.
func (r *reporter) run(ctx context.Context) {
	tick := time.NewTicker(r.every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.note(ctx, r.report(ctx, reportTimeout))
		case <-ctx.Done():
			return
		}
	}
}

func (r *reporter) report(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return r.client.ReportTextPeers(ctx, r.from, r.peers.peers())
}

// note logs when reports begin to fail, and when they are taken again.
func (r *reporter) note(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
	case err != nil && !r.failing:
		r.failing = true
		r.log.Warn("can't tell the balancer who speaks the text protocol; trying on", "adapter_id", r.from.ID, "error", err, "again_in", r.every)
	case err == nil && r.failing:
		r.failing = false
		r.log.Info("the balancer is told again who speaks the text protocol", "adapter_id", r.from.ID)
	}
}

// last reports once more, when no connection is left.
func (r *reporter) last(ctx context.Context) {
	if err := r.report(ctx, lastReportTimeout); err != nil {
		r.log.Debug("can't tell the balancer for a last time who spoke the text protocol", "adapter_id", r.from.ID, "error", err)
	}
	_ = r.client.Close() // the connection is the caller's: there is nothing to fail
}

// id is what the adapter calls itself: what it was told, or the machine's name and
// its ports, which no other adapter of that machine has.
func (a *Adapter) id() string {
	if a.o.ID != "" {
		return a.o.ID
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "adapter"
	}
	ports := ""
	for _, addr := range []net.Addr{a.ClientAddr(), a.WorkerAddr()} {
		if tcp, ok := addr.(*net.TCPAddr); ok {
			ports += ":" + strconv.Itoa(tcp.Port)
		}
	}
	return string(appendClean(nil, []byte(host), "._-", maxID-len(ports))) + ports
}
