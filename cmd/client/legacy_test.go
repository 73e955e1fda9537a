package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"reparto/client"
	"reparto/worker"
)

// told makes the balancer know of text peers, as an adapter does.
func (b *balancer) told(t *testing.T, id string, peers ...client.TextPeer) {
	t.Helper()
	conn, err := grpc.NewClient(b.address, worker.DialOptions(nil)...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := client.New(conn)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.ReportTextPeers(ctx, client.TextAdapter{ID: id, Run: "1"}, peers); err != nil {
		t.Fatal(err)
	}
}

const age2 = 2*time.Hour + 30*time.Minute

func textClient(address string, open int, tasks int64, seen time.Duration) client.TextPeer {
	return client.TextPeer{
		Kind: client.TextClient, Address: address, Port: "0.0.0.0:8888", Connections: open, Tasks: tasks,
		FirstSeen: seen + 72*time.Hour, LastSeen: seen,
	}
}

func TestLegacyListsWhatIsLeft(t *testing.T) {
	b := startBalancer(t, nil)
	const since = `The balancer was started \S+ ago; who has not connected since may be missing here\.\n`
	b.want(t, 0, `No address is connected to speak the text protocol\.\n`+since, "legacy")

	worker := textClient("10.0.0.3", 2, 40, 0)
	worker.Kind, worker.Port = client.TextWorker, "0.0.0.0:8889"
	b.told(t, "web1", textClient("10.0.0.1", 0, 900, 10*time.Minute), textClient("10.0.0.2", 1, 7, 5*time.Second), worker, textClient("10.0.0.4", 0, 5000, age2))
	b.told(t, "web2", textClient("10.0.0.2", 1, 3000, 5*time.Second), textClient("fe80::1%eth0", 0, 1, 50*time.Hour))
	const heading = `ADDRESS +KIND +PORT +OPEN +TASKS +SINCE +SEEN +ADAPTER\n`
	const recent = `10\.0\.0\.2 +client +0\.0\.0\.0:8888 +1 +3000 +3d +5\.?\d*s +web2\n` +
		`10\.0\.0\.3 +worker +0\.0\.0\.0:8889 +2 +40 +3d +\S+s +web1\n` +
		`10\.0\.0\.2 +client +0\.0\.0\.0:8888 +1 +7 +3d +5\.?\d*s +web1\n`
	const gone = `10\.0\.0\.1 +client +0\.0\.0\.0:8888 +0 +900 +3d +10m\S* +web1\n`
	const open = `\n3 addresses are connected to speak the text protocol\.\n`
	b.want(t, 0, heading+recent+gone+open+`2 more were last seen more than 1h0m ago; --gone 51h shows all\.\n`+since, "legacy")
	b.want(t, 0, heading+recent+`10\.0\.0\.4 +client +0\.0\.0\.0:8888 +0 +5000 +\S+ +2h30m\S* +web1\n`+gone+open+
		`1 more was last seen more than 24h0m ago; --gone 51h shows all\.\n`+since, "legacy", "--gone", "24h")
	b.want(t, 0, heading+recent+`10\.0\.0\.4 .*\n`+gone+`fe80::1%eth0 .*\n`+open+since, "legacy", "--gone", "51h")
	b.want(t, 0, heading+recent+open+`3 more were last seen more than 0s ago; --gone 51h shows all\.\n`+since, "legacy", "--gone", "0")
	b.want(t, 2, `.*--gone is -1s.*`, "legacy", "--gone", "-1s")
}

func TestLegacyForPrograms(t *testing.T) {
	b := startBalancer(t, nil)
	var peers []client.TextPeer
	for i := range 1500 { // more than a page
		peers = append(peers, textClient(fmt.Sprintf("10.0.%d.%d", i/256, i%256), 1, int64(i), 0))
	}
	b.told(t, "web1", append(peers, textClient("10.9.9.9", 0, 1, age2))...)
	for _, flag := range []string{"--json", "--output=json"} {
		code, out, errs := b.asked(t, "", "legacy", flag)
		if code != 0 || strings.Count(out, "\n") != 1500 {
			t.Fatalf("%s: exit code %d, %d lines, %s", flag, code, strings.Count(out, "\n"), errs)
		}
		first, _, _ := strings.Cut(out, "\n")
		var p struct {
			AdapterID   string `json:"adapter_id"`
			Kind        string `json:"kind"`
			Address     string `json:"address"`
			Port        string `json:"port"`
			Connections int    `json:"connections"`
			LastSeenAgo string `json:"last_seen_ago"`
			Tasks       string `json:"tasks"`
		}
		if err := json.Unmarshal([]byte(first), &p); err != nil {
			t.Fatal(err)
		}
		if p.AdapterID != "web1" || p.Kind != "TEXT_PEER_KIND_CLIENT" || p.Address != "10.0.5.219" || p.Port != "0.0.0.0:8888" ||
			p.Connections != 1 || !strings.HasSuffix(p.LastSeenAgo, "s") || p.Tasks != "1499" {
			t.Errorf("the first is %s", first)
		}
	}
}
