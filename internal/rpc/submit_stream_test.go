package rpc

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/task"
)

func TestStreamTellsItsLimitsFirst(t *testing.T) {
	h := serve(t, dispatch.Options{MaxPayload: 1000, MaxTimeout: time.Hour}, Options{MaxMessage: 9999, MaxInFlight: 77})
	want := &pb.ClientLimits{MaxPayloadBytes: 1000, MaxMessageBytes: 9999, MaxFrameTasks: 256, MaxInFlight: 77,
		ServerId: h.d.ID(), MaxTimeoutMs: 3_600_000}
	if got := h.client().limits; !proto.Equal(got, want) {
		t.Errorf("limits %v, want %v", got, want)
	}
}

func TestStreamConversation(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	h.worker("w1", 8, "echo", "bad").work(func(a *pb.AssignTask) *pb.TaskResult {
		if a.Function == "bad" {
			return &pb.TaskResult{Failure: &pb.Failure{Reason: "BAD", Message: "very"}}
		}
		return echo(a)
	})
	c := h.client()
	c.submit(streamTask(1, "echo", "one"), streamTask(2, "bad", ""), streamTask(3, "no good", ""),
		&pb.StreamTask{Number: 4, Function: "echo", Text: proto.String("vier"), TaskId: "mine"},
		&pb.StreamTask{Number: 5, Function: "nobody", FailFast: true},
		&pb.StreamTask{Number: 6, Function: "nobody", TimeoutMs: 1},
		&pb.StreamTask{Number: 7, Function: "echo", Payload: []byte("x"), Text: proto.String("y")})
	c.submit(&pb.StreamTask{Number: 8, Function: "echo", Payload: []byte("other"), TaskId: "mine"},
		&pb.StreamTask{Number: 9, Function: "echo", TimeoutMs: -1},
		&pb.StreamTask{Number: 10, Function: "echo", AttemptTimeoutMs: 1 << 62})
	if o := c.outcome(1); string(o.Result) != "one" || o.WorkerId != "w1" || o.Attempt != 1 || o.TaskId == "" || o.Error != nil {
		t.Errorf("1: %v", o)
	}
	if o := c.outcome(2); o.Failure.GetReason() != "BAD" || o.Failure.Message != "very" || o.Error != nil {
		t.Errorf("2: %v", o)
	}
	if o := c.outcome(4); o.GetText() != "vier" || o.TaskId != "mine" || o.Result != nil {
		t.Errorf("4: %v", o)
	}
	for number, want := range map[uint64]refused{
		3:  {codes.InvalidArgument, "FUNCTION", "", false},
		5:  {codes.Unavailable, "NO_WORKER", "", true},
		6:  {codes.DeadlineExceeded, "TASK_EXPIRED", "", false},
		7:  {codes.InvalidArgument, "PAYLOAD", "", false},
		8:  {codes.AlreadyExists, "TASK_ID_CONFLICT", "", false},
		9:  {codes.InvalidArgument, "TIMEOUT", "", false},
		10: {codes.InvalidArgument, "ATTEMPT_TIMEOUT", "", false},
	} {
		e := c.outcome(number).Error
		if got := (refused{codes.Code(e.GetCode()), e.GetReason(), "", e.GetRetryAfterMs() > 0}); got != want || e.GetMessage() == "" {
			t.Errorf("%d: %v, want %+v", number, e, want)
		}
	}
	c.submit(streamTask(1, "echo", "again")) // the number is free again
	if o := c.outcome(1); string(o.Result) != "again" {
		t.Errorf("1 again: %v", o)
	}
}

func TestHalfCloseGetsEveryOutcomeThenOK(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	c := h.client()
	for i := range uint64(4) {
		var frame []*pb.StreamTask
		for j := range uint64(dispatch.MaxFrameTasks) { // as many as a frame may hold
			frame = append(frame, streamTask(i*1000+j, "echo", fmt.Sprint(j)))
		}
		c.submit(frame...)
	}
	c.stream.CloseSend()
	h.eventually("all are queued", func() bool { return h.d.Info().Queued == 4*dispatch.MaxFrameTasks })
	h.worker("w1", 100, "echo").work(echo)
	if err := c.end(); err != nil {
		t.Fatalf("the stream ended with %v, want OK", err)
	}
	if len(c.got) != 4*dispatch.MaxFrameTasks {
		t.Fatalf("%d outcomes, want %d", len(c.got), 4*dispatch.MaxFrameTasks)
	}
	for _, o := range c.got {
		if string(o.Result) != fmt.Sprint(o.Number%1000) {
			t.Fatalf("number %d: %v", o.Number, o)
		}
	}
}

func TestEmptyStreamEndsWithOK(t *testing.T) {
	c := serve(t, dispatch.Options{}, Options{}).client()
	c.send(&pb.SubmitStreamRequest{})
	c.stream.CloseSend()
	if err := c.end(); err != nil || len(c.got) > 0 {
		t.Fatalf("%v, %v; want OK and nothing", c.got, err)
	}
}

func TestNumberInFlightTwiceEndsTheStream(t *testing.T) {
	for what, frames := range map[string][][]*pb.StreamTask{
		"in two frames": {{streamTask(1, "f", "")}, {streamTask(2, "f", ""), streamTask(1, "f", "")}},
		"in one frame":  {{streamTask(1, "f", ""), streamTask(1, "f", "")}},
	} {
		h := serve(t, dispatch.Options{}, Options{})
		c := h.client()
		for _, f := range frames {
			c.submit(f...)
		}
		wants(t, c.end(), refused{codes.InvalidArgument, "NUMBER", "number", false})
		h.eventually(what+": the stream's tasks leave", func() bool { return h.d.Info().Queued == 0 })
	}
}

func TestFrameOfTooManyTasksEndsTheStream(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	c := h.client()
	frame := make([]*pb.StreamTask, dispatch.MaxFrameTasks+1)
	for i := range frame {
		frame[i] = streamTask(uint64(i), "f", "")
	}
	c.submit(frame...)
	err := c.end()
	wants(t, err, refused{codes.InvalidArgument, "TASKS", "tasks", false})
	if !strings.Contains(err.Error(), "257") || h.d.Info().Queued != 0 {
		t.Fatalf("%v with %d queued, want the number named and nothing kept", err, h.d.Info().Queued)
	}
}

func TestCancelByNumber(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	c, w := h.client(), h.worker("w1", 1, "f")
	c.submit(streamTask(1, "f", "a"), streamTask(2, "f", "b"))
	a := w.task()
	c.send(&pb.SubmitStreamRequest{CancelNumbers: []uint64{1, 2, 2, 99}})
	for n := range uint64(2) {
		if e := c.outcome(n + 1).Error; e.GetReason() != "TASK_CANCELLED" || codes.Code(e.GetCode()) != codes.Canceled {
			t.Fatalf("number %d: %v, want TASK_CANCELLED", n+1, e)
		}
	}
	if got := w.cancelled(); got.Token != a.Token || got.Reason != task.CancelClientGone {
		t.Fatalf("the worker was told %v", got)
	}
	w.answer(a, "late")
	c.stream.CloseSend()
	if err := c.end(); err != nil || len(c.got) > 0 {
		t.Fatalf("more came: %v, %v", c.got, err)
	}
}

func TestCancelInTheFrameOfItsTask(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	c := h.client()
	c.send(&pb.SubmitStreamRequest{Tasks: []*pb.StreamTask{streamTask(1, "f", "")}, CancelNumbers: []uint64{1}})
	if e := c.outcome(1).Error; e.GetReason() != "TASK_CANCELLED" {
		t.Fatalf("%v, want TASK_CANCELLED", e)
	}
	h.eventually("the task leaves", func() bool { return h.d.Info().Queued == 0 })
}

func TestBrokenStreamCancelsWhatItHad(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{})
	c, w := h.client(), h.worker("w1", 1, "f")
	c.submit(streamTask(1, "f", "a"), streamTask(2, "f", "b"))
	a := w.task()
	c.cancel()
	if got := w.cancelled(); got.Token != a.Token || got.Reason != task.CancelClientGone {
		t.Fatalf("the worker was told %v", got)
	}
	h.eventually("nothing is left", func() bool { return h.d.Info().Queued+h.d.Info().Running == 0 })
}

// A client that has as much in flight as it may is not read from.
func TestMaxInFlightStopsReading(t *testing.T) {
	h := serve(t, dispatch.Options{}, Options{MaxInFlight: 4})
	c := h.client()
	for i := range uint64(10) {
		c.submit(streamTask(i, "f", fmt.Sprint(i)))
	}
	h.eventually("four are taken", func() bool { return h.d.Info().Queued == 4 })
	for range 20 { // each round trip comes after the frames above
		info, err := h.admin.GetServerInfo(h.ctx, &pb.GetServerInfoRequest{})
		if err != nil || info.Queued != 4 {
			t.Fatalf("%v, %v: want 4 tasks taken and no more", info, err)
		}
	}
	w := h.worker("w1", 1, "f")
	for i := range 10 { // and as outcomes are sent, reading goes on
		a := w.task()
		if string(a.Payload) != fmt.Sprint(i) {
			t.Fatalf("task %s came in place %d", a.Payload, i)
		}
		w.answer(a, "")
		c.outcome(uint64(i))
	}
}

// results fills the client's window: enough of them that a send must block.
const (
	large = 256 << 10
	many  = 32
)

func submitLarge(c *client) {
	for i := range uint64(many) {
		c.submit(streamTask(i, "large", ""))
	}
}

func largeResult(*pb.AssignTask) *pb.TaskResult { return &pb.TaskResult{Result: make([]byte, large)} }

func TestSlowConsumerIsCutOff(t *testing.T) {
	for what, result := range map[string]func(*pb.AssignTask) *pb.TaskResult{
		"results": largeResult,
		"failures": func(*pb.AssignTask) *pb.TaskResult {
			return &pb.TaskResult{Failure: &pb.Failure{Message: strings.Repeat("x", large)}}
		},
	} {
		t.Run(what, func(t *testing.T) {
			h := serve(t, dispatch.Options{SendLimit: time.Hour}, Options{MaxOutbox: 4 * large})
			c, w := h.client(), h.worker("w0", 1, "wait")
			c.submit(streamTask(1000, "wait", ""))
			w.task()
			h.worker("w1", many, "large").work(result)
			submitLarge(c)
			w.cancelled() // the stream has ended, though its writer hangs in a send
			wants(t, c.end(), refused{codes.ResourceExhausted, "SLOW_CONSUMER", "", true})
			for _, o := range c.got {
				if proto.Size(o) > large+1000 {
					t.Fatalf("outcome of %d bytes", proto.Size(o))
				}
			}
		})
	}
}

func TestFramesOfOutcomesStaySmall(t *testing.T) {
	c := answers(3, answer{o: task.Outcome{Failure: &task.Failure{Message: strings.Repeat("x", dispatch.MaxFrameBytes/2)}}})
	if n := fitting(c); n != 2 {
		t.Errorf("%d failures of half a frame went into one, want 2", n)
	}
	if n := fitting(answers(2, answer{o: task.Outcome{Result: make([]byte, dispatch.MaxFrameBytes+1)}})); n != 1 {
		t.Errorf("%d results larger than a frame went into one, want 1", n)
	}
	if n := fitting(answers(dispatch.MaxFrameTasks+1, answer{})); n != dispatch.MaxFrameTasks {
		t.Errorf("%d outcomes went into a frame, want %d", n, dispatch.MaxFrameTasks)
	}
}

func answers(n int, a answer) []answer {
	all := make([]answer, n)
	for i := range all {
		all[i] = a
	}
	return all
}

func TestClientThatDoesNotReadIsCutOff(t *testing.T) {
	h := serve(t, dispatch.Options{SendLimit: 100 * time.Millisecond}, Options{})
	c, w := h.client(), h.worker("w0", 1, "wait")
	c.submit(streamTask(1000, "wait", ""))
	w.task()
	h.worker("w1", many, "large").work(largeResult)
	submitLarge(c)
	if got := w.cancelled(); got.Reason != task.CancelClientGone {
		t.Fatalf("the worker was told %v", got)
	}
	wants(t, c.end(), refused{codes.Aborted, "SEND_BLOCKED", "", true})
}

func TestBugInAStreamEndsItAlone(t *testing.T) {
	log := &lines{}
	in := &buggy{}
	h := serveInside(t, dispatch.Options{}, Options{Log: log.logger()}, in.wrap)
	c := h.client()
	in.bad.Store(true)
	c.submit(streamTask(1, "f", ""))
	wants(t, c.end(), refused{codes.Internal, "INTERNAL", "", false})
	in.bad.Store(false)
	if err := errors.Join(log.has("a call panicked"), log.has("buggy")); err != nil {
		t.Error(err)
	}
	h.worker("w1", 1, "f").work(echo)
	if o := func() *pb.StreamOutcome { c := h.client(); c.submit(streamTask(1, "f", "x")); return c.outcome(1) }(); string(o.Result) != "x" {
		t.Errorf("the next stream got %v", o)
	}
}
