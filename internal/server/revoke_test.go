package server

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/auth"
)

// open calls are those that last; each begins one and returns what waits for its
// end.
func (w *town) openCalls(ctx context.Context, id string) []struct {
	name  string
	begin func() (wait func() error)
} {
	tasks := pb.NewTaskServiceClient(w.conn)
	type call = struct {
		name  string
		begin func() (wait func() error)
	}
	// later runs a unary call beside the test, once the balancer holds it.
	later := func(held func() bool, do func() error) func() error {
		done := make(chan error, 1)
		go func() { done <- do() }() // ends with the call
		w.eventually(held)
		return func() error { return <-done }
	}
	return []call{
		{"TaskService.Submit that waits", func() func() error {
			queued := w.s.dispatch.Info().Queued
			return later(func() bool { return w.s.dispatch.Info().Queued > queued }, func() error {
				_, err := tasks.Submit(ctx, &pb.SubmitRequest{Function: "slow"})
				return err
			})
		}},
		{"TaskService.SubmitStream", func() func() error {
			stream, err := tasks.SubmitStream(ctx)
			if err == nil {
				_, err = stream.Recv() // the limits
			}
			if err != nil {
				w.t.Fatal(err)
			}
			return func() error {
				_, err := stream.Recv()
				return err
			}
		}},
		{"TaskService.WaitTask", func() func() error {
			return later(func() bool { return true }, func() error {
				_, err := tasks.WaitTask(ctx, &pb.WaitTaskRequest{TaskId: id})
				return err
			})
		}},
		{"WorkerService.Work", func() func() error {
			stream, err := pb.NewWorkerServiceClient(w.conn).Work(ctx)
			if err != nil {
				w.t.Fatal(err)
			}
			_ = stream.Send(&pb.WorkRequest{Register: &pb.Register{WorkerId: "open", Slots: 1, Functions: []string{"other"}}})
			if _, err := stream.Recv(); err != nil {
				w.t.Fatal(err)
			}
			return func() error {
				_, err := stream.Recv()
				return err
			}
		}},
	}
}

func (w *town) eventually(holds func() bool) {
	w.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-w.ctx.Done():
			w.t.Fatal("it did not come to hold")
		}
	}
}

// change replaces the file by what edit makes of it.
func (w *town) change(edit func(string) string) {
	w.t.Helper()
	was, err := os.ReadFile(w.file)
	if err != nil {
		w.t.Fatal(err)
	}
	now := edit(string(was))
	if now == string(was) {
		w.t.Fatal("nothing changes")
	}
	w.write(now)
}

const both = `  - {name: both, tokens: [HASH], submit: ["**"], work: ["**"]}` + "\n"

// TestWhatIsTakenAwayEndsWhatIsOpen holds open calls against the second table of
// docs/security.md.
func TestWhatIsTakenAwayEndsWhatIsOpen(t *testing.T) {
	var table strings.Builder
	table.WriteString("| open call | its token is revoked | it may do nothing any more | it may no longer do this | something else changes |\n|---|---|---|---|---|\n")
	results := map[string][]string{}
	var names []string
	for n, edit := range []func(string) string{
		func(s string) string {
			before, rest, _ := strings.Cut(s, "name: both, tokens: [")
			_, after, _ := strings.Cut(rest, "]")
			_, another := auth.NewToken()
			return before + "name: both, tokens: [\"" + another + "\"]" + after
		},
		func(s string) string {
			return strings.Replace(s, `submit: ["**"], work: ["**"]`, `administer: false`, 1)
		},
		func(s string) string {
			return strings.Replace(s, `submit: ["**"], work: ["**"]`, `submit: [sum], work: [sum]`, 1)
		},
		func(s string) string { return s + "  - {name: new, certificates: [new.example.com], submit: [sum]}\n" },
	} {
		w := newTown(t, textBoth)
		w.tokens["both"] = w.addBoth()
		w.eventually(func() bool { return w.s.auth.Principal("both") != nil })
		ctx, cancel := context.WithCancel(w.as("both"))
		resp, err := pb.NewTaskServiceClient(w.conn).Enqueue(ctx, &pb.EnqueueRequest{Tasks: []*pb.EnqueueTask{{Function: "slow"}}})
		if err != nil {
			t.Fatal(err)
		}
		var waits []func() error
		calls := w.openCalls(ctx, resp.Results[0].TaskId)
		for _, c := range calls {
			waits = append(waits, c.begin())
		}
		changed := w.s.auth.Changed()
		w.change(edit)
		select {
		case <-changed:
		case <-w.ctx.Done():
			t.Fatalf("change %d did not take effect", n)
		}
		// What has not ended when another is ended after it goes on.
		w.endsAfter("bird", cancel)
		for i, c := range calls {
			err := waits[i]()
			got := "goes on"
			if ctx.Err() == nil || status.Code(err) != codes.Canceled {
				got = cell(err)
			}
			if len(results[c.name]) == 0 {
				names = append(names, c.name)
			}
			results[c.name] = append(results[c.name], got)
		}
		cancel()
	}
	for _, name := range names {
		fmt.Fprintf(&table, "| `%s` | %s |\n", name, strings.Join(results[name], " | "))
	}
	inDocument(t, "open-access", table.String())
}

// endsAfter calls then when the balancer has looked at all open calls once more: it
// has ended that of a principal that is taken out only now.
func (w *town) endsAfter(name string, then func()) {
	w.t.Helper()
	stream, err := pb.NewTaskServiceClient(w.conn).SubmitStream(w.as(name))
	if err == nil {
		_, err = stream.Recv() // the limits
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.change(func(s string) string { return strings.Replace(s, "name: "+name, "name: former-"+name, 1) })
	if _, err := stream.Recv(); status.Code(err) != codes.Unauthenticated {
		w.t.Fatalf("%v ends the stream of %s", err, name)
	}
	then()
}

// addBoth adds a principal that may submit and work, and returns its token.
func (w *town) addBoth() string {
	token, hash := auth.NewToken()
	w.change(func(s string) string { return s + strings.Replace(both, "HASH", `"`+hash+`"`, 1) })
	return token
}

// A text connection that is open when its principal loses its rights gets an error
// and no result.
func TestTextPortsLoseTheirRights(t *testing.T) {
	w := newTown(t, textBoth)
	w.steady()
	conn := w.dialText(w.s.Legacy().ClientAddr())
	in := bufio.NewReader(conn)
	ask := func(id string) string {
		fmt.Fprintf(conn, "TASK|%s|1\n", id)
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return line
	}
	if got := ask("t1"); got != "RESULT|t1|\n" {
		t.Fatalf("%q while it may", got)
	}
	changed := w.s.auth.Changed()
	w.change(func(s string) string {
		return strings.Replace(s, textBoth, `  - {name: text, submit: [other]}`+"\n", 1)
	})
	<-changed
	w.eventually(func() bool { return strings.HasPrefix(ask("t2"), "RESULT|t2|ERROR: ") })
}
