package proxies

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// proxy is HAProxy or Nginx with the configuration that is shipped.
type proxy struct {
	t       *testing.T
	program string
	dir     string
	config  string    // its file
	address string    // where clients dial
	direct  [2]string // where workers dial for each balancer
	running *process
}

// programs are those of which every test that takes one is run.
var programs = []string{"haproxy", "nginx"}

// each runs a test with either proxy.
func each(t *testing.T, test func(t *testing.T, program string)) {
	for _, program := range programs {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			need(t, program)
			test(t, program)
		})
	}
}

// places is what a test must change of a configuration in any case: who runs it,
// where it writes and listens, and where the balancers are. The strings on the left
// must all be there: so that file and test can't drift apart.
func (p *proxy) places(balancer1, balancer2 string) []string {
	if p.program == "haproxy" {
		return []string{
			"    log /dev/log local0\n", "", "    log global\n", "",
			"    chroot /var/lib/haproxy\n", "", "    user haproxy\n", "", "    group haproxy\n", "",
			"/run/haproxy/admin.sock", filepath.Join(p.dir, "admin.sock"),
			" bind :9090 ", " bind " + p.address + " ", " bind :9091 ", " bind " + p.direct[0] + " ", " bind :9092 ", " bind " + p.direct[1] + " ",
			"10.0.0.11:9090", balancer1, "10.0.0.12:9090", balancer2,
			"inter 1s", "inter 100ms",
		}
	}
	return []string{
		"user www-data;\n", "daemon off;\n", "worker_processes auto;", "worker_processes 1;",
		"pid /run/nginx.pid;", "pid " + p.dir + "/nginx.pid;",
		"error_log /var/log/nginx/error.log;", "error_log stderr notice;", "access_log /var/log/nginx/reparto.log;", "access_log off;",
		"worker_rlimit_nofile 40000;", "", "worker_connections 20000;", "worker_connections 500;",
		"http {\n", "http {\n    client_body_temp_path " + p.dir + "/body;\n    proxy_temp_path " + p.dir + "/proxy;\n    fastcgi_temp_path " +
			p.dir + "/fastcgi;\n    uwsgi_temp_path " + p.dir + "/uwsgi;\n    scgi_temp_path " + p.dir + "/scgi;\n",
		" listen 9090 ", " listen " + p.address + " ", " listen 9091 ", " listen " + p.direct[0] + " ",
		" listen 9092 ", " listen " + p.direct[1] + " ",
		"10.0.0.11:9090", balancer1, "10.0.0.12:9090", balancer2,
	}
}

// short makes streams end that are silent for a second.
var short = map[string][]string{
	"haproxy": {"timeout client 1h", "timeout client 1s", "timeout server 1h", "timeout server 1s"},
	"nginx":   {"grpc_read_timeout 1h;", "grpc_read_timeout 1s;", "client_body_timeout 1h;", "client_body_timeout 1s;"},
}

// hurried makes what a reload leaves behind end after that time.
func hurried(after string) map[string][]string {
	return map[string][]string{
		"haproxy": {"hard-stop-after 1h", "hard-stop-after " + after},
		"nginx":   {"worker_shutdown_timeout 1h;", "worker_shutdown_timeout " + after + ";"},
	}
}

// startProxy puts a proxy before two balancers, until the test ends. more changes
// the configuration further: pairs of old and new.
func startProxy(t *testing.T, program, balancer1, balancer2 string, more ...string) *proxy {
	t.Helper()
	return startRewritten(t, program, balancer1, balancer2, func(text string) string { return text }, more...)
}

// speakTLS has a configuration speak it, as its first lines say.
func speakTLS(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if added, ok := strings.CutPrefix(strings.TrimSpace(line), "#tls+ "); ok {
			lines = append(lines, added+"\n")
		} else if other, ok := strings.CutPrefix(strings.TrimSpace(line), "#tls "); ok {
			lines[len(lines)-1] = "        " + other + "\n"
		} else {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

func startRewritten(t *testing.T, program, balancer1, balancer2 string, rewrite func(string) string, more ...string) *proxy {
	t.Helper()
	p := &proxy{t: t, program: program, dir: t.TempDir(), address: freePort(t), direct: [2]string{freePort(t), freePort(t)}}
	file := map[string]string{"haproxy": "haproxy.cfg", "nginx": "nginx.conf"}[program]
	raw, err := os.ReadFile(filepath.Join("..", "..", "deploy", program, file))
	if err != nil {
		t.Fatal(err)
	}
	text, change := rewrite(string(raw)), append(more, p.places(balancer1, balancer2)...)
	for i := 0; i < len(change); i += 2 {
		if !strings.Contains(text, change[i]) {
			t.Fatalf("deploy/%s/%s has no %q any more: change the test with it", program, file, change[i])
		}
		text = strings.ReplaceAll(text, change[i], change[i+1])
	}
	p.config = filepath.Join(p.dir, file)
	if err := os.WriteFile(p.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p.start()
	return p
}

// start runs it, and waits until it listens.
func (p *proxy) start(args ...string) {
	p.t.Helper()
	all := append([]string{"-db", "-f", p.config}, args...)
	ready := "" // HAProxy says nothing when it is
	if p.program == "nginx" {
		all, ready = []string{"-e", "stderr", "-p", p.dir, "-c", p.config}, "start worker processes"
	}
	p.running = startProcess(p.t, need(p.t, p.program), all...)
	if ready != "" {
		p.running.waitLine(ready)
		return
	}
	eventually(p.t, "HAProxy serves", func() bool { return p.asks("show info") != "" })
}

// reload has it read its configuration again, as the service does, and returns the
// process that goes on with the streams that are open.
func (p *proxy) reload() (old *process) {
	p.t.Helper()
	old = p.running
	if p.program == "nginx" {
		old.signal(syscall.SIGHUP)
		old.waitLine("gracefully shutting down")
		return old
	}
	p.start("-sf", old.pid())
	old.waitLine("(?i)stopp") // it listens no more
	return old
}

// kill ends it as a machine that fails, its children too.
func (p *proxy) kill() {
	p.t.Helper()
	p.running.kill()
}

// asks puts a question to HAProxy; "" when there is no answer.
func (p *proxy) asks(question string) string {
	conn, err := dialUnix(filepath.Join(p.dir, "admin.sock"))
	if err != nil {
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, question+"\n"); err != nil {
		return ""
	}
	answer, _ := io.ReadAll(conn)
	return string(answer)
}
