package proxies

import (
	"bytes"
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"reparto/client"
	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/worker"
)

// nobody is an address at which there is no balancer.
const nobody = "127.0.0.1:9"

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, worker.DialOptions(nil)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestAllKindsOfCallsPass(t *testing.T) {
	each(t, func(t *testing.T, program string) {
		b := startBalancer(t, dispatch.Options{})
		p := startProxy(t, program, b, b)
		startCrew(t, p.direct[0])
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()

		text := "a"
		resp, err := pb.NewTaskServiceClient(dial(t, p.address)).Submit(ctx, &pb.SubmitRequest{Function: "echo", Text: &text})
		if err != nil || resp.GetText() != text {
			t.Errorf("Submit: %v, %v", resp, err)
		}
		c := dialSDK(t, p.address)
		mustEcho(t, c, "b")
		large := bytes.Repeat([]byte("0123456789abcdef"), 4<<20/16)
		mustEcho(t, c, string(large))
		id, err := c.Enqueue(ctx, client.DurableTask{Function: "echo", Payload: large})
		if err != nil {
			t.Fatal(err)
		}
		if out, err := c.Wait(ctx, id); err != nil || !bytes.Equal(out.Result, large) {
			t.Errorf("Wait: %d bytes, %v", len(out.Result), err)
		}
	})
}

// TestManyUnaryCallsAtATime: each is open for as long as its task takes.
func TestManyUnaryCallsAtATime(t *testing.T) {
	each(t, func(t *testing.T, program string) {
		b := startBalancer(t, dispatch.Options{})
		p := startProxy(t, program, b, b)
		w := startCrew(t, p.direct[0])
		stub := pb.NewTaskServiceClient(dial(t, p.address))
		const calls = 200 // more than either takes as it comes
		done := make(chan error, calls)
		for range calls {
			go func() {
				_, err := stub.Submit(t.Context(), &pb.SubmitRequest{Function: "hold"})
				done <- err
			}()
		}
		for range calls {
			await(t, "all tasks run at once", w.began)
		}
		close(w.letGo)
		for range calls {
			if err := await(t, "all calls are answered", done); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// silence returns once the proxy has cut a stream on which nothing passed since.
func silence(t *testing.T, p *proxy) {
	t.Helper()
	began := time.Now()
	watch, err := healthpb.NewHealthClient(dial(t, p.address)).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	cut := make(chan error, 1)
	go func() {
		for {
			if _, err := watch.Recv(); err != nil {
				cut <- err
				return
			}
		}
	}()
	err = await(t, "a silent stream is cut", cut)
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Fatalf("a silent stream was cut after %v already: %v", took, err)
	}
}

func TestHeartbeatsKeepAnIdleWorker(t *testing.T) {
	each(t, func(t *testing.T, program string) {
		b := startBalancer(t, dispatch.Options{Heartbeat: 200 * time.Millisecond})
		p := startProxy(t, program, b, b, short[program]...)
		w, c := startCrew(t, p.direct[0]), dialSDK(t, p.address)
		mustEcho(t, c, "before")
		silence(t, p)
		silence(t, p)
		if took := mustEcho(t, c, "after"); took > time.Second {
			t.Errorf("a task after the silence took %v", took)
		}
		if n := w.registered.Load(); n != 1 {
			t.Errorf("the worker registered %d times, though its heartbeats pass", n)
		}
	})
}

func TestAWorkerThatWasCutIsBackAtOnce(t *testing.T) {
	each(t, func(t *testing.T, program string) {
		b := startBalancer(t, dispatch.Options{Heartbeat: time.Hour})
		p := startProxy(t, program, b, b, short[program]...)
		w, c := startCrew(t, p.direct[0]), dialSDK(t, p.address)
		mustEcho(t, c, "before")
		silence(t, p)
		silence(t, p)
		if took := mustEcho(t, c, "after"); took > time.Second {
			t.Errorf("a task after the silence took %v", took)
		}
		if n := w.registered.Load(); n < 2 {
			t.Error("the worker's stream was not cut: this tests nothing")
		}
	})
}
