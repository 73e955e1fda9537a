package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"reparto/client"
)

var (
	crashSeed   = flag.Uint64("crash.seed", 0, "the seed of the crash test; 0 takes one by chance")
	crashRounds = flag.Int("crash.rounds", 12, "how many times the crash test kills something")
)

// TestNothingAcknowledgedIsLost has clients enqueue all the time and workers
// work, and kills balancer, workers and clients' connections at moments that
// nobody chose. What the clients were told is written down here, and the
// balancer is held to it: every task that was acknowledged has its one right
// outcome, also after another kill.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	seed := *crashSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	rounds := *crashRounds
	if testing.Short() {
		rounds = 3
	}
	t.Logf("again: go test ./internal/e2e -run NothingAcknowledgedIsLost -crash.seed %d", seed)
	c := newCrash(t, seed)
	for range rounds {
		c.records.grow(t, 20+c.rng.IntN(400))
		c.kill()
	}
	c.records.grow(t, 50)
	c.stopClients()
	c.check()
	t.Logf("%d tasks acknowledged, %d of unknown fate, %d kills of the balancer, %d of workers, %d of client programs, %d of connections",
		len(c.records.acked), c.records.unknown, c.kills[0], c.kills[1], c.kills[3], c.kills[2])
}

// records are what clients were told.
type records struct {
	mu      sync.Mutex
	acked   map[string]string // results that must come, by id
	seen    map[string]string // outcomes that a client has been told
	unknown int
	more    chan struct{} // closed and made anew with each acknowledgement
}

func (r *records) note(id, want string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.unknown++
		return
	}
	r.acked[id] = want
	close(r.more)
	r.more = make(chan struct{})
}

// grow waits until so many more tasks are acknowledged.
func (r *records) grow(t *testing.T, n int) {
	t.Helper()
	limit := time.After(patience)
	r.mu.Lock()
	want := len(r.acked) + n
	r.mu.Unlock()
	for {
		r.mu.Lock()
		got, more := len(r.acked), r.more
		r.mu.Unlock()
		if got >= want {
			return
		}
		select {
		case <-more:
		case <-limit:
			t.Fatalf("no more than %d tasks were acknowledged, want %d", got, want)
		}
	}
}

// program is a client program that is fed tasks on its standard input, and prints
// the ids of those that are acknowledged.
type program struct {
	*process
	feed *os.File
	name string
}

// crash is the load and what is killed.
type crash struct {
	t        *testing.T
	rng      *rand.Rand
	address  string
	dir      string
	b        *balancer
	workers  [3]*process
	program  *program
	programs int
	kills    [4]int
	records  records

	mu      sync.Mutex
	clients [3]*client.Client
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func newCrash(t *testing.T, seed uint64) *crash {
	c := &crash{t: t, rng: rand.New(rand.NewPCG(seed, 5)), dir: "file:" + t.TempDir(), address: "127.0.0.1:0"}
	c.records = records{acked: map[string]string{}, seen: map[string]string{}, more: make(chan struct{})}
	c.startBalancer()
	c.address = c.b.grpc
	for i := range c.workers {
		c.startWorker(i)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c.cancel = cancel
	c.startProgram()
	for i := range c.clients {
		c.clients[i] = c.dial()
		load := rand.New(rand.NewPCG(seed, uint64(100+i)))
		c.running.Go(func() { c.enqueue(ctx, i, load) })
	}
	t.Cleanup(c.stopClients)
	return c
}

func (c *crash) startBalancer() {
	c.b = startBalancerAt(c.t, c.address, "--store", c.dir, "--max-lost", "100", "--legacy-clients", "", "--legacy-workers", "")
}

func (c *crash) startWorker(i int) {
	c.workers[i] = start(c.t, "worker", "--balancer", c.address, "--id", fmt.Sprint("w", i), "--slots", "4")
}

// startProgram starts a client program and feeds it.
func (c *crash) startProgram() {
	out, in, err := os.Pipe()
	if err != nil {
		c.t.Fatal(err)
	}
	c.programs++
	name := fmt.Sprint("p", c.programs)
	c.program = &program{feed: in, name: name, process: startIn(c.t, out, "client", "enqueue", "--balancer", c.address, "--id", name, "sum", "-")}
	out.Close()
	c.running.Go(func() {
		// No faster than it is looked at in the end.
		pace := time.NewTicker(5 * time.Millisecond)
		defer pace.Stop()
		for i := 1; ; i++ {
			<-pace.C
			if _, err := fmt.Fprintf(in, "%d,1\n", i); err != nil {
				return // it was killed, or is not fed any more
			}
		}
	})
}

// endProgram kills the client program, or lets it end, and notes what it printed:
// whatever it did print was acknowledged.
func (c *crash) endProgram(kill bool) {
	p := c.program
	p.feed.Close()
	if kill {
		p.signal(syscall.SIGKILL)
	}
	<-p.done
	for id := range strings.Lines(p.stdout()) {
		n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(id, p.name+"-"), "\n"))
		if err != nil || !strings.HasSuffix(id, "\n") {
			continue // cut off in the midst of a line
		}
		c.records.note(strings.TrimSuffix(id, "\n"), fmt.Sprint(n+1), nil)
	}
}

func (c *crash) dial() *client.Client {
	to, err := client.Dial(c.address, client.WithConnectTimeout(patience))
	if err != nil {
		c.t.Fatal(err)
	}
	return to
}

func (c *crash) client(i int) *client.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clients[i]
}

// enqueue is one client: batches of its own ids, or of ids that the SDK makes,
// and now and then a look at an earlier task.
func (c *crash) enqueue(ctx context.Context, i int, rng *rand.Rand) {
	var mine []string
	for n := 0; ctx.Err() == nil; {
		batch := make([]client.DurableTask, 1+rng.IntN(20))
		wants := make([]string, len(batch))
		for k := range batch {
			n++
			x, y := rng.IntN(1000), rng.IntN(1000)
			batch[k] = client.DurableTask{Function: "sum", Payload: fmt.Appendf(nil, "%d,%d", x, y), Priority: 1 + rng.IntN(5)}
			if rng.IntN(2) == 0 {
				batch[k].ID = fmt.Sprintf("c%d-%d", i, n)
			}
			wants[k] = fmt.Sprint(x + y)
		}
		for k, r := range c.client(i).EnqueueAll(ctx, batch) {
			c.records.note(r.ID, wants[k], r.Err)
			if r.Err == nil {
				mine = append(mine, r.ID)
			}
		}
		if len(mine) > 0 && rng.IntN(4) == 0 {
			c.look(ctx, i, mine[rng.IntN(len(mine))])
		}
	}
}

// look notes the outcome of a task, if it has one by now.
func (c *crash) look(ctx context.Context, i int, id string) {
	info, err := c.client(i).Get(ctx, id)
	if err != nil || info.State != client.Succeeded {
		return
	}
	c.records.mu.Lock()
	defer c.records.mu.Unlock()
	got := outcomeWords(info)
	if before := c.records.seen[id]; before != "" && before != got {
		c.t.Errorf("task %s was %s, and then %s", id, before, got)
	}
	c.records.seen[id] = got
}

func outcomeWords(i client.TaskInfo) string {
	last := i.Attempts[len(i.Attempts)-1]
	return fmt.Sprintf("%s %s, finished %v, attempt %d by %s", i.State, i.Result, i.Finished.UnixNano(), last.Number, last.WorkerID)
}

// kill ends something without a word, and starts it again.
func (c *crash) kill() {
	select {
	case <-c.program.done: // it does not outlive a balancer that is killed
		c.endProgram(false)
		c.startProgram()
	default:
	}
	switch what := c.rng.IntN(11); {
	case what == 10:
		c.endProgram(true)
		c.kills[3]++
		c.startProgram()
	case what < 6:
		c.kills[0]++
		c.b.signal(syscall.SIGKILL)
		<-c.b.done
		c.startBalancer()
	case what < 9:
		c.kills[1]++
		i := c.rng.IntN(len(c.workers))
		c.workers[i].signal(syscall.SIGKILL)
		<-c.workers[i].done
		c.startWorker(i)
	default:
		c.kills[2]++
		i := c.rng.IntN(len(c.clients))
		fresh := c.dial()
		c.mu.Lock()
		old := c.clients[i]
		c.clients[i] = fresh
		c.mu.Unlock()
		old.Close()
	}
}

func (c *crash) stopClients() {
	c.cancel()
	if c.program != nil {
		c.endProgram(false)
		c.program = nil
	}
	c.running.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, old := range c.clients {
		old.Close()
	}
}

// check holds the balancer to what its clients were told, then kills it once
// more and looks again.
func (c *crash) check() {
	asker := c.dial()
	defer asker.Close()
	ctx := c.t.Context()
	final := map[string]string{}
	for id, want := range c.records.acked {
		soon, cancel := context.WithTimeout(ctx, patience)
		out, err := asker.Wait(soon, id)
		cancel()
		if err != nil || string(out.Result) != want {
			c.t.Fatalf("task %s was acknowledged; its outcome is %q, %v; want %q", id, out.Result, err, want)
		}
	}
	for pass := range 2 {
		listed := map[string]bool{}
		for info, err := range asker.List(ctx, client.Filter{}) {
			if err != nil {
				c.t.Fatal(err)
			}
			if listed[info.ID] {
				c.t.Errorf("task %s is listed twice", info.ID)
			}
			listed[info.ID] = true
		}
		for id := range c.records.acked {
			info, err := asker.Get(ctx, id)
			if err != nil || !listed[id] {
				c.t.Fatalf("task %s: %v; listed: %v", id, err, listed[id])
			}
			got := outcomeWords(info)
			if seen := c.records.seen[id]; seen != "" && seen != got || pass > 0 && final[id] != got {
				c.t.Errorf("task %s has two outcomes: %s; %s%s", id, got, seen, final[id])
			}
			final[id] = got
		}
		if pass == 0 {
			c.b.signal(syscall.SIGKILL)
			<-c.b.done
			c.startBalancer()
		}
	}
}
