package client

import (
	"fmt"
	"net"
	"sync"
	"testing"

	"reparto/internal/dispatch"
	"reparto/internal/rpc"
	"reparto/internal/store/file"
)

// BenchmarkEnqueue is the SDK, a balancer in the same process and a directory on
// the disk.
func BenchmarkEnqueue(b *testing.B) {
	for _, callers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprint("in-flight=", callers), func(b *testing.B) {
			c := keeping(b)
			b.ReportAllocs()
			b.ResetTimer()
			var done sync.WaitGroup
			for g := range callers {
				done.Go(func() {
					for range share(b.N, callers, g) {
						if _, err := c.Enqueue(b.Context(), DurableTask{Function: "sum", Payload: []byte("1,2,3,4,5")}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			done.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
		})
	}
}

// BenchmarkEnqueueAll is one caller with many tasks.
func BenchmarkEnqueueAll(b *testing.B) {
	c := keeping(b)
	tasks := make([]DurableTask, b.N)
	for i := range tasks {
		tasks[i] = DurableTask{Function: "sum", Payload: []byte("1,2,3,4,5")}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i, r := range c.EnqueueAll(b.Context(), tasks) {
		if r.Err != nil {
			b.Fatalf("task %d: %v", i, r.Err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
}

// BenchmarkEnqueueAlone is the SDK against a balancer that keeps nothing.
func BenchmarkEnqueueAlone(b *testing.B) {
	k := newKeeper(b)
	k.forget = true
	c := k.client()
	b.ReportAllocs()
	b.ResetTimer()
	var done sync.WaitGroup
	for g := range 1024 {
		done.Go(func() {
			for range share(b.N, 1024, g) {
				if _, err := c.Enqueue(b.Context(), DurableTask{Function: "sum", Payload: []byte("1,2,3,4,5")}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	done.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
}

// keeping is a Client of a balancer that keeps tasks in a directory.
func keeping(b *testing.B) *Client {
	b.Helper()
	store, err := file.Open(b.TempDir(), file.Options{})
	if err != nil {
		b.Fatal(err)
	}
	d, err := dispatch.Open(dispatch.Options{Store: store})
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := rpc.NewServer(d, rpc.Options{})
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.Serve(l); err != nil {
			b.Error(err)
		}
	})
	c, err := Dial(l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		c.Close()
		s.Close()
		d.Close()
		store.Close()
		serving.Wait()
	})
	return c
}
