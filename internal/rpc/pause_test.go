package rpc

import (
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
)

func TestPauseAndResume(t *testing.T) {
	h, k := serveShelf(t, dispatch.Options{})
	for i, c := range []struct{ pause, was bool }{{false, false}, {true, false}, {true, true}, {false, true}, {false, false}} {
		var was bool
		var err error
		if c.pause {
			r, e := h.admin.PauseFunction(h.ctx, &pb.PauseFunctionRequest{Function: "f"})
			was, err = r.GetWasPaused(), e
		} else {
			r, e := h.admin.ResumeFunction(h.ctx, &pb.ResumeFunctionRequest{Function: "f"})
			was, err = r.GetWasPaused(), e
		}
		if err != nil || was != c.was || k.paused["f"] != c.pause {
			t.Errorf("step %d: was paused %v, %v; want %v", i, was, err, c.was)
		}
	}
	want := refused{codes.InvalidArgument, "FUNCTION", "function", false}
	_, err := h.admin.PauseFunction(h.ctx, &pb.PauseFunctionRequest{})
	wants(t, err, want)
	_, err = h.admin.ResumeFunction(h.ctx, &pb.ResumeFunctionRequest{Function: "a b"})
	wants(t, err, want)
	k.breaks(&dispatch.StoreError{Cause: errors.New("full")})
	_, err = h.admin.ResumeFunction(h.ctx, &pb.ResumeFunctionRequest{Function: "f"})
	wants(t, err, refused{codes.Unavailable, "STORE_UNAVAILABLE", "", true})
}

func TestDrainWorker(t *testing.T) {
	h, _ := serveShelf(t, dispatch.Options{})
	if _, err := h.admin.DrainWorker(h.ctx, &pb.DrainWorkerRequest{WorkerId: "w1"}); err != nil {
		t.Error(err)
	}
	_, err := h.admin.DrainWorker(h.ctx, &pb.DrainWorkerRequest{WorkerId: "w2"})
	wants(t, err, refused{codes.NotFound, "WORKER_NOT_FOUND", "", false})
	for _, id := range []string{"", "a b"} {
		_, err = h.admin.DrainWorker(h.ctx, &pb.DrainWorkerRequest{WorkerId: id})
		wants(t, err, refused{codes.InvalidArgument, "WORKER_ID", "worker_id", false})
	}
}

func TestServerInfoTellsOfTheStore(t *testing.T) {
	h, k := serveShelf(t, dispatch.Options{})
	info, err := h.admin.GetServerInfo(h.ctx, &pb.GetServerInfoRequest{})
	if err != nil || info.Store != "shelf" || info.StoreError != "" {
		t.Errorf("%v, %v", info, err)
	}
	k.breaks(errors.New("no space left"))
	if info, err = h.admin.GetServerInfo(h.ctx, &pb.GetServerInfoRequest{}); err != nil || info.StoreError != "no space left" {
		t.Errorf("%v, %v", info, err)
	}
}

func TestStoreHealth(t *testing.T) {
	says := func(h *house, service string) healthpb.HealthCheckResponse_ServingStatus {
		r, err := healthpb.NewHealthClient(h.conn).Check(h.ctx, &healthpb.HealthCheckRequest{Service: service})
		if err != nil {
			t.Fatal(err)
		}
		return r.Status
	}
	const up, down = healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING
	h, _ := serveShelf(t, dispatch.Options{})
	for _, c := range []struct {
		tell func()
		want healthpb.HealthCheckResponse_ServingStatus
	}{
		{func() {}, up}, {func() { h.s.StoreHealth(false) }, down}, {func() { h.s.StoreHealth(false) }, down}, {func() { h.s.StoreHealth(true) }, up},
	} {
		c.tell()
		if got := says(h, enqueueHealth); got != c.want {
			t.Errorf("the health of Enqueue is %v, want %v", got, c.want)
		}
		if all, tasks := says(h, ""), says(h, "reparto.v1.TaskService"); all != up || tasks != up {
			t.Errorf("the health of all is %v, of TaskService %v: both go on", all, tasks)
		}
	}
	if got := says(serve(t, dispatch.Options{}, Options{}), enqueueHealth); got != down {
		t.Errorf("without a store the health of Enqueue is %v", got)
	}
}
