package server

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/auth"
	"reparto/internal/legacy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var rewrite = flag.Bool("rewrite", false, "write the tables of access into docs/security.md")

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// kinds are the callers of the table, in its columns.
var kinds = []struct{ name, is string }{
	{"nobody", "no credentials"},
	{"wrong", "a token that is not in the file"},
	{"expired", "a token whose time is over"},
	{"client", "may submit for `sum`"},
	{"other", "may submit for `images.*` alone"},
	{"worker", "may work for `sum`"},
	{"admin", "may administer, and nothing else"},
}

// town is a balancer with a file of principals.
type town struct {
	t      *testing.T
	ctx    context.Context
	file   string
	tokens map[string]string // by kind
	conn   *grpc.ClientConn
	s      *Server
}

// newTown starts a balancer in which text is the right of the text ports'
// principal, lines of YAML.
func newTown(t *testing.T, text string) *town {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	w := &town{t: t, ctx: ctx, file: filepath.Join(t.TempDir(), "auth.yaml"), tokens: map[string]string{}}
	var yaml strings.Builder
	yaml.WriteString("principals:\n")
	add := func(name, rights string) {
		token, hash := auth.NewToken()
		w.tokens[name] = token
		fmt.Fprintf(&yaml, "  - {name: %s, tokens: [%s], %s}\n", name, hash, rights)
	}
	add("client", `submit: [sum]`)
	add("other", `submit: ["images.*"]`)
	add("worker", `work: [sum]`)
	add("admin", `administer: true`)
	add("bird", `submit: ["*"]`)
	token, hash := auth.NewToken()
	w.tokens["expired"] = token
	fmt.Fprintf(&yaml, "  - {name: late, tokens: [{hash: %q, expires: 2020-01-01T00:00:00Z}], submit: [sum]}\n", hash)
	w.tokens["wrong"], _ = auth.NewToken()
	yaml.WriteString(text)
	w.write(yaml.String())
	s, err := Listen(Options{
		Address: "127.0.0.1:0", Auth: w.file, DrainTimeout: time.Second,
		Legacy: legacy.Options{ClientAddress: "127.0.0.1:0", WorkerAddress: "127.0.0.1:0", ReportInterval: 20 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.s = s
	serve, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(serve) })
	if w.conn, err = grpc.NewClient(s.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.conn.Close()
		stop()
		running.Wait()
		cancel()
	})
	return w
}

func (w *town) write(yaml string) {
	w.t.Helper()
	if err := os.WriteFile(w.file, []byte(yaml), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// as is a context in which calls are made by a kind of caller.
func (w *town) as(kind string) context.Context {
	if token := w.tokens[kind]; token != "" {
		return metadata.AppendToOutgoingContext(w.ctx, "authorization", "Bearer "+token)
	}
	return w.ctx
}

// cell is what a caller learns: OK, or a code and a reason.
func cell(err error) string {
	st := status.Convert(err)
	if st.Code() == codes.OK {
		return "OK"
	}
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return st.Code().String() + " · " + info.Reason
		}
	}
	return st.Code().String() + " · " + st.Message()
}

// framed is the same of an error in a frame.
func framed(e *pb.Error) error {
	if e == nil {
		return nil
	}
	st, err := status.New(codes.Code(e.Code), e.Message).WithDetails(&errdetails.ErrorInfo{Reason: e.Reason})
	if err != nil {
		return err
	}
	return st.Err()
}

// row is a call of the table.
type row struct {
	name string
	call func(context.Context) error
}

// adapters numbers those that report.
var adapters atomic.Int64

// calls are the rows: each RPC, about the task of another client where it is about
// a task, and for the function sum.
func (w *town) calls(theirs string) []row {
	tasks, admin := pb.NewTaskServiceClient(w.conn), pb.NewAdminServiceClient(w.conn)
	return []row{
		{"TaskService.Submit", func(ctx context.Context) error {
			_, err := tasks.Submit(ctx, &pb.SubmitRequest{Function: "sum", FailFast: true})
			return err
		}},
		{"TaskService.SubmitStream", func(ctx context.Context) error {
			stream, err := tasks.SubmitStream(ctx)
			if err != nil {
				return err
			}
			_ = stream.Send(&pb.SubmitStreamRequest{Tasks: []*pb.StreamTask{{Number: 1, Function: "sum", FailFast: true}}})
			for {
				frame, err := stream.Recv()
				if err != nil {
					return err
				}
				for _, o := range frame.GetOutcomes() {
					_ = stream.CloseSend()
					return framed(o.Error)
				}
			}
		}},
		{"TaskService.Enqueue", func(ctx context.Context) error {
			resp, err := tasks.Enqueue(ctx, &pb.EnqueueRequest{Tasks: []*pb.EnqueueTask{{Function: "sum"}}})
			if err != nil {
				return err
			}
			return framed(resp.Results[0].Error)
		}},
		{"TaskService.GetTask", func(ctx context.Context) error {
			_, err := tasks.GetTask(ctx, &pb.GetTaskRequest{TaskId: theirs})
			return err
		}},
		{"TaskService.WaitTask", func(ctx context.Context) error {
			_, err := tasks.WaitTask(ctx, &pb.WaitTaskRequest{TaskId: theirs})
			return err
		}},
		{"TaskService.ListTasks", func(ctx context.Context) error {
			_, err := tasks.ListTasks(ctx, &pb.ListTasksRequest{})
			return err
		}},
		{"TaskService.ExplainTask", func(ctx context.Context) error {
			_, err := tasks.ExplainTask(ctx, &pb.ExplainTaskRequest{TaskId: theirs})
			return err
		}},
		{"TaskService.CancelTask", func(ctx context.Context) error {
			_, err := tasks.CancelTask(ctx, &pb.CancelTaskRequest{TaskId: theirs})
			return err
		}},
		{"TaskService.RetryTask", func(ctx context.Context) error {
			_, err := tasks.RetryTask(ctx, &pb.RetryTaskRequest{TaskId: theirs})
			return err
		}},
		{"WorkerService.Work", func(ctx context.Context) error { return w.register(ctx, "sum") }},
		{"AdminService.ListWorkers", func(ctx context.Context) error {
			_, err := admin.ListWorkers(ctx, &pb.ListWorkersRequest{})
			return err
		}},
		{"AdminService.DrainWorker", func(ctx context.Context) error {
			_, err := admin.DrainWorker(ctx, &pb.DrainWorkerRequest{WorkerId: "steady"})
			return err
		}},
		{"AdminService.ListFunctions", func(ctx context.Context) error {
			_, err := admin.ListFunctions(ctx, &pb.ListFunctionsRequest{})
			return err
		}},
		{"AdminService.PauseFunction", func(ctx context.Context) error {
			_, err := admin.PauseFunction(ctx, &pb.PauseFunctionRequest{Function: "idle"})
			return err
		}},
		{"AdminService.ResumeFunction", func(ctx context.Context) error {
			_, err := admin.ResumeFunction(ctx, &pb.ResumeFunctionRequest{Function: "idle"})
			return err
		}},
		{"AdminService.ListTextPeers", func(ctx context.Context) error {
			_, err := admin.ListTextPeers(ctx, &pb.ListTextPeersRequest{})
			return err
		}},
		{"AdminService.ReportTextPeers", func(ctx context.Context) error {
			id := fmt.Sprint("adapter-", adapters.Add(1)) // of its own: an id belongs to its first principal
			_, err := admin.ReportTextPeers(ctx, &pb.ReportTextPeersRequest{AdapterId: id, Run: "1"})
			return err
		}},
		{"AdminService.GetServerInfo", func(ctx context.Context) error {
			_, err := admin.GetServerInfo(ctx, &pb.GetServerInfoRequest{})
			return err
		}},
		{"grpc.health.v1.Health.Check", func(ctx context.Context) error {
			_, err := healthpb.NewHealthClient(w.conn).Check(ctx, &healthpb.HealthCheckRequest{})
			return err
		}},
		{"grpc.health.v1.Health.Watch", func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			stream, err := healthpb.NewHealthClient(w.conn).Watch(ctx, &healthpb.HealthCheckRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}},
		{"grpc.reflection.v1.ServerReflection", func(ctx context.Context) error {
			stream, err := reflectionpb.NewServerReflectionClient(w.conn).ServerReflectionInfo(ctx)
			if err != nil {
				return err
			}
			_ = stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
			_, err = stream.Recv()
			_ = stream.CloseSend()
			return err
		}},
	}
}

// register opens a Work stream that registers for a function, and leaves.
func (w *town) register(ctx context.Context, function string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := pb.NewWorkerServiceClient(w.conn).Work(ctx)
	if err != nil {
		return err
	}
	_ = stream.Send(&pb.WorkRequest{Register: &pb.Register{WorkerId: "passing", Slots: 1, Functions: []string{function}}})
	_, err = stream.Recv()
	return err
}

const textBoth = `  - {name: text, submit: ["*"], work: ["*"]}` + "\n"

// TestWhoMayDoWhat asks every RPC as every kind of caller and holds the answers
// against the table in docs/security.md.
func TestWhoMayDoWhat(t *testing.T) {
	w := newTown(t, textBoth)
	w.steady()
	var table strings.Builder
	table.WriteString("| call |")
	for _, k := range kinds {
		fmt.Fprintf(&table, " %s |", k.name)
	}
	table.WriteString("\n|---|" + strings.Repeat("---|", len(kinds)) + "\n")
	about := map[string][]row{}
	for _, k := range kinds {
		about[k.name] = w.calls(w.theirs())
	}
	named := map[string]bool{}
	for _, r := range about["nobody"] {
		named[r.name] = true
	}
	for _, d := range []grpc.ServiceDesc{pb.TaskService_ServiceDesc, pb.WorkerService_ServiceDesc, pb.AdminService_ServiceDesc} {
		service := strings.TrimPrefix(d.ServiceName, "reparto.v1.") + "."
		for _, m := range d.Methods {
			if !named[service+m.MethodName] {
				t.Errorf("%s%s is not asked by anybody", service, m.MethodName)
			}
		}
		for _, m := range d.Streams {
			if !named[service+m.StreamName] {
				t.Errorf("%s%s is not asked by anybody", service, m.StreamName)
			}
		}
	}
	for i, r := range about["nobody"] {
		fmt.Fprintf(&table, "| `%s` |", r.name)
		for _, k := range kinds {
			ctx, cancel := context.WithTimeout(w.as(k.name), patience/2)
			fmt.Fprintf(&table, " %s |", cell(about[k.name][i].call(ctx)))
			cancel()
		}
		table.WriteString("\n")
	}
	table.WriteString("\n")
	for _, k := range kinds {
		fmt.Fprintf(&table, "- *%s*: %s\n", k.name, k.is)
	}
	inDocument(t, "access", table.String())
}

// steady is a worker that serves sum as long as the test lasts.
func (w *town) steady() {
	w.t.Helper()
	stream, err := pb.NewWorkerServiceClient(w.conn).Work(w.as("worker"))
	if err != nil {
		w.t.Fatal(err)
	}
	_ = stream.Send(&pb.WorkRequest{Register: &pb.Register{WorkerId: "steady", Slots: 8, Functions: []string{"sum"}}})
	if _, err := stream.Recv(); err != nil {
		w.t.Fatal(err)
	}
	var answers sync.WaitGroup
	answers.Go(func() { // until the balancer ends the stream
		for {
			frame, err := stream.Recv()
			if err != nil {
				return
			}
			for _, a := range frame.GetAssignTasks() {
				_ = stream.Send(&pb.WorkRequest{TaskResults: []*pb.TaskResult{{TaskId: a.TaskId, Attempt: a.Attempt, Token: a.Token}}})
			}
		}
	})
	w.t.Cleanup(answers.Wait)
}

// theirs enqueues a task as other, whose function nobody serves, and
// cancels it.
func (w *town) theirs() string {
	w.t.Helper()
	tasks := pb.NewTaskServiceClient(w.conn)
	resp, err := tasks.Enqueue(w.as("other"), &pb.EnqueueRequest{Tasks: []*pb.EnqueueTask{{Function: "images.resize"}}})
	if err != nil || resp.Results[0].Error != nil {
		w.t.Fatal(err, resp)
	}
	id := resp.Results[0].TaskId
	if _, err := tasks.CancelTask(w.as("other"), &pb.CancelTaskRequest{TaskId: id}); err != nil {
		w.t.Fatal(err)
	}
	return id
}

// inDocument holds a table against the one between its marks in docs/security.md,
// or writes it there.
func inDocument(t *testing.T, mark, table string) {
	t.Helper()
	const file = "../../docs/security.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+mark+" -->\n", "<!-- /"+mark+" -->"
	before, rest, ok := strings.Cut(string(text), begin)
	was, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no marks %s and %s", file, begin, end)
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(before+begin+table+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if was != table {
		t.Errorf("the table is now\n%s\nand in %s it is\n%s\n(after a look at it: go test ./internal/server -run %s -rewrite)", table, file, was, t.Name())
	}
}
