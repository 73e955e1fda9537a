package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// roleVariable makes this program play a worker instead of measuring.
const roleVariable = "REPARTO_PEERS_ROLE"

// process is a child that ends with its owner.
type process struct {
	cmd *exec.Cmd
}

func spawn(dir string, env []string, name string, args ...string) (*process, error) {
	log, err := os.Create(filepath.Join(dir, filepath.Base(name)+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &process{cmd: exec.Command(name, args...)}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, log, log
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return p, p.cmd.Start()
}

// end asks the child and its children to go, and waits.
func (p *process) end() {
	if p == nil || p.cmd.Process == nil {
		return
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
	slow := time.AfterFunc(20*time.Second, func() { _ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) })
	defer slow.Stop()
	_ = p.cmd.Wait()
}

// role starts this program again as a worker, and waits until it says that it is
// ready.
func role(dir, kind, address string) (*process, *bufio.Reader, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	p := &process{cmd: exec.Command(self)}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+kind+" "+address)
	p.cmd.Dir, p.cmd.Stderr = dir, os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, nil, err
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || line != "ready\n" {
		p.end()
		return nil, nil, fmt.Errorf("worker said %q: %w", line, err)
	}
	return p, lines, nil
}

// play is the worker's side: until its standard input ends with its parent's end,
// or a signal comes.
func play(role string) int {
	kind, address, _ := strings.Cut(role, " ")
	ctx := context.Background()
	if err := roles[kind](ctx, address, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		return 1
	}
	return 0
}

var roles = map[string]func(ctx context.Context, address string, ready io.Writer) error{
	"reparto": repartoWorker, "jetstream": jetStreamWorker, "rabbitmq": rabbitWorker,
}

// freePort finds one that the system gives to nobody by itself: whoever waits for
// a listener on such a port may otherwise connect to itself.
func freePort() (string, error) {
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 15000+rand.IntN(10000)))
		if err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", errors.New("no free port from 15000 to 24999")
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

// built builds a program of a module once, and returns where it is.
func built(pkg string) (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	to := filepath.Join(dir, "reparto-peers", filepath.Base(strings.TrimSuffix(pkg, "/v2")))
	_, here, _, _ := runtime.Caller(0)
	cmd := exec.Command("go", "build", "-o", to, pkg)
	cmd.Dir = filepath.Dir(here)
	if strings.HasPrefix(pkg, "reparto/cmd/") { // with its own module's versions
		cmd.Dir = filepath.Join(cmd.Dir, "..", "..", "..")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return to, nil
}
