package worker

import (
	"context"
	"math"
	"slices"
	"strings"

	pb "reparto/gen/reparto/v1"
)

// maxProgressLen is the contract's bound on the message, in bytes.
const maxProgressLen = 1024

// ReportProgress tells the balancer how far a task is, for whoever looks at its
// workers. ctx is the handler's, or derived from it; with any other, and after
// the handler has returned, nothing happens.
//
// percent is put into 0 to 100, and message is cut at 1024 bytes. The report
// travels with the next frame; of several that are made before it leaves, the
// last counts. It never blocks, may be called as often as one likes and from any
// goroutine, and may get lost with a connection.
func ReportProgress(ctx context.Context, percent float64, message string) {
	j, ok := ctx.Value(jobKey{}).(*job)
	if !ok {
		return
	}
	if math.IsNaN(percent) {
		percent = 0
	}
	j.pool.report(j, &pb.Progress{
		Token:   j.answer.Token,
		Percent: min(max(percent, 0), 100),
		Message: cut(strings.ToValidUTF8(message, "\uFFFD"), maxProgressLen),
	})
}

func (p *pool) report(j *job, news *pb.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if j.state != running {
		return
	}
	if j.progress == nil { // else it is listed
		p.news = append(p.news, j)
	}
	j.progress = news
	p.signal()
}

// takeProgress moves news of jobs that still run into the frame, as many as fit
// beside the size bytes in it. The caller holds p.mu.
func (p *pool) takeProgress(f *frame, lim limits, size int) {
	taken := 0
	for _, j := range p.news {
		size += len(j.progress.Message) + 32
		if len(f.pb.Progress) == lim.frameTasks || size > lim.frameBytes && !f.empty() {
			break
		}
		if j.state == running {
			f.pb.Progress = append(f.pb.Progress, j.progress)
		}
		j.progress = nil
		taken++
	}
	p.news = slices.Delete(p.news, 0, taken)
}
