package bench

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// process is a child that plays a role.
type process struct {
	t     testing.TB
	name  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *json.Decoder
}

// start starts a child, which ends with the test at the latest.
func start(t testing.TB, name string, c config) *process {
	t.Helper()
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, name: name, cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+name, configVariable+"="+string(raw))
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.lines = json.NewDecoder(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	return p
}

// silence is how long a child may take to say what is expected of it. No limit
// of go test's own holds for benchmarks.
const silence = 5 * time.Minute

// expect blocks until the child says something of that kind.
func (p *process) expect(kind string, v any) {
	p.t.Helper()
	stuck := time.AfterFunc(silence, func() { p.cmd.Process.Kill() })
	defer stuck.Stop()
	var l line
	if err := p.lines.Decode(&l); err != nil {
		p.t.Fatalf("%s: no word of %q: %v", p.name, kind, err)
	}
	if l.Kind != kind {
		p.t.Fatalf("%s: said %q (%s), not %q", p.name, l.Kind, l.Value, kind)
	}
	if err := json.Unmarshal(l.Value, v); err != nil {
		p.t.Fatal(err)
	}
}

// stop asks the child to end, and waits. It may be called twice.
func (p *process) stop() {
	if p.in == nil {
		return
	}
	p.in.Close()
	p.in = nil
	slow := time.AfterFunc(30*time.Second, func() { p.cmd.Process.Kill() })
	defer slow.Stop()
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("%s: %v", p.name, err)
	}
}

// memory has the child collect its garbage and tell what is left.
func (p *process) memory() memory {
	p.t.Helper()
	if _, err := io.WriteString(p.in, "memory\n"); err != nil {
		p.t.Fatal(err)
	}
	var m memory
	p.expect("memory", &m)
	return m
}

// tick is the unit of CPU time in /proc.
const tick = 10 * time.Millisecond

// cpu returns the CPU time that the child has used so far.
func (p *process) cpu() time.Duration {
	p.t.Helper()
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/stat")
	if err != nil {
		p.t.Fatal(err)
	}
	// The name in parentheses may hold spaces; the state follows it.
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	ticks := 0
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.Atoi(f)
		if err != nil {
			p.t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick
}

// resident returns how much memory of the child is in RAM, in bytes: now, and
// the most that there ever was.
func (p *process) resident() (now, peak uint64) {
	p.t.Helper()
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
	if err != nil {
		p.t.Fatal(err)
	}
	for l := range strings.Lines(string(raw)) {
		f := strings.Fields(l)
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.ParseUint(f[1], 10, 64)
		switch f[0] {
		case "VmRSS:":
			now = n << 10
		case "VmHWM:":
			peak = n << 10
		}
	}
	return now, peak
}
