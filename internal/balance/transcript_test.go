package balance

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"reparto/internal/task"
)

var rewrite = flag.Bool("rewrite", false, "write what happens into testdata/*.txt")

// TestTranscripts plays testdata/*.txt. A file is a comment, then blocks of
// facts, "----", and what followed from them: the effects in their order, and
// how things stand. Check runs after every fact.
//
// The facts (words in brackets may be left out):
//
//	options lost=3 tasks=… function-tasks=… kept-bytes=…   first, for New
//	join w1 [slots=1] [functions=a,b] [running=t1/1,…]
//	submit t1 … [function=a] [own=CONTENT] [timeout=1m] [attempt-timeout=…] [attempts=3] [fail-fast] [bytes=0] [owner=…]
//	result t1 from=w1 [attempt=n] [output=…] [fail=REASON] [retry] [after=…]
//	leave w1 · drain w1 · cancel t1 · tick 5s · shutdown
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(text))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("%s: what happens is now\n%s\n(after a look at it: go test ./internal/balance -run Transcripts -rewrite)", file, got)
			}
		})
	}
}

// transcript is one file being played.
type transcript struct {
	t        *testing.T
	s        *State
	now      time.Time
	sessions map[string]*Session
	refs     map[string]Ref
	tokens   map[string]uint64 // by task/attempt
	last     map[string]int    // the last attempt of each task
	happened strings.Builder   // since the last "----"
	out      strings.Builder
}

func play(t *testing.T, text string) string {
	p := &transcript{
		t: t, s: New(Options{}), now: start,
		sessions: map[string]*Session{}, refs: map[string]Ref{}, tokens: map[string]uint64{}, last: map[string]int{},
	}
	facts := true
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "#"):
			fmt.Fprintln(&p.out, line)
		case line == "":
			if !facts || p.out.Len() == 0 || strings.HasSuffix(p.out.String(), "\n\n") {
				facts = true
				continue
			}
			fmt.Fprintln(&p.out)
		case line == "----":
			facts = false
			fmt.Fprintln(&p.out, line)
			p.out.WriteString(p.happened.String())
			p.happened.Reset()
			p.stand()
			fmt.Fprintln(&p.out)
		case facts:
			fmt.Fprintln(&p.out, line)
			p.fact(strings.Fields(line))
			p.effects()
			if err := p.s.Check(); err != nil {
				t.Fatalf("after %q: %v", line, err)
			}
		}
	}
	return strings.TrimRight(p.out.String(), "\n") + "\n"
}

// words splits the arguments of a fact into names and settings.
func words(args []string) (names []string, set map[string]string) {
	set = map[string]string{}
	for _, a := range args {
		key, value, ok := strings.Cut(a, "=")
		if ok || key == "fail-fast" || key == "retry" {
			set[key] = value
		} else {
			names = append(names, a)
		}
	}
	return names, set
}

func (p *transcript) fact(line []string) {
	names, set := words(line[1:])
	switch line[0] {
	case "options":
		p.s = New(Options{
			MaxLost: p.int(set, "lost", 0), MaxQueuedTasks: p.int(set, "tasks", 0), MaxFunctionQueuedTasks: p.int(set, "function-tasks", 0),
			MaxFunctionQueuedBytes: p.int(set, "function-bytes", 0), MaxBytes: p.int(set, "bytes", 0), MaxKeptBytes: p.int(set, "kept-bytes", 0),
		})
	case "join":
		p.join(names[0], set)
	case "submit":
		for _, name := range names {
			p.submit(name, set)
		}
	case "result":
		p.result(names[0], set)
	case "leave":
		p.s.Leave(p.now, p.sessions[names[0]])
	case "drain":
		p.s.Drain(p.sessions[names[0]])
	case "cancel":
		p.s.Cancel(p.now, p.refs[names[0]], task.CancelClientGone)
	case "tick":
		p.now = p.now.Add(p.span(map[string]string{"": names[0]}, "", 0))
		p.s.Tick(p.now)
	case "shutdown":
		p.s.Shutdown(p.now)
	default:
		p.t.Fatalf("no such fact: %s", line[0])
	}
}

func (p *transcript) join(name string, set map[string]string) {
	r := Registration{WorkerID: name, Slots: p.int(set, "slots", 1), Functions: strings.Split(p.word(set, "functions", "a"), ",")}
	for _, claim := range strings.FieldsFunc(set["running"], func(c rune) bool { return c == ',' }) {
		id, attempt, _ := strings.Cut(claim, "/")
		n, _ := strconv.Atoi(attempt)
		r.Running = append(r.Running, Claim{TaskID: id, Attempt: n, Token: p.tokens[claim]})
	}
	if err := r.Check(); err != nil {
		p.t.Fatal(err)
	}
	p.sessions[name] = p.s.Join(p.now, r)
}

func (p *transcript) submit(name string, set map[string]string) {
	content, own := set["own"]
	_, failFast := set["fail-fast"]
	in := &task.Task{
		ID: name, OwnID: own, Function: p.word(set, "function", "a"), Payload: make([]byte, p.int(set, "bytes", 0)),
		Deadline: p.now.Add(p.span(set, "timeout", time.Minute)), AttemptTimeout: p.span(set, "attempt-timeout", 0),
		MaxAttempts: p.int(set, "attempts", 3), FailFast: failFast, Owner: set["owner"],
	}
	in.Fingerprint = task.Fingerprint(content)
	ref, err := p.s.Submit(p.now, in)
	if err != nil {
		fmt.Fprintf(&p.happened, "refused %s: %v\n", name, err)
		return
	}
	p.refs[name] = ref
}

func (p *transcript) result(name string, set map[string]string) {
	attempt := p.int(set, "attempt", p.last[name])
	r := &Result{TaskID: name, Attempt: attempt, Token: p.tokens[fmt.Sprintf("%s/%d", name, attempt)]}
	_, retry := set["retry"]
	if reason, failed := set["fail"]; failed {
		r.Failure = &task.Failure{Reason: reason, Retry: retry, RetryAfter: p.span(set, "after", 0)}
	} else {
		r.Output = []byte(p.word(set, "output", "ok"))
	}
	p.s.Result(p.now, p.sessions[set["from"]], r)
}

func (p *transcript) word(set map[string]string, key, def string) string {
	if v, ok := set[key]; ok {
		return v
	}
	return def
}

func (p *transcript) int(set map[string]string, key string, def int) int {
	if v, ok := set[key]; ok {
		n, err := strconv.Atoi(v)
		if err != nil {
			p.t.Fatal(err)
		}
		return n
	}
	return def
}

func (p *transcript) span(set map[string]string, key string, def time.Duration) time.Duration {
	if v, ok := set[key]; ok {
		d, err := time.ParseDuration(v)
		if err != nil {
			p.t.Fatal(err)
		}
		return d
	}
	return def
}

// effects notes what has followed, a line each.
func (p *transcript) effects() {
	for _, e := range p.s.Take() {
		switch e.Kind {
		case Assign:
			name := fmt.Sprintf("%s/%d", e.TaskID, e.Attempt)
			p.tokens[name], p.last[e.TaskID] = e.Token, e.Attempt
			fmt.Fprintf(&p.happened, "assign %s -> %s\n", name, e.Session.WorkerID)
		case CancelAssignment:
			fmt.Fprintf(&p.happened, "cancel %s at %s: %s\n", p.named(e.Token), e.Session.WorkerID, e.Reason)
		case Finish:
			fmt.Fprintf(&p.happened, "finish %s: %s\n", e.TaskID, ending(&e.Outcome))
		case Replaced:
			fmt.Fprintf(&p.happened, "replaced %s\n", e.Session.WorkerID)
		}
	}
}

func (p *transcript) named(token uint64) string {
	for name, known := range p.tokens {
		if known == token {
			return name
		}
	}
	return "?"
}

func ending(o *task.Outcome) string {
	words := []string{o.State.String()}
	if o.Failure != nil {
		words = append(words, o.Failure.Reason)
	}
	if o.Result != nil {
		words = append(words, strconv.Quote(string(o.Result)))
	}
	if o.Attempt > 0 {
		words = append(words, fmt.Sprint("attempt ", o.Attempt))
	}
	if o.WorkerID != "" {
		words = append(words, "from "+o.WorkerID)
	}
	if o.WasRunning && o.State != task.Succeeded && o.State != task.Failed {
		words = append(words, "while running")
	}
	return strings.Join(words, ", ")
}

// stand prints who waits, who runs what, and when the clock is next wanted.
func (p *transcript) stand() {
	for _, name := range slices.Sorted(maps.Keys(p.s.functions)) {
		f := p.s.functions[name]
		if f.waitsFor.len == 0 {
			continue
		}
		fmt.Fprintf(&p.out, "queue %s:", name)
		for h := f.waitsFor.first; h != nil; h = h.next {
			if h.owner != "" {
				fmt.Fprintf(&p.out, " [%s]", h.owner)
			}
			for i := range h.queues {
				for e := h.queues[i].head; e != nil; e = e.next {
					fmt.Fprintf(&p.out, " %s", e.task.ID)
				}
			}
		}
		fmt.Fprintln(&p.out)
	}
	for _, name := range slices.Sorted(maps.Keys(p.s.byWorker)) {
		ses := p.s.byWorker[name]
		var held []string
		for _, a := range ses.held {
			id, _ := a.names()
			word := fmt.Sprintf("%s/%d", id, a.attempt)
			if a.told {
				word += "!"
			}
			held = append(held, word)
		}
		slices.Sort(held)
		drains := ""
		if ses.draining {
			drains = " draining"
		}
		fmt.Fprintf(&p.out, "%s: %d of %d slots%s\n", name, len(held), ses.Slots, drains+strings.Join(append([]string{""}, held...), " "))
	}
	if p.s.scheduled > 0 {
		fmt.Fprintf(&p.out, "scheduled: %d\n", p.s.scheduled)
	}
	if wake, ok := p.s.NextDeadline(); ok {
		fmt.Fprintf(&p.out, "wake in %v\n", wake.Sub(p.now))
	}
}
