package client

import (
	"fmt"
	"sync"
	"testing"
)

// BenchmarkSubmit is the SDK alone, against a balancer in the same process that
// echoes each frame.
func BenchmarkSubmit(b *testing.B) {
	for _, callers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprint("in-flight=", callers), func(b *testing.B) {
			c := benchClient(b)
			b.ReportAllocs()
			b.ResetTimer()
			var done sync.WaitGroup
			for g := range callers {
				done.Go(func() {
					for range share(b.N, callers, g) {
						if _, err := c.Submit(b.Context(), Task{Function: "echo", Payload: []byte("1,2,3,4,5")}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			done.Wait()
		})
	}
}

// BenchmarkSubmitFunc has no goroutine for each task.
func BenchmarkSubmitFunc(b *testing.B) {
	c := benchClient(b, WithMaxInFlight(1024))
	payload := []byte("1,2,3,4,5")
	b.ReportAllocs()
	b.ResetTimer()
	var done sync.WaitGroup
	done.Add(b.N)
	for range b.N {
		c.SubmitFunc(b.Context(), Task{Function: "echo", Payload: payload}, func(_ Outcome, err error) {
			if err != nil {
				b.Error(err)
			}
			done.Done()
		})
	}
	done.Wait()
}

// share is how many of n the gth of several does.
func share(n, of, g int) int {
	if g < n%of {
		return n/of + 1
	}
	return n / of
}

func benchClient(b *testing.B, opts ...Option) *Client {
	b.Helper()
	s := echoing(b)
	c := New(s.conn, opts...)
	b.Cleanup(func() { c.Close() })
	return c
}
