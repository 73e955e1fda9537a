package file

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"reparto/internal/store/storetest"
)

// open opens a store that is closed when the test ends.
func open(t testing.TB, dir string, fs vfs.FS) *Store {
	t.Helper()
	s, err := Open(dir, Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestPromise(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for _, c := range storetest.Cases {
		t.Run(c.Name, func(t *testing.T) {
			fs := vfs.NewMem()
			s := open(t, "data", fs)
			c.Run(t, storetest.Backend{Store: s, Reopen: func() storetest.Store {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = open(t, "data", fs)
				return s
			}})
		})
	}
}

func TestADirectoryIsForOneBalancerAndItsOwner(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "data")
	s := open(t, dir, nil)
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory is %v, %v", info.Mode(), err)
	}
	_, err = Open(dir, Options{})
	if err == nil || !strings.Contains(err.Error(), dir+" is in use by another balancer") {
		t.Errorf("the second balancer got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir, nil)
}

func TestAClosedStoreSaysSo(t *testing.T) {
	s := open(t, "data", vfs.NewMem())
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Write(nil); err != errClosed {
		t.Errorf("write: %v", err)
	}
	if _, err := s.Get(t.Context(), "t"); err != errClosed {
		t.Errorf("get: %v", err)
	}
}

func TestANewerFormatIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, "data", fs)
	if err := s.current.Load().db.Set([]byte(versionKey), []byte{3}, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := Open("data", Options{FS: fs})
	if err == nil || !strings.Contains(err.Error(), "reparto-data is of format 3, this balancer knows up to 1: use a newer balancer") {
		t.Errorf("got %v", err)
	}
}
