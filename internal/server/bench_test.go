package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"reparto/client"
	pb "reparto/gen/reparto/v1"
	"reparto/internal/auth"
	"reparto/internal/secure"
	"reparto/internal/secure/securetest"
	"reparto/worker"
)

// yard is a balancer with principals light, heavy and farm, and a worker, all in
// this process, over loopback.
type yard struct {
	b      *testing.B
	ctx    context.Context
	s      *Server
	tokens map[string]string
	creds  credentials.TransportCredentials
}

// shape says which checks a yard makes.
type shape struct {
	tls, auth, limits bool
	heavy             string // the heavy client's own limits, YAML
}

func newYard(b *testing.B, how shape, slots int, handler worker.Handler) *yard {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	y := &yard{b: b, ctx: ctx, tokens: map[string]string{}, creds: insecure.NewCredentials()}
	o := Options{Address: "127.0.0.1:0", DrainTimeout: 10 * time.Millisecond}
	if how.auth {
		o.Auth = y.principals(how)
	}
	if how.tls {
		ca := securetest.NewCA("bench")
		cert, key := ca.Issue(securetest.Leaf{}).Write(b.TempDir(), "server")
		var err error
		if o.TLS, err = secure.Open(secure.Options{Cert: cert, Key: key}, nil); err != nil {
			b.Fatal(err)
		}
		y.creds = credentials.NewTLS(&tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"})
	}
	var err error
	if y.s, err = Listen(o); err != nil {
		b.Fatal(err)
	}
	var running sync.WaitGroup
	serve, stop := context.WithCancel(context.Background())
	running.Go(func() { _ = y.s.Run(serve) })
	ready := make(chan struct{})
	farm := y.dial("farm")
	running.Go(func() {
		_ = worker.Run(ctx, farm, worker.Handlers{"f": handler}, worker.Options{
			ID: "w", Slots: slots, DrainTimeout: time.Millisecond, OnRegistered: func(worker.Registration) { close(ready) },
		})
	})
	<-ready
	b.Cleanup(func() {
		cancel()
		stop()
		running.Wait()
	})
	return y
}

func (y *yard) principals(how shape) string {
	yaml := "principals:\n"
	for _, name := range []string{"light", "heavy", "farm"} {
		token, hash := auth.NewToken()
		y.tokens[name] = token
		yaml += fmt.Sprintf("  - {name: %s, tokens: [%q], submit: ['*'], work: ['*']", name, hash)
		if how.heavy != "" && name == "heavy" {
			yaml += ", limits: " + how.heavy
		} else if how.limits {
			yaml += ", limits: {connections: 1000, streams: 100000, tasks_per_second: 100000000, burst: 100000000}"
		}
		yaml += "}\n"
	}
	file := filepath.Join(y.b.TempDir(), "auth.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		y.b.Fatal(err)
	}
	return file
}

// bearer shows a token with each call, in the clear too.
type bearer string

func (t bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(t)}, nil
}
func (bearer) RequireTransportSecurity() bool { return false }

func (y *yard) dial(name string) *grpc.ClientConn {
	y.b.Helper()
	o := []grpc.DialOption{
		grpc.WithTransportCredentials(y.creds), grpc.WithStaticStreamWindowSize(1 << 20), grpc.WithStaticConnWindowSize(1 << 20),
	}
	if token := y.tokens[name]; token != "" {
		o = append(o, grpc.WithPerRPCCredentials(bearer(token)))
	}
	conn, err := grpc.NewClient(y.s.Addr().String(), o...)
	if err != nil {
		y.b.Fatal(err)
	}
	y.b.Cleanup(func() { conn.Close() })
	return conn
}

// quick gives nothing back at once, slow after a millisecond.
func quick(context.Context, worker.Task) ([]byte, error) { return nil, nil }

func slow(ctx context.Context, _ worker.Task) ([]byte, error) {
	timer := time.NewTimer(time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil, nil
}

// light submits ten tasks at once, again and again, and returns the time that 99 of
// 100 don't exceed.
func (y *yard) light(rounds int) time.Duration {
	y.b.Helper()
	c := client.New(y.dial("light"))
	defer c.Close()
	var mu sync.Mutex
	var took []time.Duration
	for range rounds {
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				began := time.Now()
				if _, err := c.Submit(y.ctx, client.Task{Function: "f"}); err != nil {
					y.b.Error(err)
				}
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
			})
		}
		wg.Wait()
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// neighbours are what a heavy client does beside the light one; each returns when
// it is under way.
var neighbours = []struct {
	name  string
	begin func(y *yard, over context.Context, running *sync.WaitGroup)
}{
	{"90,000 tasks queued", queueMany},
	{"10,000 streams", openMany},
	{"payloads of 4 MiB", sendLarge},
}

// queueMany keeps as many tasks waiting as it may.
func queueMany(y *yard, over context.Context, running *sync.WaitGroup) {
	const tasks = 90_000
	conn := y.dial("heavy")
	queued := make(chan struct{})
	running.Go(func() {
		var done sync.WaitGroup
		for range 2 {
			c := client.New(conn)
			done.Go(func() {
				defer c.Close()
				room := make(chan struct{}, tasks/2)
				for i := 0; over.Err() == nil; i++ {
					select {
					case room <- struct{}{}:
					case <-over.Done():
						return
					}
					c.SubmitFunc(over, client.Task{Function: "f", Timeout: time.Hour}, func(client.Outcome, error) { <-room })
				}
			})
		}
		done.Go(func() {
			for until := time.Now().Add(3 * time.Second); y.s.dispatch.Info().Queued < tasks*9/10 && time.Now().Before(until); {
				time.Sleep(time.Millisecond)
			}
			close(queued)
		})
		done.Wait()
	})
	<-queued
}

// openMany opens ten thousand streams, as far as it is let, each with a task at a
// time.
func openMany(y *yard, over context.Context, running *sync.WaitGroup) {
	tasks := pb.NewTaskServiceClient(y.dial("heavy"))
	var opened sync.WaitGroup
	defer opened.Wait()
	for range 10_000 {
		stream, err := tasks.SubmitStream(over)
		if err != nil {
			continue // one too many
		}
		opened.Add(1)
		running.Go(func() {
			_, err := stream.Recv() // the limits, or a refusal
			opened.Done()
			for n := uint64(1); err == nil; n++ {
				if stream.Send(&pb.SubmitStreamRequest{Tasks: []*pb.StreamTask{{Number: n, Function: "f"}}}) != nil {
					return
				}
				for {
					frame, err := stream.Recv()
					if err != nil {
						return
					}
					if len(frame.GetOutcomes()) > 0 {
						break
					}
				}
			}
		})
	}
}

// sendLarge sends large payloads as fast as it can.
func sendLarge(y *yard, over context.Context, running *sync.WaitGroup) {
	c := client.New(y.dial("heavy"))
	payload := make([]byte, 4<<20)
	running.Go(func() {
		var senders sync.WaitGroup
		for range 16 {
			senders.Go(func() {
				for over.Err() == nil {
					_, _ = c.Submit(over, client.Task{Function: "f", Payload: payload}) // refusals are part of it
				}
			})
		}
		senders.Wait()
		c.Close()
	})
}

// BenchmarkTheLightClient tells how long a client with ten tasks at a time waits
// beside one that takes all it can get, as a multiple of what it waits alone. The
// tasks take a millisecond, the worker has 8 slots.
func BenchmarkTheLightClient(b *testing.B) {
	for _, n := range neighbours {
		for _, how := range []struct {
			name   string
			rounds int
			shape
		}{
			{"not told apart", 5, shape{}}, {"told apart", 100, shape{auth: true}},
			{"limited", 100, shape{auth: true, heavy: "{streams: 100, tasks_per_second: 1000, burst: 10000, queued_bytes: 33554432}"}},
		} {
			b.Run(n.name+"/"+how.name, func(b *testing.B) {
				if n.name == neighbours[0].name && !how.auth {
					b.Skip("the light client would wait for all 90,000")
				}
				y := newYard(b, how.shape, 8, slow)
				y.light(20)
				alone := y.light(100)
				over, end := context.WithCancel(y.ctx)
				var running sync.WaitGroup
				n.begin(y, over, &running)
				var beside time.Duration
				for b.Loop() {
					beside = y.light(how.rounds)
				}
				end()
				running.Wait()
				b.ReportMetric(float64(alone.Microseconds())/1000, "alone-p99-ms")
				b.ReportMetric(float64(beside.Microseconds())/1000, "beside-p99-ms")
				b.ReportMetric(float64(beside)/float64(alone), "ratio")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// BenchmarkChecks tells what is left of the throughput with each check, in turn
// with none.
func BenchmarkChecks(b *testing.B) {
	shapes := []struct {
		name string
		shape
	}{
		{"none", shape{}}, {"TLS", shape{tls: true}}, {"tokens", shape{auth: true}}, {"tokens and limits", shape{auth: true, limits: true}},
		{"all", shape{tls: true, auth: true, limits: true}},
	}
	for _, load := range []struct {
		name string
		run  func(y *yard) func(time.Duration) float64
	}{{"unary", unaryLoad}, {"frames", framedLoad}} {
		b.Run(load.name, func(b *testing.B) {
			rates := make([][]float64, len(shapes))
			var loads []func(time.Duration) float64
			for _, s := range shapes {
				loads = append(loads, load.run(newYard(b, s.shape, 4096, quick)))
			}
			for b.Loop() {
				for range 7 {
					for i, run := range loads {
						rates[i] = append(rates[i], run(500*time.Millisecond))
					}
				}
			}
			b.ReportMetric(0, "ns/op")
			for i, s := range shapes {
				var ratios []float64
				for j := range rates[i] {
					ratios = append(ratios, 100*rates[i][j]/rates[0][j])
				}
				slices.Sort(ratios)
				b.Logf("%-18s %6.1f %% of none (%.1f to %.1f), %.0f/s", s.name, ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1], slices.Max(rates[i]))
			}
		})
	}
}

// unaryLoad calls Submit from 64 goroutines for a time and returns tasks a second.
func unaryLoad(y *yard) func(time.Duration) float64 {
	tasks := pb.NewTaskServiceClient(y.dial("light"))
	return closedLoop(64, func() error {
		_, err := tasks.Submit(y.ctx, &pb.SubmitRequest{Function: "f"})
		return err
	})
}

// framedLoad does the same by the SDK, from 1,024.
func framedLoad(y *yard) func(time.Duration) float64 {
	c := client.New(y.dial("light"))
	y.b.Cleanup(func() { c.Close() })
	return closedLoop(1024, func() error {
		_, err := c.Submit(y.ctx, client.Task{Function: "f"})
		return err
	})
}

func closedLoop(callers int, call func() error) func(time.Duration) float64 {
	return func(d time.Duration) float64 {
		var n atomic.Int64
		began := time.Now()
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for time.Since(began) < d && call() == nil {
					n.Add(1)
				}
			})
		}
		wg.Wait()
		return float64(n.Load()) / time.Since(began).Seconds()
	}
}
