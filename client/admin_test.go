package client

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "reparto/gen/reparto/v1"
)

func TestWorkersGoFromPageToPage(t *testing.T) {
	k := newKeeper(t)
	k.ofWork = func(req *pb.ListWorkersRequest) (*pb.ListWorkersResponse, error) {
		if req.GetFunction() != "f" {
			t.Errorf("asked for %v", req)
		}
		if req.GetPageToken() == "" {
			return &pb.ListWorkersResponse{NextPageToken: "more", Workers: []*pb.Worker{{
				WorkerId: "a", Slots: 4, FreeSlots: 3, Draining: true, ConnectedFor: durationpb.New(time.Minute), TasksDone: 7,
				Running: []*pb.Running{{TaskId: "t", Attempt: 2, ProgressPercent: 50, RunningFor: durationpb.New(time.Second)}},
			}}}, nil
		}
		return nil, errBroken
	}
	c := k.client(WithConnectTimeout(50 * time.Millisecond))
	var got []WorkerInfo
	for w, err := range c.Workers(t.Context(), "f") {
		if err != nil {
			wantError(t, err, "NO_CONNECTION")
			continue
		}
		got = append(got, w)
	}
	if len(got) != 1 {
		t.Fatalf("%+v", got)
	}
	w := got[0]
	if w.ID != "a" || w.Slots != 4 || w.FreeSlots != 3 || !w.Draining || w.Connected != time.Minute || w.Done != 7 || len(w.Running) != 1 {
		t.Errorf("%+v", w)
	}
	if a := w.Running[0]; a != (Assignment{TaskID: "t", Attempt: 2, Percent: 50, Running: time.Second}) {
		t.Errorf("%+v", a)
	}
}

func TestFunctionsGoFromPageToPage(t *testing.T) {
	k := newKeeper(t)
	k.ofFunc = func(req *pb.ListFunctionsRequest) (*pb.ListFunctionsResponse, error) {
		if req.GetPageToken() == "" {
			return &pb.ListFunctionsResponse{NextPageToken: "more"}, nil
		}
		return &pb.ListFunctionsResponse{Functions: []*pb.Function{{Name: "f", Queued: 3, OldestAge: durationpb.New(time.Hour), Paused: true}}}, nil
	}
	n := 0
	for f, err := range k.client().Functions(t.Context()) {
		n++
		if err != nil || f != (FunctionInfo{Name: "f", Queued: 3, OldestAge: time.Hour, Paused: true}) {
			t.Errorf("%+v, %v", f, err)
		}
	}
	if n != 1 {
		t.Errorf("%d functions", n)
	}
}
