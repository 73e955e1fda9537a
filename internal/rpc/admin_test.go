package rpc

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/balance"
	"reparto/internal/dispatch"
)

func TestListWorkers(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	w := h.register(&pb.Register{WorkerId: "w1", Functions: []string{"sum", "echo"}, Slots: 3,
		Labels: map[string]string{"zone": "a"}, Build: "v1"})
	got := submitting(h, &pb.SubmitRequest{Function: "sum", TaskId: "mine"})
	a := w.task()
	w.send(&pb.WorkRequest{Progress: []*pb.Progress{{Token: a.Token, Percent: 250, Message: "soon"}, {Token: 1, Percent: 5}}})
	var seen *pb.Worker
	h.eventually("the progress is shown", func() bool {
		resp, err := h.admin.ListWorkers(h.ctx, &pb.ListWorkersRequest{})
		if err != nil || len(resp.Workers) != 1 || resp.NextPageToken != "" {
			t.Fatalf("%v, %v", resp, err)
		}
		seen = resp.Workers[0]
		return seen.Running[0].ProgressPercent == 100
	})
	if seen.WorkerId != "w1" || seen.SessionId != w.ack.SessionId || seen.Address == "" || !slices.Equal(seen.Functions, []string{"sum", "echo"}) ||
		seen.Slots != 3 || seen.FreeSlots != 2 || seen.Labels["zone"] != "a" || seen.Build != "v1" || seen.Draining ||
		seen.ConnectedFor.AsDuration() <= 0 || seen.TasksDone != 0 {
		t.Errorf("worker %v", seen)
	}
	if r := seen.Running[0]; r.TaskId != "mine" || r.Function != "sum" || r.Attempt != 1 || r.Cancelled || r.ProgressMessage != "soon" {
		t.Errorf("running %v", r)
	}
	w.send(&pb.WorkRequest{Drain: &pb.Drain{}})
	w.answer(a, "x")
	<-got
	resp, err := h.admin.ListWorkers(h.ctx, &pb.ListWorkersRequest{Function: "echo"})
	if err != nil || len(resp.Workers) != 1 || resp.Workers[0].TasksDone != 1 || !resp.Workers[0].Draining || len(resp.Workers[0].Running) != 0 {
		t.Errorf("%v, %v: want one task done, draining", resp, err)
	}
	if resp, err = h.admin.ListWorkers(h.ctx, &pb.ListWorkersRequest{Function: "other"}); err != nil || len(resp.Workers) != 0 {
		t.Errorf("for a function that nobody offers: %v, %v", resp, err)
	}
	_, err = h.admin.ListWorkers(h.ctx, &pb.ListWorkersRequest{Function: "a b"})
	wants(t, err, refused{codes.InvalidArgument, "FUNCTION", "function", false})
}

func TestPages(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	var want []string
	for i := range 7 {
		id := fmt.Sprintf("w%d", i)
		want = append(want, id)
	}
	for _, i := range []int{3, 0, 6, 1, 5, 2, 4} {
		h.worker(want[i], 1, "shared", "of-"+want[i])
	}
	for size, pages := range map[int32]int{0: 1, 1: 7, 2: 4, 3: 3, 6: 2, 7: 1, 8: 1, 1000: 1} {
		var ids []string
		req := &pb.ListWorkersRequest{PageSize: size, Function: "shared"}
		n := 0
		for more := true; more; n++ {
			resp, err := h.admin.ListWorkers(h.ctx, req)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range resp.Workers {
				ids = append(ids, w.WorkerId)
			}
			req.PageToken, more = resp.NextPageToken, resp.NextPageToken != ""
		}
		if n != pages || !slices.Equal(ids, want) {
			t.Errorf("pages of %d: %d of them with %v, want %d with %v", size, n, ids, pages, want)
		}
	}
	var names []string
	req := &pb.ListFunctionsRequest{PageSize: 5}
	for more := true; more; {
		resp, err := h.admin.ListFunctions(h.ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range resp.Functions {
			names = append(names, f.Name)
		}
		req.PageToken, more = resp.NextPageToken, resp.NextPageToken != ""
	}
	if len(names) != 8 || !slices.IsSorted(names) || names[7] != "shared" {
		t.Errorf("functions %v, want eight in order", names)
	}
}

func TestBadPages(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	size := refused{codes.InvalidArgument, "PAGE_SIZE", "page_size", false}
	token := refused{codes.InvalidArgument, "PAGE_TOKEN", "page_token", false}
	for _, c := range []struct {
		size  int32
		token string
		want  refused
	}{{-1, "", size}, {1001, "", size}, {1, "not base64!", token}, {1, string(make([]byte, 500)), token}} {
		_, err := h.admin.ListWorkers(h.ctx, &pb.ListWorkersRequest{PageSize: c.size, PageToken: c.token})
		wants(t, err, c.want)
		_, err = h.admin.ListFunctions(h.ctx, &pb.ListFunctionsRequest{PageSize: c.size, PageToken: c.token})
		wants(t, err, c.want)
	}
}

func TestListFunctions(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	w := h.worker("w1", 2, "sum")
	got := submitting(h, &pb.SubmitRequest{Function: "sum"})
	w.answer(w.task(), "x")
	<-got
	got = submitting(h, &pb.SubmitRequest{Function: "sum"})
	w.fail(w.task(), &pb.Failure{})
	<-got
	submitting(h, &pb.SubmitRequest{Function: "sum"})
	w.task()
	submitting(h, &pb.SubmitRequest{Function: "later", Payload: []byte("12345")})
	h.eventually("the last is queued", func() bool { return h.d.Info().Queued == 1 })
	resp, err := h.admin.ListFunctions(h.ctx, &pb.ListFunctionsRequest{})
	if err != nil || len(resp.Functions) != 2 {
		t.Fatalf("%v, %v", resp, err)
	}
	later, sum := resp.Functions[0], resp.Functions[1]
	if later.Name != "later" || later.Queued != 1 || later.QueuedBytes < 5 || later.Workers != 0 || later.OldestAge == nil || later.Submitted != 1 {
		t.Errorf("later: %v", later)
	}
	if sum.Name != "sum" || sum.Workers != 1 || sum.FreeSlots != 1 || sum.Running != 1 || sum.OldestAge != nil || sum.Submitted != 3 ||
		sum.Succeeded != 1 || sum.Failed != 1 || sum.SubmittedPerSecond <= 0 || sum.FinishedPerSecond <= 0 {
		t.Errorf("sum: %v", sum)
	}
}

func TestGetServerInfo(t *testing.T) {
	h := serve(t, dispatch.Options{Heartbeat: 7 * time.Second, Balance: balance.Options{MaxQueuedTasks: 123}}, Options{Version: "v9"})
	h.worker("w1", 1, "sum")
	got, err := h.admin.GetServerInfo(h.ctx, &pb.GetServerInfoRequest{})
	if err != nil || got.Uptime.AsDuration() <= 0 {
		t.Fatalf("%v, %v", got, err)
	}
	if off := time.Since(got.Time.AsTime()); off < 0 || off > patience {
		t.Errorf("its clock is %v behind", off)
	}
	got.Uptime, got.Time = nil, nil
	want := &pb.GetServerInfoResponse{
		Version: "v9", GoVersion: runtime.Version(), ServerId: h.d.ID(), Workers: 1,
		Limits: &pb.ServerLimits{
			MaxPayloadBytes: 4 << 20, MaxMessageBytes: 16 << 20, MaxQueuedTasks: 123, MaxBytes: 1 << 30,
			MaxFunctionQueuedTasks: 100_000, MaxFunctionQueuedBytes: 256 << 20,
			DefaultTimeout: durationpb.New(5 * time.Minute), MaxTimeout: durationpb.New(24 * time.Hour),
			HeartbeatInterval: durationpb.New(7 * time.Second),
		},
	}
	if !proto.Equal(got, want) {
		t.Errorf("info %v, want %v", got, want)
	}
}
