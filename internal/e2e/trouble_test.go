package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	pb "reparto/gen/reparto/v1"
)

// running is how many tasks the balancer says the worker has.
func (b *balancer) running(id string) int {
	w := b.worker(id)
	if w == nil {
		return -1
	}
	return len(w.GetRunning())
}

func TestKilledWorkersTasksRunElsewhereWithinASecond(t *testing.T) {
	b := startBalancer(t)
	doomed := startWorker(t, b, "doomed")
	const tasks = 20
	var outcomes []<-chan submitted
	for i := range tasks {
		outcomes = append(outcomes, submit(t.Context(), b.conn, "sleep", fmt.Sprintf("%dms", 2000+i)))
	}
	b.eventually("the doomed worker holds them all", func() bool { return b.running("doomed") == tasks })
	startWorker(t, b, "heir")
	doomed.signal(syscall.SIGKILL)
	b.within(time.Second, "the heir runs them all", func() bool { return b.running("heir") == tasks })
	for i, done := range outcomes {
		got := outcome(t, done)
		want := (time.Duration(2000+i) * time.Millisecond).String()
		if got.GetText() != want || got.GetWorkerId() != "heir" || got.GetAttempt() != 2 {
			t.Errorf("task %d: got %v; want %s from heir at attempt 2", i, got, want)
		}
	}
}

func TestStoppedWorkersTasksMoveAndItsLateAnswersDoNoHarm(t *testing.T) {
	b := startBalancer(t, "--heartbeat", "200ms")
	frozen := startWorker(t, b, "frozen")
	var outcomes []<-chan submitted
	for i := range 10 {
		outcomes = append(outcomes, submit(t.Context(), b.conn, "sleep", fmt.Sprintf("%dms", 300+i)))
	}
	b.eventually("the worker holds them all", func() bool { return b.running("frozen") == 10 })
	frozen.signal(syscall.SIGSTOP)
	startWorker(t, b, "heir")
	b.eventually("the frozen worker is gone", func() bool { return b.worker("frozen") == nil })
	frozen.signal(syscall.SIGCONT)
	for i, done := range outcomes {
		if got, want := outcome(t, done).GetText(), fmt.Sprintf("%dms", 300+i); got != want {
			t.Errorf("task %d: got %s, want %s", i, got, want)
		}
	}
	b.eventually("the worker is back and everything is at rest", func() bool {
		info := b.info()
		return b.worker("frozen") != nil && b.running("frozen") == 0 && info.GetRunning() == 0 && info.GetQueued() == 0
	})
	if got := outcome(t, submit(t.Context(), b.conn, "sum", "1,2")).GetText(); got != "3" {
		t.Errorf("afterwards sum gave %s", got)
	}
}

func TestAClientThatGoesAwayTakesItsTasksAlong(t *testing.T) {
	b := startBalancer(t)
	dir := t.TempDir()
	startWorker(t, b, "w", "--slots", "1", "--exec", "wait=touch "+dir+"/began; trap 'touch "+dir+"/stopped; exit 1' TERM; sleep 60 & wait")
	client := start(t, "client", "submit", "--balancer", b.grpc, "wait", "a", "b", "c")
	b.eventually("one runs and two wait", func() bool {
		info := b.info()
		return info.GetRunning() == 1 && info.GetQueued() == 2 && exists(dir, "began")
	})
	client.signal(syscall.SIGKILL)
	b.eventually("the queue is empty and the worker was told", func() bool {
		info := b.info()
		return info.GetRunning() == 0 && info.GetQueued() == 0 && exists(dir, "stopped")
	})
	b.eventually("the slot is free again", func() bool { return b.worker("w").GetFreeSlots() == 1 })
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

func TestAWorkerThatNeverReadsHarmsOnlyItself(t *testing.T) {
	b := startBalancer(t, "--send-limit", "1s")
	stream, err := pb.NewWorkerServiceClient(dial(t, b.grpc)).Work(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&pb.WorkRequest{Register: &pb.Register{WorkerId: "deaf", Functions: []string{"echo"}, Slots: 64}}); err != nil {
		t.Fatal(err)
	}
	b.eventually("the deaf worker is registered", func() bool { return b.worker("deaf") != nil })
	payload := strings.Repeat("x", 1<<20)
	var outcomes []<-chan submitted
	for range 32 { // far more than its windows hold
		outcomes = append(outcomes, submit(t.Context(), b.conn, "echo", payload))
	}
	b.eventually("the deaf worker was given them", func() bool { return b.running("deaf") > 0 })
	startWorker(t, b, "heir")
	for range 10 {
		if got := outcome(t, submit(t.Context(), b.conn, "sum", "1,2")).GetText(); got != "3" {
			t.Fatalf("meanwhile sum gave %q", got)
		}
	}
	b.eventually("its session has ended", func() bool { return b.worker("deaf") == nil })
	for i, done := range outcomes {
		if got := outcome(t, done); got.GetText() != payload || got.GetWorkerId() != "heir" {
			t.Errorf("task %d: %d bytes from %s", i, len(got.GetText()), got.GetWorkerId())
		}
	}
}

func TestAWorkerAskedToGoFinishesWhatItHolds(t *testing.T) {
	b := startBalancer(t)
	dir := t.TempDir()
	note := "note=read id; echo $id >> " + dir + "/runs; sleep 0.5; echo did $id"
	leaver := startWorker(t, b, "leaver", "--slots", "4", "--exec", note)
	var outcomes []<-chan submitted
	for i := range 4 {
		outcomes = append(outcomes, submit(t.Context(), b.conn, "note", fmt.Sprintf("held-%d\n", i)))
	}
	b.eventually("it holds four", func() bool { return b.running("leaver") == 4 })
	startWorker(t, b, "heir", "--slots", "4", "--exec", note)
	leaver.signal(syscall.SIGTERM)
	b.eventually("it drains", func() bool { w := b.worker("leaver"); return w == nil || w.GetDraining() })
	for i := range 4 {
		outcomes = append(outcomes, submit(t.Context(), b.conn, "note", fmt.Sprintf("later-%d\n", i)))
	}
	for i, done := range outcomes {
		want := "leaver"
		if i >= 4 {
			want = "heir"
		}
		if got := outcome(t, done); got.GetWorkerId() != want || got.GetAttempt() != 1 {
			t.Errorf("task %d: got %v; want it from %s at the first attempt", i, got, want)
		}
	}
	if code := leaver.exit(); code != 0 {
		t.Errorf("the worker ended with %d", code)
	}
	runs, err := os.ReadFile(filepath.Join(dir, "runs"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(runs), "\n"); n != 8 {
		t.Errorf("8 tasks were run %d times:\n%s", n, runs)
	}
}

func TestABalancerAskedToGoFinishesWhatRuns(t *testing.T) {
	b := startBalancer(t)
	startWorker(t, b, "w", "--slots", "1")
	held := submit(t.Context(), b.conn, "sleep", "1500ms")
	b.eventually("the task runs", func() bool { return b.running("w") == 1 })
	waits := submit(t.Context(), b.conn, "sleep", "1ms")
	b.eventually("another waits", func() bool { return b.info().GetQueued() == 1 })
	b.signal(syscall.SIGTERM)
	if s := <-waits; status.Code(s.err) != codes.Unavailable || reason(s.err) != "DRAINING" {
		t.Errorf("the one that waited ended with %v", s.err)
	}
	health, err := healthpb.NewHealthClient(b.conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || health.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health says %v, %v", health, err)
	}
	_, err = pb.NewTaskServiceClient(b.conn).Submit(t.Context(), &pb.SubmitRequest{Function: "sum"})
	if status.Code(err) != codes.Unavailable || reason(err) != "DRAINING" {
		t.Errorf("a new task was answered with %v", err)
	}
	if got := outcome(t, held).GetText(); got != "1.5s" {
		t.Errorf("the one that ran gave %q", got)
	}
	if code := b.exit(); code != 0 {
		t.Errorf("the balancer ended with %d", code)
	}
}

func TestADrainTimeoutEndsWhatDoesNotFinish(t *testing.T) {
	b := startBalancer(t, "--drain-timeout", "300ms")
	startWorker(t, b, "w")
	held := submit(t.Context(), b.conn, "sleep", "60s")
	b.eventually("the task runs", func() bool { return b.running("w") == 1 })
	b.signal(syscall.SIGTERM)
	if s := <-held; status.Code(s.err) != codes.Unavailable {
		t.Errorf("the one that ran ended with %v", s.err)
	}
	if code := b.exit(); code != 1 {
		t.Errorf("the balancer ended with %d, though a task was cut off", code)
	}
}

func TestARestartedBalancerGetsItsWorkersAndClientsBack(t *testing.T) {
	for _, how := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(how.String(), func(t *testing.T) {
			b := startBalancer(t)
			startWorker(t, b, "w")
			input, feed, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer feed.Close()
			client := startIn(t, input, "client", "submit", "--balancer", b.grpc, "--idempotent", "sum", "-")
			input.Close()
			fmt.Fprintln(feed, "1,1")
			client.waitLine(`^2$`)
			b.signal(how)
			b.exit()
			fmt.Fprintln(feed, "1,2")
			// Without the client's retry this one would fail now.
			_, err = pb.NewTaskServiceClient(b.conn).Submit(t.Context(), &pb.SubmitRequest{Function: "sum"})
			if status.Code(err) != codes.Unavailable {
				t.Errorf("in between, a call was answered with %v", err)
			}
			again := startBalancerAt(t, b.grpc)
			client.waitLine(`^3$`)
			again.eventually("the worker is back", func() bool { return again.worker("w") != nil })
			feed.Close()
			if code := client.exit(); code != 0 {
				t.Errorf("the client ended with %d", code)
			}
		})
	}
}

func TestRefusalsNameTheirReason(t *testing.T) {
	b := startBalancer(t, "--max-function-queued-tasks", "2", "--max-payload", "1024")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	submit(ctx, b.conn, "nobody", "1")
	submit(ctx, b.conn, "nobody", "2")
	b.eventually("the queue is full", func() bool { return b.info().GetQueued() == 2 })
	for _, c := range []struct {
		name   string
		req    *pb.SubmitRequest
		code   codes.Code
		reason string
	}{
		{"queue full", &pb.SubmitRequest{Function: "nobody"}, codes.ResourceExhausted, "QUEUE_FULL"},
		{"payload too large", &pb.SubmitRequest{Function: "f", Payload: make([]byte, 1025)}, codes.InvalidArgument, "PAYLOAD_TOO_LARGE"},
		{"nobody offers it", &pb.SubmitRequest{Function: "f", FailFast: true}, codes.Unavailable, "NO_WORKER"},
		{"bad task id", &pb.SubmitRequest{Function: "f", TaskId: "a b"}, codes.InvalidArgument, "TASK_ID"},
		{"bad function", &pb.SubmitRequest{Function: ""}, codes.InvalidArgument, "FUNCTION"},
	} {
		_, err := pb.NewTaskServiceClient(b.conn).Submit(ctx, c.req)
		if status.Code(err) != c.code || reason(err) != c.reason {
			t.Errorf("%s: got %v (%s), want %v · %s", c.name, err, reason(err), c.code, c.reason)
		}
	}
	stream, err := pb.NewWorkerServiceClient(b.conn).Work(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&pb.WorkRequest{Heartbeat: &pb.Heartbeat{}}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument || reason(err) != "REGISTER" {
		t.Errorf("a heartbeat before the registration: %v (%s)", err, reason(err))
	}
}
