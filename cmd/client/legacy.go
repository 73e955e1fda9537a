package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/cli"
)

const legacyLong = `legacy lists the addresses that still speak the old text protocol, through whichever
adapter: to which port, how many connections they have open, how many tasks they
submitted (clients) or answered (workers), since when, and when they were last seen.
Those with open connections come first, and the busiest of them.

An address without a connection shows for as long as --gone says; the last lines
tell how many are left out. The balancer knows what adapters have told it since it
started, and forgets an address that was not seen for its --text-peers-for.`

func newLegacy() *cobra.Command {
	c := &caller{}
	var gone time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use: "legacy [flags]", Short: "List the addresses that still speak the text protocol", Long: legacyLong, Args: cobra.NoArgs,
		Example: "  client legacy\n  client legacy --gone 168h --json", DisableFlagsInUseLine: true,
	}
	c.addFlags(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "the same as --output json")
	cmd.Flags().DurationVar(&gone, "gone", time.Hour, "show also addresses that have no connection, if they were seen within this time")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if gone < 0 {
			return cli.Usagef("--gone is %v; give 0 or more", gone)
		}
		if asJSON {
			c.output.Value = "json"
		}
		return c.with(cmd, func(ctx context.Context) error { return c.legacy(ctx, gone) })
	}
	return cmd
}

func (c *caller) legacy(ctx context.Context, gone time.Duration) error {
	all, err := c.textPeers(ctx)
	if err != nil {
		return err
	}
	shown := slices.Clone(all)
	shown = slices.DeleteFunc(shown, func(p *pb.TextPeer) bool {
		return p.GetConnections() == 0 && p.GetLastSeenAgo().AsDuration() > gone
	})
	slices.SortStableFunc(shown, leftFirst)
	if c.asJSON() {
		for _, p := range shown {
			if err := c.json(p); err != nil {
				return err
			}
		}
		return nil
	}
	info, err := c.admin.GetServerInfo(ctx, &pb.GetServerInfoRequest{})
	if err != nil {
		return err
	}
	if len(shown) > 0 {
		if err := c.table("ADDRESS KIND PORT OPEN TASKS SINCE SEEN ADAPTER", textRows(shown)); err != nil {
			return err
		}
		c.printf("\n")
	}
	c.printf("%s", legacySummary(shown, all, gone))
	c.printf("The balancer was started %s ago; who has not connected since may be missing here.\n", lasting(info.GetUptime()))
	return nil
}

// textPeers are all, page by page.
func (c *caller) textPeers(ctx context.Context) (all []*pb.TextPeer, err error) {
	req := &pb.ListTextPeersRequest{PageSize: 1000}
	for {
		resp, err := c.admin.ListTextPeers(ctx, req)
		if err != nil {
			return nil, err
		}
		all = append(all, resp.GetTextPeers()...)
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			return all, nil
		}
	}
}

// leftFirst orders peers by what a team wants to move first: what is connected, then
// what has most tasks, then what was seen last. The listing's own order decides
// among the rest.
func leftFirst(p, q *pb.TextPeer) int {
	return cmp.Or(
		cmp.Compare(min(q.GetConnections(), 1), min(p.GetConnections(), 1)),
		cmp.Compare(q.GetTasks(), p.GetTasks()),
		cmp.Compare(p.GetLastSeenAgo().AsDuration().Round(time.Second), q.GetLastSeenAgo().AsDuration().Round(time.Second)),
	)
}

func textRows(peers []*pb.TextPeer) (rows [][]string) {
	for _, p := range peers {
		rows = append(rows, []string{
			clean(p.GetAddress()), textKindName(p.GetKind()), clean(p.GetPort()), strconv.Itoa(int(p.GetConnections())),
			strconv.FormatInt(p.GetTasks(), 10), lasting(p.GetFirstSeenAgo()), lasting(p.GetLastSeenAgo()), clean(p.GetAdapterId()),
		})
	}
	return rows
}

func textKindName(k pb.TextPeerKind) string {
	return strings.ToLower(strings.TrimPrefix(k.String(), "TEXT_PEER_KIND_"))
}

// legacySummary says how much is left, and what the table leaves out.
func legacySummary(shown, all []*pb.TextPeer, gone time.Duration) string {
	var b strings.Builder
	open := 0
	for _, p := range all {
		open += int(min(p.GetConnections(), 1))
	}
	if open == 0 {
		b.WriteString("No address is connected to speak the text protocol.\n")
	} else {
		fmt.Fprintf(&b, "%s connected to speak the text protocol.\n", count(open, "address is", "addresses are"))
	}
	if hidden := len(all) - len(shown); hidden > 0 {
		oldest := time.Duration(0)
		for _, p := range all {
			oldest = max(oldest, p.GetLastSeenAgo().AsDuration())
		}
		fmt.Fprintf(&b, "%s last seen more than %s ago; --gone %dh shows all.\n",
			count(hidden, "more was", "more were"), span(gone), int(oldest/time.Hour)+1)
	}
	return b.String()
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
