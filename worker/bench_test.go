package worker

import (
	"context"
	"fmt"
	"testing"

	pb "reparto/gen/reparto/v1"
)

// BenchmarkRun is the SDK alone: a balancer with no logic gives out tasks of 9
// bytes in frames, always so many in flight, over a connection in memory. Both
// sides' gRPC is in the figures.
func BenchmarkRun(b *testing.B) {
	for _, inFlight := range []int{1, 64, 1024} {
		b.Run(fmt.Sprint(inFlight, " in flight"), func(b *testing.B) { benchmarkRun(b, inFlight, true) })
	}
	b.Run("64 in flight, waiting for Done", func(b *testing.B) {
		benchmarkRun(b, 64, false)
	})
}

func benchmarkRun(b *testing.B, inFlight int, quick bool) {
	fake := newBalancer(b)
	w := start(b, fake, Handlers{"f": func(ctx context.Context, t Task) ([]byte, error) {
		if !quick {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			default:
			}
		}
		return t.Payload, nil
	}}, Options{Slots: 512, Prefetch: 512})
	k := fake.accept(b)
	pile := make([]*pb.AssignTask, 256)
	for i := range pile {
		pile[i] = assignment("f", 0)
		pile[i].Payload = []byte("1,2,3,4,5")
	}
	give, answered := 0, 0
	b.ReportAllocs()
	for token := uint64(0); b.Loop(); {
		for give < inFlight { // what was answered is given out again
			n := min(inFlight-give, len(pile))
			for _, a := range pile[:n] {
				token++
				a.Token = token
			}
			k.say(&pb.WorkResponse{AssignTasks: pile[:n]})
			give += n
		}
		if answered == 0 {
			answered = len((<-k.in).GetTaskResults())
			give -= answered
		}
		answered--
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
	b.StopTimer()
	w.stop()
	k.goodbye()
	w.wantNil()
}

// BenchmarkPool is what a task costs between its arrival and its place in a
// frame.
func BenchmarkPool(b *testing.B) {
	p := newPool(b.Context(), Handlers{"f": echo}, &Options{Slots: 512}, nil)
	lim := limitsOf(nil)
	tasks := make([]*pb.AssignTask, 256)
	for i := range tasks {
		tasks[i] = assignment("f", uint64(i))
	}
	var f frame
	left := 0
	b.ReportAllocs()
	for b.Loop() {
		if left == 0 {
			if err := p.add(tasks); err != nil {
				b.Fatal(err)
			}
			for left < len(tasks) {
				<-p.ready
				for more := true; more; more = len(f.jobs) > 0 {
					f.reset()
					p.take(&f, lim)
					left += len(f.jobs)
				}
			}
		}
		left--
	}
	p.close()
	p.wait(nil)
}
