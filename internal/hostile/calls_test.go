package hostile

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"unicode"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/classic"
	"reparto/internal/server"
)

// raw sends bytes as they are.
type raw struct{}

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}
func (raw) Unmarshal(b mem.BufferSlice, v any) error { *v.(*[]byte) = b.Materialize(); return nil }
func (raw) Name() string                             { return "proto" }

var _ encoding.CodecV2 = raw{}

// field is a string field of a message.
func field(number protowire.Number, text string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), text)
}

// TestMessagesThatAreNone sends bad UTF-8 and bytes that are no message.
func TestMessagesThatAreNone(t *testing.T) {
	attack(t, func(w *town) {
		for _, message := range [][]byte{
			field(1, "\xff\xfe"), field(4, "id\xc3\x28"), {0xff, 0xff, 0xff}, bytes.Repeat([]byte{0x0b}, 10_000),
			append(field(1, "echo"), protowire.AppendTag(nil, 2, protowire.BytesType)...),
		} {
			var answer []byte
			if err := w.conn.Invoke(w.ctx, pb.TaskService_Submit_FullMethodName, &message, &answer, grpc.ForceCodecV2(raw{})); err == nil {
				t.Errorf("%.20x was taken", message)
			}
			for _, method := range []string{pb.TaskService_SubmitStream_FullMethodName, pb.WorkerService_Work_FullMethodName} {
				s, err := w.conn.NewStream(w.ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method, grpc.ForceCodecV2(raw{}))
				if err != nil {
					t.Fatal(err)
				}
				framed := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), message)
				_ = s.SendMsg(&framed)
				_ = s.CloseSend()
				for err == nil {
					err = s.RecvMsg(&answer)
				}
				if err == io.EOF && method == pb.WorkerService_Work_FullMethodName { // a stream of tasks may refuse the task alone
					t.Errorf("%s took %.20x", method, framed)
				}
			}
		}
	})
}

// page is where a log goes.
type page struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (p *page) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all.Write(b)
}

// TestControlCharacters puts them wherever a peer may name something, and looks for
// them in the log.
func TestControlCharacters(t *testing.T) {
	const bad = "\x1b[2J\x1b]0;owned\x07\u202e\x00\x7f"
	for name, handler := range map[string]func(io.Writer) slog.Handler{
		"text": func(w io.Writer) slog.Handler {
			return slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})
		},
		"json": func(w io.Writer) slog.Handler {
			return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})
		},
		"classic": func(w io.Writer) slog.Handler { return classic.New(w, classic.Options{Role: classic.LoadBalancer}) },
	} {
		t.Run(name, func(t *testing.T) {
			var log page
			attackOn(t, func(o *server.Options) { o.Log = slog.New(handler(&log)) }, func(w *town) {
				c, k := w.dial(w.s.Legacy().ClientAddr()), w.dial(w.s.Legacy().WorkerAddr())
				fmt.Fprintf(c, "TASK|%s|1\nNONSENSE|%s\n", bad, bad)
				fmt.Fprintf(k, "REGISTER|%s\nNONSENSE|%s\n", bad, bad)
				tasks := pb.NewTaskServiceClient(w.conn)
				for _, r := range []*pb.SubmitRequest{
					{Function: bad}, {Function: "echo", TaskId: bad}, {Function: "echo", Metadata: map[string]string{bad: bad}},
				} {
					_, _ = tasks.Submit(w.ctx, r)
				}
				w.work(&pb.Register{WorkerId: bad, Slots: 1, Functions: []string{"f"}})
				w.work(&pb.Register{WorkerId: "w", Slots: 1, Functions: []string{"f"}, Build: bad, Labels: map[string]string{"k": bad}})
				w.eventually("the text peers are logged", func() bool {
					log.mu.Lock()
					defer log.mu.Unlock()
					return strings.Contains(log.all.String(), "owned")
				})
				_, _ = c.Close(), k.Close()
			})
			log.mu.Lock()
			defer log.mu.Unlock()
			for line := range strings.Lines(log.all.String()) {
				if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return unicode.IsControl(r) || r == '\u202e' }) {
					t.Errorf("the log has %q", line)
				}
			}
		})
	}
}

// work registers a worker that goes away at once.
func (w *town) work(r *pb.Register) {
	ctx, vanish := context.WithCancel(w.ctx)
	defer vanish()
	s, err := pb.NewWorkerServiceClient(w.conn).Work(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	_ = s.Send(&pb.WorkRequest{Register: r})
	_, _ = s.Recv() // an ack, or why not
}

// TestWorkersThatVanish registers a thousand, for the function that others serve too.
func TestWorkersThatVanish(t *testing.T) {
	attack(t, func(w *town) {
		for i := range 1000 {
			w.work(&pb.Register{WorkerId: fmt.Sprint("w", i%10), Slots: 1, Functions: []string{fmt.Sprint("f", i)}})
		}
		w.eventually("they are forgotten", func() bool {
			list, err := pb.NewAdminServiceClient(w.conn).ListWorkers(w.ctx, &pb.ListWorkersRequest{})
			return err == nil && len(list.Workers) == 1
		})
	})
}

// TestResultsNobodyAskedFor sends 100,000 of them, with tokens that are none.
func TestResultsNobodyAskedFor(t *testing.T) {
	attack(t, func(w *town) {
		s, err := pb.NewWorkerServiceClient(w.conn).Work(w.ctx)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Send(&pb.WorkRequest{Register: &pb.Register{WorkerId: "liar", Slots: 1, Functions: []string{"f"}}})
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
		var acked sync.WaitGroup
		acked.Go(func() {
			for n := 0; n < 100_096; {
				f, err := s.Recv()
				if err != nil {
					t.Errorf("the stream ended: %v", err)
					return
				}
				n += len(f.AckedTokens) // it need not keep what nobody wants
			}
		})
		for i := range 391 {
			f := &pb.WorkRequest{}
			for j := range 256 {
				f.TaskResults = append(f.TaskResults, &pb.TaskResult{TaskId: fmt.Sprint("t", j), Attempt: 1, Token: uint64(i*256 + j), Result: []byte("x")})
			}
			if err := s.Send(f); err != nil {
				t.Fatal(err)
			}
		}
		acked.Wait()
		_ = s.CloseSend()
	})
}

// TestATextClientThatNeverReads sends tasks and reads no result: its connection ends.
func TestATextClientThatNeverReads(t *testing.T) {
	attack(t, func(w *town) {
		k := w.dial(w.s.Legacy().WorkerAddr()) // there must be results
		fmt.Fprint(k, "REGISTER|w\n")
		answers := make(chan struct{})
		go func() { // ends with the connection
			defer close(answers)
			in := bufio.NewScanner(k)
			in.Buffer(nil, 1<<20)
			for in.Scan() {
				if rest, ok := strings.CutPrefix(in.Text(), "ASSIGN_TASK|"); ok {
					fmt.Fprintf(k, "TASK_RESULT|%s\n", rest)
				}
			}
		}()
		c := w.dial(w.s.Legacy().ClientAddr())
		data := strings.Repeat("1", 32<<10)
		var err error
		for n := 0; err == nil; n++ {
			_, err = fmt.Fprintf(c, "TASK|t%d|%s\n", n, data)
		}
		if strings.Contains(err.Error(), "timeout") {
			t.Errorf("its connection is still open: %v", err)
		}
		k.Close()
		<-answers
	})
}
