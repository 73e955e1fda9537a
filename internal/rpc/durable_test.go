package rpc

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/task"
)

// aboutOne is all calls about one task, by name.
func aboutOne(h *house, id string) map[string]func() (*pb.Task, error) {
	return map[string]func() (*pb.Task, error){
		"GetTask": func() (*pb.Task, error) {
			r, err := h.tasks.GetTask(h.ctx, &pb.GetTaskRequest{TaskId: id})
			return r.GetTask(), err
		},
		"WaitTask": func() (*pb.Task, error) {
			r, err := h.tasks.WaitTask(h.ctx, &pb.WaitTaskRequest{TaskId: id, Timeout: durationpb.New(time.Millisecond)})
			return r.GetTask(), err
		},
		"CancelTask": func() (*pb.Task, error) {
			r, err := h.tasks.CancelTask(h.ctx, &pb.CancelTaskRequest{TaskId: id})
			return r.GetTask(), err
		},
		"RetryTask": func() (*pb.Task, error) {
			r, err := h.tasks.RetryTask(h.ctx, &pb.RetryTaskRequest{TaskId: id})
			return r.GetTask(), err
		},
		"ExplainTask": func() (*pb.Task, error) {
			r, err := h.tasks.ExplainTask(h.ctx, &pb.ExplainTaskRequest{TaskId: id})
			return &pb.Task{TaskId: r.GetTaskId(), State: r.GetState()}, err
		},
	}
}

func TestCallsAboutATaskThatCanNotBeAnswered(t *testing.T) {
	h, k := serveShelf(t, dispatch.Options{})
	for id, want := range map[string]refused{
		"":    {codes.InvalidArgument, "TASK_ID", "task_id", false},
		"a/b": {codes.InvalidArgument, "TASK_ID", "task_id", false},
		"no":  {codes.NotFound, "TASK_NOT_FOUND", "", false},
	} {
		for name, call := range aboutOne(h, id) {
			t.Run(name+" "+id, func(t *testing.T) {
				_, err := call()
				wants(t, err, want)
			})
		}
	}
	for _, c := range []struct {
		err  error
		want refused
	}{
		{&dispatch.StoreError{Cause: errors.New("no space left")}, refused{codes.Unavailable, "STORE_UNAVAILABLE", "", true}},
		{dispatch.ErrDraining, refused{codes.Unavailable, "DRAINING", "", true}},
		{errors.New("secret"), refused{codes.Internal, "INTERNAL", "", false}},
	} {
		k.breaks(c.err)
		calls := aboutOne(h, "a")
		calls["ListTasks"] = func() (*pb.Task, error) {
			_, err := h.tasks.ListTasks(h.ctx, &pb.ListTasksRequest{})
			return nil, err
		}
		calls["PauseFunction"] = func() (*pb.Task, error) {
			_, err := h.admin.PauseFunction(h.ctx, &pb.PauseFunctionRequest{Function: "f"})
			return nil, err
		}
		for name, call := range calls {
			_, err := call()
			if wants(t, err, c.want); c.want.code == codes.Internal && status.Convert(err).Message() != bug {
				t.Errorf("%s tells the details of a bug: %v", name, err)
			}
		}
	}
}

func TestRetryAndCancel(t *testing.T) {
	h, k := serveShelf(t, dispatch.Options{})
	k.put(&task.Record{Task: task.Task{ID: "a", Function: "f"}, State: task.Running})
	_, err := h.tasks.RetryTask(h.ctx, &pb.RetryTaskRequest{TaskId: "a"})
	wants(t, err, refused{codes.FailedPrecondition, "TASK_NOT_FINISHED", "", false})
	c, err := h.tasks.CancelTask(h.ctx, &pb.CancelTaskRequest{TaskId: "a"})
	if err != nil || c.Task.State != pb.TaskState_TASK_STATE_CANCELLED || c.Task.Failure.GetReason() != "TASK_CANCELLED" || c.Task.FinishTime == nil {
		t.Errorf("cancel: %v, %v", c, err)
	}
	r, err := h.tasks.RetryTask(h.ctx, &pb.RetryTaskRequest{TaskId: "a"})
	if err != nil || r.Task.State != pb.TaskState_TASK_STATE_QUEUED || r.Task.Failure != nil {
		t.Errorf("retry: %v, %v", r, err)
	}
}

func TestWaitTaskAnswersInTime(t *testing.T) {
	h, k := serveShelf(t, dispatch.Options{})
	k.put(&task.Record{Task: task.Task{ID: "a", Function: "f"}, State: task.Queued})
	r, err := h.tasks.WaitTask(h.ctx, &pb.WaitTaskRequest{TaskId: "a", Timeout: durationpb.New(time.Millisecond)})
	if err != nil || r.Done || r.Task.State != pb.TaskState_TASK_STATE_QUEUED {
		t.Errorf("%v, %v: a task that is not done is an answer", r, err)
	}
	ctx, cancel := context.WithTimeout(h.ctx, time.Second)
	defer cancel()
	if r, err = h.tasks.WaitTask(ctx, &pb.WaitTaskRequest{TaskId: "a"}); err != nil || r.Done {
		t.Errorf("%v, %v: the answer comes before the call's own deadline", r, err)
	}
	got := make(chan error, 1)
	go func() {
		r, err := h.tasks.WaitTask(h.ctx, &pb.WaitTaskRequest{TaskId: "a"})
		if err == nil && (!r.Done || string(r.Task.Result) != "out") {
			err = fmt.Errorf("got %v, want the outcome", r)
		}
		got <- err
	}()
	h.eventually("the call waits", func() bool { return h.waiting() == 1 })
	k.put(&task.Record{Task: task.Task{ID: "a", Function: "f"}, State: task.Succeeded, Outcome: task.Outcome{State: task.Succeeded, Result: []byte("out")}})
	if err := <-got; err != nil {
		t.Error(err)
	}
	if r, err = h.tasks.WaitTask(h.ctx, &pb.WaitTaskRequest{TaskId: "a"}); err != nil || !r.Done {
		t.Errorf("%v, %v: want the outcome at once", r, err)
	}
	if n := h.waiting(); n != 0 {
		t.Errorf("%d calls are remembered", n)
	}
	for _, d := range []*durationpb.Duration{durationpb.New(-1), durationpb.New(10*time.Minute + 1), {Nanos: -1, Seconds: 1}} {
		_, err = h.tasks.WaitTask(h.ctx, &pb.WaitTaskRequest{TaskId: "a", Timeout: d})
		wants(t, err, refused{codes.InvalidArgument, "TIMEOUT", "timeout", false})
	}
}

// waiting is how many long polls are under way.
func (h *house) waiting() int {
	h.s.polls.mu.Lock()
	defer h.s.polls.mu.Unlock()
	return len(h.s.polls.under)
}

// slowStore is a shelf whose first look outlasts the wait.
type slowStore struct{ *shelf }

func (k slowStore) WaitTask(ctx context.Context, _ string) (*task.Record, error) {
	<-ctx.Done()
	return nil, &dispatch.StoreError{Cause: ctx.Err()}
}

func TestWaitTaskThatEndsWhileTheStoreIsAsked(t *testing.T) {
	k := &shelf{records: map[string]*task.Record{"a": {Task: task.Task{ID: "a"}, State: task.Queued}}}
	h := serveInside(t, dispatch.Options{}, Options{}, func(d *dispatch.Dispatcher) Inside { k.Dispatcher = d; return slowStore{k} })
	r, err := h.tasks.WaitTask(h.ctx, &pb.WaitTaskRequest{TaskId: "a", Timeout: durationpb.New(time.Millisecond)})
	if err != nil || r.Done || r.Task.TaskId != "a" {
		t.Errorf("%v, %v: want the task as it is", r, err)
	}
}

func TestDrainEndsWaits(t *testing.T) {
	h, k := serveShelf(t, dispatch.Options{})
	k.put(&task.Record{Task: task.Task{ID: "a", Function: "f"}, State: task.Queued})
	got := make(chan error, 1)
	go func() {
		_, err := h.tasks.WaitTask(h.ctx, &pb.WaitTaskRequest{TaskId: "a", Timeout: durationpb.New(10 * time.Minute)})
		got <- err
	}()
	h.eventually("the call waits", func() bool { return h.waiting() == 1 })
	if err := h.s.Drain(h.ctx); err != nil {
		t.Fatal(err)
	}
	wants(t, <-got, refused{codes.Unavailable, "DRAINING", "", true})
	ended := false
	if done := h.s.polls.begin(func() { ended = true }); !ended || !done() {
		t.Error("a call that comes after the end was not ended")
	}
}

func TestBeforeDeadline(t *testing.T) {
	for left, want := range map[time.Duration]time.Duration{
		-1: 0, 0: 0, time.Second: 900 * time.Millisecond, 5 * time.Second: 4500 * time.Millisecond, time.Minute: 59500 * time.Millisecond,
	} {
		if got := beforeDeadline(left); got != want {
			t.Errorf("with %v left a call waits %v, want %v", left, got, want)
		}
	}
}

func TestListTasks(t *testing.T) {
	h, k := serveShelf(t, dispatch.Options{})
	for i := range 7 {
		r := &task.Record{Task: task.Task{ID: fmt.Sprint("t", i), Function: "f", Payload: []byte("p")}, State: task.Queued}
		if i%2 == 1 {
			r.Function, r.State, r.Outcome.Result = "g", task.Succeeded, []byte("out")
			r.Attempts = []task.Attempt{{Number: 1}}
		}
		k.put(r)
	}
	list := func(req *pb.ListTasksRequest) (ids string, pages int) {
		for {
			resp, err := h.tasks.ListTasks(h.ctx, req)
			if err != nil {
				t.Fatal(err)
			}
			pages++
			for _, to := range resp.Tasks {
				ids += to.TaskId
				if to.Payload != nil || to.Result != nil || to.Attempts != nil {
					t.Errorf("a listing tells too much: %v", to)
				}
			}
			if req.PageToken = resp.NextPageToken; req.PageToken == "" {
				return ids, pages
			}
		}
	}
	for _, c := range []struct {
		req   *pb.ListTasksRequest
		ids   string
		pages int
	}{
		{&pb.ListTasksRequest{}, "t6t5t4t3t2t1t0", 1},
		{&pb.ListTasksRequest{PageSize: 3}, "t6t5t4t3t2t1t0", 3},
		{&pb.ListTasksRequest{PageSize: 1, Function: "g"}, "t5t3t1", 3},
		{&pb.ListTasksRequest{State: pb.TaskState_TASK_STATE_QUEUED}, "t6t4t2t0", 1},
		{&pb.ListTasksRequest{State: pb.TaskState_TASK_STATE_EXPIRED}, "", 1},
	} {
		if ids, pages := list(c.req); ids != c.ids || pages != c.pages {
			t.Errorf("%v: %s in %d pages, want %s in %d", c.req, ids, pages, c.ids, c.pages)
		}
	}
	for _, c := range []struct {
		req   *pb.ListTasksRequest
		field string
		why   string
	}{
		{&pb.ListTasksRequest{State: 8}, "state", "STATE"},
		{&pb.ListTasksRequest{State: -1}, "state", "STATE"},
		{&pb.ListTasksRequest{State: 257}, "state", "STATE"},
		{&pb.ListTasksRequest{Function: "a b"}, "function", "FUNCTION"},
		{&pb.ListTasksRequest{PageSize: 1001}, "page_size", "PAGE_SIZE"},
		{&pb.ListTasksRequest{PageToken: "?"}, "page_token", "PAGE_TOKEN"},
	} {
		_, err := h.tasks.ListTasks(h.ctx, c.req)
		wants(t, err, refused{codes.InvalidArgument, c.why, c.field, false})
	}
}
