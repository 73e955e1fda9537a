package secure

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"reparto/internal/secure/securetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// record is a log that tests read.
type record struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.String()
}

// waitFor waits until the log has the text: whoever caused it is told before.
func (r *record) waitFor(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(patience); !strings.Contains(r.String(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %q in the log:\n%s", text, r)
		}
	}
}

func (r *record) logger() *slog.Logger { return slog.New(slog.NewTextHandler(r, nil)) }

func TestFilesAreReadAgainWhenTheyChange(t *testing.T) {
	dir, ca := t.TempDir(), securetest.NewCA("CA")
	first := ca.Issue(securetest.Leaf{Name: "first"})
	cert, key := first.Write(dir, "server")
	var log record
	f, err := openFiles(cert, key, securetest.Write(dir, "ca.pem", ca.PEM), log.logger())
	if err != nil {
		t.Fatal(err)
	}
	before := f.current()
	if f.current() != before {
		t.Error("files that did not change are read again")
	}
	second := ca.Issue(securetest.Leaf{Name: "second"})
	securetest.Write(dir, "server.pem", second.Cert)
	if got := f.current(); got != before {
		t.Error("a certificate is in force whose key is not there yet")
	}
	if n := strings.Count(log.String(), "can't be used"); n != 1 || !strings.Contains(log.String(), cert) {
		t.Errorf("a pair that does not match is told %d times:\n%s", n, &log)
	}
	f.current()
	if n := strings.Count(log.String(), "can't be used"); n != 1 {
		t.Errorf("it is told again without a change:\n%s", &log)
	}
	securetest.Write(dir, "server.key", second.Key)
	if got := f.current(); got.cert.Leaf.Subject.CommonName != "second" {
		t.Errorf("in force is %v", got.cert.Leaf.Subject)
	}
	if !strings.Contains(log.String(), `msg="certificate in force"`) || !strings.Contains(log.String(), "subject=CN=second") && !strings.Contains(log.String(), `subject="CN=second"`) {
		t.Errorf("the log does not tell of the new one:\n%s", &log)
	}
	other := securetest.NewCA("other")
	securetest.Write(dir, "ca.pem", append(append([]byte{}, ca.PEM...), other.PEM...))
	if got := f.current(); got.count != 2 {
		t.Errorf("the CA file has %d certificates", got.count)
	}
}

func TestABrokenFileLeavesInForceWhatWas(t *testing.T) {
	dir, ca := t.TempDir(), securetest.NewCA("CA")
	cert, key := ca.Issue(securetest.Leaf{}).Write(dir, "server")
	caFile := securetest.Write(dir, "ca.pem", ca.PEM)
	for name, breaks := range map[string]func(){
		"certificate gone":  func() { _ = os.Remove(cert) },
		"certificate empty": func() { securetest.Write(dir, "server.pem", nil) },
		"key is no key":     func() { securetest.Write(dir, "server.key", []byte("nothing")) },
		"CA empty":          func() { securetest.Write(dir, "ca.pem", []byte("\n")) },
		"one CA broken": func() {
			securetest.Write(dir, "ca.pem", append(append([]byte{}, ca.PEM...), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"...))
		},
	} {
		t.Run(name, func(t *testing.T) {
			good := ca.Issue(securetest.Leaf{})
			good.Write(dir, "server")
			securetest.Write(dir, "ca.pem", ca.PEM)
			var log record
			f, err := openFiles(cert, key, caFile, log.logger())
			if err != nil {
				t.Fatal(err)
			}
			before := f.current()
			breaks()
			if f.current() != before || !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), dir) {
				t.Errorf("log:\n%s", &log)
			}
			if _, err := openFiles(cert, key, caFile, nil); err == nil || !strings.Contains(err.Error(), dir) {
				t.Errorf("at the start the error is %v, and should name the file", err)
			}
			good.Write(dir, "server")
			securetest.Write(dir, "ca.pem", ca.PEM)
			for range 2 {
				f.current()
			}
			if strings.Count(log.String(), `"TLS files can be used again"`) != 1 {
				t.Errorf("that all is well again is not told once:\n%s", &log)
			}
		})
	}
}

func TestExpiredCertificatesAreWarnedOf(t *testing.T) {
	dir, ca := t.TempDir(), securetest.NewCA("CA")
	for want, leaf := range map[string]securetest.Leaf{
		"has expired":      {NotAfter: time.Now().Add(-time.Minute)},
		"is not valid yet": {NotBefore: time.Now().Add(time.Minute)},
	} {
		var log record
		cert, key := ca.Issue(leaf).Write(dir, "server")
		if _, err := openFiles(cert, key, "", log.logger()); err != nil || !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), want) {
			t.Errorf("%v, log:\n%s", err, &log)
		}
	}
}

func TestWatchTellsOfChangesBySelf(t *testing.T) {
	dir, ca := t.TempDir(), securetest.NewCA("CA")
	synctest.Test(t, func(t *testing.T) {
		cert, key := ca.Issue(securetest.Leaf{}).Write(dir, "server")
		var log record
		f, err := openFiles(cert, key, "", log.logger())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { f.watch(ctx); close(done) }()
		if err := os.Remove(filepath.Join(dir, "server.key")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if strings.Count(log.String(), "can't be used") != 1 {
			t.Errorf("log:\n%s", &log)
		}
		cancel()
		<-done
	})
}
