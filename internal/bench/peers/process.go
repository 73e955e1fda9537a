package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// process is a child that ends with its owner.
type process struct {
	name  string
	cmd   *exec.Cmd
	in    io.Closer     // of one that plays a role
	lines *json.Decoder // likewise
}

// command prepares a child in a group of its own, so that an interrupt reaches
// it by way of its owner only.
func command(dir string, env []string, name string, args ...string) *process {
	p := &process{name: filepath.Base(name), cmd: exec.Command(name, args...)}
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	return p
}

// spawn starts a program whose output goes to a file.
func spawn(dir string, env []string, name string, args ...string) (*process, error) {
	log, err := os.Create(filepath.Join(dir, filepath.Base(name)+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := command(dir, env, name, args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	return p, p.cmd.Start()
}

// speaking starts a program that says lines.
func speaking(dir string, env []string, name string, args ...string) (*process, error) {
	p := command(dir, env, name, args...)
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.in, p.lines = in, json.NewDecoder(out)
	return p, p.cmd.Start()
}

// role starts this program again to play one.
func role(dir string, c config) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	p, err := speaking(dir, []string{roleVariable + "=" + string(raw)}, self)
	if err != nil {
		return nil, err
	}
	p.name = c.Role + " " + c.Kind
	return p, nil
}

// startWorker starts one that plays the role, and waits until it is ready.
func startWorker(dir string, c config) (*process, error) {
	p, err := role(dir, c)
	if err != nil {
		return nil, err
	}
	if err := p.expect("ready", nil); err != nil {
		p.end()
		return nil, err
	}
	return p, nil
}

// silence is how long a child may take to say what is expected of it.
const silence = time.Minute

// expect blocks until the child says something of that kind.
func (p *process) expect(kind string, v any) error {
	stuck := time.AfterFunc(silence, func() { _ = p.cmd.Process.Kill() })
	defer stuck.Stop()
	var l line
	if err := p.lines.Decode(&l); err != nil {
		return fmt.Errorf("%s: no word of %q: %w", p.name, kind, err)
	}
	if l.Kind != kind {
		return fmt.Errorf("%s: said %q (%s), not %q", p.name, l.Kind, l.Value, kind)
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(l.Value, v)
}

// end asks the child and its children to go, and waits.
func (p *process) end() {
	if p == nil || p.cmd.Process == nil {
		return
	}
	if p.in != nil {
		_ = p.in.Close()
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
	slow := time.AfterFunc(20*time.Second, func() { _ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) })
	defer slow.Stop()
	_ = p.cmd.Wait() // it was asked to go: how it went does not matter
}

// dialled waits until somebody listens.
func dialled(ctx context.Context, address string) error {
	limit, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		c, err := (&net.Dialer{}).DialContext(limit, "tcp", address)
		if err == nil {
			return c.Close()
		}
		select {
		case <-limit.Done():
			return fmt.Errorf("nobody listens on %s: %w", address, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

var builds = map[string]string{} // by package; only the main goroutine builds

// built builds a program of a module, once for each run, and returns where it is.
// The package of benchmarks is built as its test binary, which plays the relay.
func built(pkg string) (string, error) {
	if to := builds[pkg]; to != "" {
		return to, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	to := filepath.Join(dir, "reparto-peers", filepath.Base(strings.TrimSuffix(pkg, "/v2")))
	cmd := exec.Command("go", "build", "-o", to, pkg)
	if pkg == benchmarks {
		cmd = exec.Command("go", "test", "-c", "-o", to, pkg)
	}
	cmd.Dir = here()
	if strings.HasPrefix(pkg, "reparto/") { // with its own module's versions
		cmd.Dir = top()
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	builds[pkg] = to
	return to, nil
}

// benchmarks has the relay with no logic, and its raw workers.
const benchmarks = "reparto/internal/bench"

// here is this program's source, top that of the repository.
func here() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}

func top() string { return filepath.Join(here(), "..", "..", "..") }
