package server

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	pb "reparto/gen/reparto/v1"
)

// TestWhatTheTextPortsMay tries both text ports with every right of the principal
// they act for.
func TestWhatTheTextPortsMay(t *testing.T) {
	var table strings.Builder
	table.WriteString("| the principal `text` | a text client is told | a text worker |\n|---|---|---|\n")
	for _, c := range []struct{ is, yaml string }{
		{"is not in the file", ""},
		{"may submit", `  - {name: text, submit: [sum]}` + "\n"},
		{"may work", `  - {name: text, work: [sum]}` + "\n"},
		{"may submit and work", textBoth},
		{"may submit and work, for another function", `  - {name: text, submit: [other], work: [other]}` + "\n"},
	} {
		w := newTown(t, c.yaml)
		worker := w.textWorker()
		client := "waits for a worker"
		if worker == "serves" || !strings.Contains(c.is, "may submit") || strings.Contains(c.is, "another") {
			client = w.textClient()
		}
		fmt.Fprintf(&table, "| %s | %s | %s |\n", c.is, client, worker)
	}
	inDocument(t, "text-access", table.String())
}

// textClient sends a task and returns what comes back.
func (w *town) textClient() string {
	w.t.Helper()
	conn := w.dialText(w.s.Legacy().ClientAddr())
	fmt.Fprint(conn, "TASK|t1|1,2,3\n")
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return "`" + strings.TrimSpace(strings.ReplaceAll(line, "|", `\|`)) + "`"
}

// textWorker registers, and tells what becomes of it.
func (w *town) textWorker() string {
	w.t.Helper()
	conn := w.dialText(w.s.Legacy().WorkerAddr())
	fmt.Fprint(conn, "REGISTER|worker_1\n")
	in := bufio.NewReader(conn)
	if line, err := in.ReadString('\n'); err != nil || line != "ACK|worker_1\n" {
		return fmt.Sprintf("%q %v", line, err)
	}
	done := make(chan string, 1)
	go func() { // ends when the connection does
		line, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) {
			done <- "is cut off after its ACK"
			return
		}
		done <- "was sent " + line
		if id, _, ok := strings.Cut(strings.TrimPrefix(line, "ASSIGN_TASK|"), "|"); ok {
			fmt.Fprintf(conn, "TASK_RESULT|%s|6\n", id)
		}
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case said := <-done:
			return said
		case <-tick.C:
			if w.s.dispatch.Info().Sessions > 0 {
				return "serves"
			}
		case <-w.ctx.Done():
			return "hears nothing"
		}
	}
}

func (w *town) dialText(a net.Addr) net.Conn {
	w.t.Helper()
	conn, err := net.Dial("tcp", a.String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience / 2))
	return conn
}

// TestTextPortsTellWhoSpeaks: the principal of the text ports needs no right beyond
// those for its tasks.
func TestTextPortsTellWhoSpeaks(t *testing.T) {
	w := newTown(t, `  - {name: text, submit: [sum]}`+"\n")
	w.steady()
	w.textClient()
	admin := pb.NewAdminServiceClient(w.conn)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		resp, err := admin.ListTextPeers(w.as("admin"), &pb.ListTextPeersRequest{})
		if err != nil {
			t.Fatal(err) // also when nothing comes in time
		}
		if len(resp.TextPeers) == 1 && resp.TextPeers[0].Tasks == 1 {
			p := resp.TextPeers[0]
			if p.Address != "127.0.0.1" || p.Port != w.s.Legacy().ClientAddr().String() || p.Connections != 1 || p.AdapterId == "" {
				t.Errorf("%v", p)
			}
			break
		}
		<-tick.C
	}
	if c := w.s.rpc.TextPeers(); c.Clients.Open != 1 || c.Clients.Tasks != 1 || c.Workers.Tasks != 0 {
		t.Errorf("counts %+v", c)
	}
}
