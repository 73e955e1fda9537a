package rpc

import (
	"errors"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
)

func TestTaskLines(t *testing.T) {
	log := &lines{}
	h := serve(t, dispatch.Options{Log: log.logger()}, Options{Log: log.logger()})
	w := h.worker("w1", 1, "f")
	got := submitting(h, &pb.SubmitRequest{Function: "f"})
	a := w.task()
	w.answer(a, "x")
	<-got
	c := h.client()
	c.submit(streamTask(1, "f", ""))
	b := w.task()
	w.answer(b, "y")
	c.outcome(1)
	for _, id := range []string{a.TaskId, b.TaskId} {
		h.eventually("the last line is written", func() bool { return log.has(`msg="result sent" task_id=`+id) == nil })
		at := -1
		for _, msg := range []string{"task received", "task assigned", "result received", "result sent"} {
			line := `msg="` + msg + `" task_id=` + id
			next := strings.Index(log.String(), line)
			if next <= at {
				t.Errorf("%s is missing or out of order in %s", line, log.String())
			}
			at = next
		}
	}
	if err := errors.Join(log.has(`msg="worker registered" worker_id=w1 remote=`), log.has("finished call")); err != nil {
		t.Error(err)
	}
}

// A connection is a client's once it has submitted, and is told of once.
func TestClientConnectedLine(t *testing.T) {
	log := &lines{}
	h := serve(t, dispatch.Options{}, Options{Log: log.logger()})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() { h.s.Serve(l) })
	t.Cleanup(served.Wait)
	t.Cleanup(h.s.Close)
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	pb.NewAdminServiceClient(conn).GetServerInfo(h.ctx, &pb.GetServerInfoRequest{})
	if log.has("client connected") == nil {
		t.Error("one who only looks was taken for a client")
	}
	for range 2 {
		pb.NewTaskServiceClient(conn).Submit(h.ctx, &pb.SubmitRequest{Function: "f", FailFast: true})
	}
	if n := strings.Count(log.String(), `msg="client connected" remote=127.0.0.1:`); n != 1 {
		t.Errorf("%d lines for one connection: %s", n, log.String())
	}
}
