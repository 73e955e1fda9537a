package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	pb "reparto/gen/reparto/v1"
)

// smallDisk mounts a file system of 96 MiB in memory, where that may be done.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: a small disk can't be mounted here: %v %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	return dir
}

// On a full disk nothing is enqueued, and everybody can see why; what is submitted
// goes on. When there is room again, all is well by itself.
func TestAFullDisk(t *testing.T) {
	disk := smallDisk(t)
	b := startBalancer(t, "--store", "file:"+filepath.Join(disk, "data"))
	startWorker(t, b, "w")
	tasks := pb.NewTaskServiceClient(b.conn)
	enqueue := func() *pb.Enqueued {
		t.Helper()
		resp, err := tasks.Enqueue(t.Context(), &pb.EnqueueRequest{Tasks: []*pb.EnqueueTask{{Function: "sum", Payload: []byte("1,2")}}})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetResults()[0]
	}
	healthy := func() bool {
		resp, err := healthpb.NewHealthClient(b.conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: "reparto.v1.TaskService/Enqueue"})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetStatus() == healthpb.HealthCheckResponse_SERVING
	}
	before := enqueue()
	if before.GetError() != nil || !healthy() {
		t.Fatalf("with room on the disk: %v, healthy: %v", before, healthy())
	}

	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 60<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := enqueue().GetError()
	if refused.GetReason() != "STORE_UNAVAILABLE" || refused.GetRetryAfterMs() == 0 {
		t.Fatalf("on a full disk: %v", refused)
	}
	if healthy() || b.info().GetStoreError() == "" {
		t.Errorf("nobody can see that the store fails: healthy %v, info %q", healthy(), b.info().GetStoreError())
	}
	if got := outcome(t, submit(t.Context(), b.conn, "sum", "3,4")); got.GetText() != "7" {
		t.Errorf("Submit on a full disk: %v", got)
	}

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	b.eventually("it is well again", func() bool { return healthy() && b.info().GetStoreError() == "" })
	after := enqueue()
	for _, e := range []*pb.Enqueued{before, after} {
		resp, err := tasks.WaitTask(t.Context(), &pb.WaitTaskRequest{TaskId: e.GetTaskId()})
		if err != nil || string(resp.GetTask().GetResult()) != "3" {
			t.Errorf("%v: %v, %v", e, resp, err)
		}
	}
}

// A second balancer keeps away from the first one's directory, and says why.
func TestTwoBalancersOnOneDirectory(t *testing.T) {
	dir := "file:" + t.TempDir()
	startBalancer(t, "--store", dir)
	second := start(t, "balancer", "--grpc", "127.0.0.1:0", "--legacy-clients", "", "--legacy-workers", "", "--store", dir)
	second.waitLine(`balancer: .*in use by another`)
	if code := second.exit(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
}
