package worker

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "reparto/gen/reparto/v1"
)

// poolWith holds finished jobs under the tokens.
func poolWith(t *testing.T, tokens ...uint64) *pool {
	p := newPool(t.Context(), Handlers{"f": echo}, &Options{Slots: 100}, nil)
	for _, token := range tokens {
		j := newJob(p, assignment("f", token), time.Now())
		*p.jobs.Add(token) = j
		p.finish(j)
	}
	return p
}

func tokensOf(f *frame) (tokens []uint64) {
	for _, r := range f.pb.GetTaskResults() {
		tokens = append(tokens, r.GetToken())
	}
	return tokens
}

func TestFramesStayBelowTheirBytes(t *testing.T) {
	p := poolWith(t, 1, 2, 3, 4, 5)
	for token, size := range map[uint64]int{1: 400, 2: 400, 3: 400, 4: 5000, 5: 1} {
		p.find(token).answer.Result = make([]byte, size)
	}
	lim := limits{payload: 1 << 20, frameTasks: 256, frameBytes: 1000}
	f := &frame{}
	for _, want := range [][]uint64{{1, 2}, {3}, {4}, {5}, {}} { // 4 is too large for any, and travels alone
		f.reset()
		p.take(f, lim)
		got := tokensOf(f)
		if len(got) != len(want) || len(got) > 0 && got[0] != want[0] {
			t.Errorf("took %v, want %v", got, want)
		}
		if size := proto.Size(&f.pb); size > lim.frameBytes && len(got) > 1 {
			t.Errorf("a frame of %v has %d bytes", got, size)
		}
	}
	if !f.empty() {
		t.Error("the last frame is not empty")
	}
}

func TestAnswerBytesIsAnUpperBound(t *testing.T) {
	long := string(make([]byte, 128))
	for _, a := range []*pb.TaskResult{
		{},
		{TaskId: long, Attempt: -1, Token: 1<<64 - 1, Result: make([]byte, 1<<20)},
		{TaskId: long, Attempt: 1 << 30, Token: 1, Failure: &pb.Failure{Reason: long, Message: string(make([]byte, 8<<10)), Retry: true, RetryAfterMs: -1}},
	} {
		size := proto.Size(&pb.WorkRequest{TaskResults: []*pb.TaskResult{a}})
		if bound := answerBytes(a); size > bound {
			t.Errorf("%d bytes, bound %d", size, bound)
		}
	}
}

func TestLimitsOfAnAck(t *testing.T) {
	for _, c := range []struct {
		ack  *pb.WorkerLimits
		want limits
	}{
		{nil, limits{4 << 20, 256, 1 << 20}},
		{&pb.WorkerLimits{MaxPayloadBytes: -1, MaxFrameTasks: -1, MaxMessageBytes: -1}, limits{4 << 20, 256, 1 << 20}},
		{&pb.WorkerLimits{MaxPayloadBytes: 1, MaxFrameTasks: 1, MaxMessageBytes: 1}, limits{1, 1, 1}},
		{&pb.WorkerLimits{MaxPayloadBytes: 1 << 40, MaxFrameTasks: 1 << 30, MaxMessageBytes: 1 << 40}, limits{1 << 40, 256, 1 << 20}},
	} {
		if got := limitsOf(c.ack); got != c.want {
			t.Errorf("%v means %+v, want %+v", c.ack, got, c.want)
		}
	}
}
