package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/grpc"
	channelzpb "google.golang.org/grpc/channelz/grpc_channelz_v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/balance"
	"reparto/internal/dispatch"
	"reparto/internal/rpc"
	"reparto/internal/store/memory"
	"reparto/internal/task"
	"reparto/worker"
)

// watched is a balancer with an HTTP port, and a connection to it.
type watched struct {
	*testing.T
	s    *Server
	conn *grpc.ClientConn
	end  context.CancelFunc
	done chan error
}

func watch(t *testing.T, o Options) *watched {
	t.Helper()
	o.Address, o.HTTP.Address = "127.0.0.1:0", "127.0.0.1:0"
	s, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	w := &watched{T: t, s: s, end: end, done: make(chan error, 1)}
	go func() { w.done <- s.Run(ctx) }()
	w.conn, err = grpc.NewClient(s.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.conn.Close()
		end()
		<-w.done
	})
	return w
}

func (w *watched) get(path, accept string) (code int, contentType string, body []byte) {
	w.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+w.s.HTTPAddr().String()+path, nil)
	if err != nil {
		w.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), body
}

// series are the values of all series in the text format, by name and labels.
func (w *watched) series() map[string]string {
	w.Helper()
	_, _, body := w.get("/metrics", "")
	found := map[string]string{}
	for line := range strings.Lines(string(body)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "} "); ok {
			found[name+"}"] = value
		} else if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			found[name] = value
		}
	}
	return found
}

func (w *watched) want(values map[string]string) {
	w.Helper()
	got := w.series()
	for name, value := range values {
		if got[name] != value {
			w.Errorf("%s is %q, want %q", name, got[name], value)
		}
	}
}

func (w *watched) eventually(what string, is func() bool) {
	w.Helper()
	for limit := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			w.Fatalf("it never came to be that %s", what)
		}
	}
}

// hire runs a worker until the function that it returns is called.
func (w *watched) hire(handlers worker.Handlers) (leave func()) {
	w.Helper()
	ctx, cancel := context.WithCancel(w.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = worker.Run(ctx, w.conn, handlers, worker.Options{ID: "w", Slots: 4}) })
	w.eventually("the worker is there", func() bool { return w.s.dispatch.Info().Sessions > 0 })
	return func() {
		cancel()
		running.Wait()
	}
}

func (w *watched) submit(function string) error {
	_, err := pb.NewTaskServiceClient(w.conn).Submit(w.Context(), &pb.SubmitRequest{Function: function, FailFast: true})
	return err
}

func TestMetricsSayWhatHasHappened(t *testing.T) {
	w := watch(t, Options{Store: "memory:"})
	leave := w.hire(worker.Handlers{
		"good": func(context.Context, worker.Task) ([]byte, error) { return nil, nil },
		"bad":  func(context.Context, worker.Task) ([]byte, error) { return nil, errors.New("no") },
	})
	for range 3 {
		if err := w.submit("good"); err != nil {
			t.Fatal(err)
		}
	}
	_ = w.submit("bad")
	if err := w.submit("nobody's"); status.Code(err) != codes.InvalidArgument {
		t.Fatal(err)
	}
	if err := w.submit("nobodys"); status.Code(err) != codes.Unavailable {
		t.Fatal(err)
	}
	resp, err := pb.NewTaskServiceClient(w.conn).Enqueue(t.Context(), &pb.EnqueueRequest{Tasks: []*pb.EnqueueTask{{Function: "later"}, {Function: "?"}}})
	if err != nil || resp.Results[0].Error != nil || resp.Results[1].Error == nil {
		t.Fatal(resp, err)
	}
	w.want(map[string]string{
		`reparto_tasks_submitted_total{function="good"}`:                                "3",
		`reparto_tasks_finished_total{function="good",state="SUCCEEDED"}`:               "3",
		`reparto_tasks_finished_total{function="bad",state="FAILED"}`:                   "1",
		`reparto_queued_tasks{function="later"}`:                                        "1",
		`reparto_dispatch_latency_seconds_count{function="good"}`:                       "3",
		`reparto_run_seconds_count{function="good"}`:                                    "3",
		`reparto_calls_refused_total{code="InvalidArgument",reason="INVALID_ARGUMENT"}`: "1",
		`reparto_calls_refused_total{code="Unavailable",reason="NO_WORKER"}`:            "1",
		`reparto_tasks_refused_total{reason="INVALID_ARGUMENT"}`:                        "1",
		`reparto_workers`: "1", `reparto_slots`: "4", `reparto_free_slots`: "4", `reparto_store_up`: "1", `reparto_draining`: "0",
		`reparto_text_peers{kind="client"}`: "0",
		`grpc_server_handled_total{grpc_code="OK",grpc_method="Submit",grpc_service="reparto.v1.TaskService",grpc_type="unary"}`: "4",
	})
	if got := w.series()[`reparto_store_seconds_count{operation="write"}`]; got == "" || got == "0" {
		t.Errorf("%q writes to the store were measured", got)
	}
	leave()
	// A function that nobody needs any more keeps what was counted.
	w.want(map[string]string{
		`reparto_tasks_submitted_total{function="good"}`: "3", `reparto_workers`: "0", `reparto_slots`: "0",
	})
	if promtool, err := exec.LookPath("promtool"); err == nil {
		_, _, body := w.get("/metrics", "")
		check := exec.Command(promtool, "check", "metrics")
		check.Stdin = bytes.NewReader(body)
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("promtool: %v\n%s", err, out)
		}
	} else {
		t.Log("SKIPPED: promtool is not installed; nobody else looks at the metrics")
	}
}

// TestHistogramsAreNativeToo: whoever asks for protobuf gets buckets of which each is
// 9 % wider than the one before.
func TestHistogramsAreNativeToo(t *testing.T) {
	w := watch(t, Options{})
	leave := w.hire(worker.Handlers{"f": func(context.Context, worker.Task) ([]byte, error) {
		time.Sleep(20 * time.Millisecond)
		return nil, nil
	}})
	defer leave()
	for range 5 {
		if err := w.submit("f"); err != nil {
			t.Fatal(err)
		}
	}
	_, kind, body := w.get("/metrics", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	decoder := expfmt.NewDecoder(bytes.NewReader(body), expfmt.ResponseFormat(http.Header{"Content-Type": {kind}}))
	for {
		var family dto.MetricFamily
		if err := decoder.Decode(&family); err != nil {
			t.Fatalf("reparto_run_seconds was not found: %v", err)
		}
		if family.GetName() != "reparto_run_seconds" {
			continue
		}
		h := family.GetMetric()[0].GetHistogram()
		if h.GetSampleCount() != 5 || h.GetSchema() != 3 || len(h.GetBucket()) == 0 || h.GetSampleSum() < 0.1 {
			t.Fatalf("%v", h)
		}
		// All five took 20 ms or more: so does the bucket of the first.
		first := h.GetPositiveSpan()[0].GetOffset()
		if end := math.Exp2(float64(first) / 8); end < 0.020 || end > 1 {
			t.Errorf("the first bucket ends at %g s", end)
		}
		return
	}
}

// TestSeriesAreBounded: functions beyond the limit are counted together.
func TestSeriesAreBounded(t *testing.T) {
	w := watch(t, Options{Store: "memory:", Dispatch: dispatch.Options{Balance: balance.Options{MaxMeasured: 2}}})
	var tasks []*pb.EnqueueTask
	for i := range 5 {
		tasks = append(tasks, &pb.EnqueueTask{Function: fmt.Sprint("f", i)})
	}
	if _, err := pb.NewTaskServiceClient(w.conn).Enqueue(t.Context(), &pb.EnqueueRequest{Tasks: tasks}); err != nil {
		t.Fatal(err)
	}
	w.want(map[string]string{
		`reparto_queued_tasks{function="f0"}`: "1", `reparto_queued_tasks{function="f1"}`: "1", `reparto_queued_tasks{function="f2"}`: "",
		`reparto_queued_tasks{function="_other"}`: "3", `reparto_tasks_submitted_total{function="_other"}`: "3",
	})
}

// brokenStore can't write.
type brokenStore struct{ *memory.Store }

func (brokenStore) Write([]task.Change) error { return errors.New("the disk is full") }

func TestReadiness(t *testing.T) {
	w := watch(t, Options{Store: "memory:", DrainTimeout: time.Minute})
	ready := func(code int, says string) {
		t.Helper()
		w.eventually(fmt.Sprint("readiness is ", code), func() bool { got, _, _ := w.get("/readyz", ""); return got == code })
		if _, _, body := w.get("/readyz", ""); !strings.Contains(string(body), says) {
			t.Errorf("it says %q, want %q", body, says)
		}
		if got, _, _ := w.get("/healthz", ""); got != http.StatusOK {
			t.Errorf("it is not alive: %d", got)
		}
	}
	ready(http.StatusOK, "ready")
	if got, _, _ := w.get("/debug/pprof/", ""); got != http.StatusNotFound {
		t.Errorf("profiles are served unasked: %d", got)
	}
	hold, held := make(chan struct{}), make(chan struct{})
	leave := w.hire(worker.Handlers{"f": func(context.Context, worker.Task) ([]byte, error) {
		close(held)
		<-hold
		return nil, nil
	}})
	submitted := make(chan error, 1)
	go func() { submitted <- w.submit("f") }()
	<-held
	w.end() // it drains as long as the task runs
	ready(http.StatusServiceUnavailable, "draining")
	w.want(map[string]string{"reparto_draining": "1", `reparto_running_tasks{function="f"}`: "1"})
	close(hold)
	if err := <-submitted; err != nil {
		t.Error(err)
	}
	leave()
}

func TestNotReadyWithoutItsStore(t *testing.T) {
	w := watch(t, Options{Dispatch: dispatch.Options{Store: brokenStore{memory.New()}}})
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _ = pb.NewTaskServiceClient(w.conn).Enqueue(soon, &pb.EnqueueRequest{Tasks: []*pb.EnqueueTask{{Function: "f"}}})
	w.eventually("the store's failure shows", func() bool {
		code, _, body := w.get("/readyz", "")
		return code == http.StatusServiceUnavailable && strings.Contains(string(body), "the disk is full")
	})
	w.want(map[string]string{"reparto_store_up": "0"})
}

func TestProfilesOnRequest(t *testing.T) {
	w := watch(t, Options{HTTP: HTTP{Pprof: true}})
	if code, _, body := w.get("/debug/pprof/goroutine?debug=1", ""); code != http.StatusOK || !strings.Contains(string(body), "goroutine profile") {
		t.Errorf("%d: %.100s", code, body)
	}
}

// TestChannelzOnRequest: tools that know grpc.channelz.v1 find it, when it is asked
// for.
func TestChannelzOnRequest(t *testing.T) {
	for _, served := range []bool{true, false} {
		w := watch(t, Options{RPC: rpc.Options{Channelz: served}})
		resp, err := channelzpb.NewChannelzClient(w.conn).GetServers(t.Context(), &channelzpb.GetServersRequest{})
		if served && (err != nil || len(resp.GetServer()) == 0) || !served && status.Code(err) != codes.Unimplemented {
			t.Errorf("served %v: %v, %v", served, resp, err)
		}
	}
}
