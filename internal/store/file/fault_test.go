package file

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"reparto/internal/store/storetest"
	"reparto/internal/task"
)

func queued(id string) *task.Record { return storetest.Full(id, task.Queued) }

// TestPowerIsLost: after every write the machine loses its power; what was
// written before is there, whatever happened to what was not synced.
func TestPowerIsLost(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := open(t, "var/lib/data", fs)
	want := map[string]*task.Record{}
	for n := range 20 {
		a, b := fmt.Sprintf("t-%02d", n), fmt.Sprintf("t-%02d", n-1)
		want[a] = queued(a)
		changes := []task.Change{storetest.New(want[a])}
		if n > 0 {
			want[b] = storetest.Full(b, task.Succeeded)
			changes = append(changes, storetest.Later(want[b], task.Queued))
		}
		if n == 10 {
			want["t-03"] = nil
			changes = append(changes, task.Change{Forget: "t-03"})
		}
		storetest.Write(t, s, changes...)
		after := open(t, "var/lib/data", fs.CrashClone(vfs.CrashCloneCfg{}))
		for id, r := range want {
			storetest.Want(t, after, id, r)
		}
		if err := after.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTheLogIsTorn: the end of the log is missing, as after a crash in the midst
// of a write. What was written before is there, and writing goes on.
func TestTheLogIsTorn(t *testing.T) {
	for _, cut := range []int64{1, 7, 50, 300} {
		fs := vfs.NewCrashableMem()
		s := open(t, "data", fs)
		storetest.Write(t, s, storetest.New(queued("old")))
		before := logSize(t, fs)
		storetest.Write(t, s, storetest.New(queued("torn")))
		torn := fs.CrashClone(vfs.CrashCloneCfg{})
		truncateLog(t, torn, max(before, logSize(t, torn)-cut))
		after := open(t, "data", torn)
		storetest.Want(t, after, "old", queued("old"))
		storetest.Want(t, after, "torn", nil)
		storetest.Write(t, after, storetest.New(queued("next")))
		storetest.Want(t, after, "next", queued("next"))
	}
}

// lastLog is the name of the newest log and its content up to the last byte
// that is not zero.
func lastLog(t *testing.T, fs vfs.FS) (name string, content []byte) {
	t.Helper()
	names, err := fs.List("data")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if filepath.Ext(n) == ".log" && n > name {
			name = n
		}
	}
	name = fs.PathJoin("data", name)
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	content = make([]byte, info.Size())
	if _, err := f.ReadAt(content, 0); err != nil {
		t.Fatal(err)
	}
	return name, []byte(strings.TrimRight(string(content), "\x00"))
}

func logSize(t *testing.T, fs vfs.FS) int64 {
	_, content := lastLog(t, fs)
	return int64(len(content))
}

func truncateLog(t *testing.T, fs vfs.FS, size int64) {
	t.Helper()
	name, content := lastLog(t, fs)
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(content[:size]); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// faults makes a file system that fails where hits says, while on.
type faults struct {
	on    atomic.Bool
	fails error
	hits  func(errorfs.Op) bool
}

func (f *faults) wrap(fs vfs.FS) vfs.FS {
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if f.on.Load() && f.hits(op) {
			return f.fails
		}
		return nil
	}))
}

func isLog(op errorfs.Op) bool { return strings.HasSuffix(op.Path, ".log") }

var disasters = map[string]func(errorfs.Op) bool{
	"the log can't be synced": func(op errorfs.Op) bool {
		return isLog(op) && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo)
	},
	"the log can't be written": func(op errorfs.Op) bool { return isLog(op) && op.Kind == errorfs.OpFileWrite },
	"nothing can be written":   func(op errorfs.Op) bool { return op.Kind.ReadOrWrite() == errorfs.OpIsWrite },
	"nothing works":            func(errorfs.Op) bool { return true },
}

// TestTheDiskFails: while it does, every write fails, and nothing else happens
// to the process; once it works again so does the store, by itself.
func TestTheDiskFails(t *testing.T) {
	for name, hits := range disasters {
		for _, fails := range []error{syscall.EIO, syscall.ENOSPC} {
			t.Run(name+": "+fails.Error(), func(t *testing.T) {
				mem := vfs.NewCrashableMem()
				f := &faults{fails: fails, hits: hits}
				s := open(t, "data", f.wrap(mem))
				old := queued("old")
				storetest.Write(t, s, storetest.New(old), task.Change{Function: "f", Paused: true})

				f.on.Store(true)
				for i := range 3 {
					if err := s.Write([]task.Change{storetest.New(queued("new"))}); err == nil {
						t.Fatalf("write %d did not fail", i)
					} else if i == 0 && !errors.Is(err, fails) && !strings.Contains(err.Error(), fails.Error()) {
						t.Errorf("write %d: the cause is missing in %q", i, err)
					}
					if _, err := s.Get(t.Context(), "old"); err == nil {
						t.Error("a dead store was read")
					}
				}
				f.on.Store(false)

				storetest.Write(t, s)
				storetest.Want(t, s, "old", old)
				storetest.Write(t, s, storetest.New(queued("new")), storetest.New(queued("more")))
				after := open(t, "data", mem.CrashClone(vfs.CrashCloneCfg{}))
				for _, store := range []*Store{s, after} {
					for _, id := range []string{"old", "new", "more"} {
						storetest.Want(t, store, id, queued(id))
					}
				}
			})
		}
	}
}

// TestAFailedWriteMayHaveHappened: the change is on disk though the write
// failed, and the next one knows nothing of it. Nothing is left of it then.
func TestAFailedWriteMayHaveHappened(t *testing.T) {
	mem := vfs.NewMem()
	f := &faults{fails: syscall.EIO, hits: disasters["the log can't be synced"]}
	s := open(t, "data", f.wrap(mem))
	storetest.Write(t, s, storetest.New(queued("t")))
	f.on.Store(true)
	if err := s.Write([]task.Change{storetest.Later(storetest.Full("t", task.Failed), task.Queued)}); err == nil {
		t.Fatal("the write did not fail")
	}
	f.on.Store(false)
	storetest.Write(t, s)
	if r, err := s.Get(t.Context(), "t"); err != nil || r == nil || r.State != task.Failed {
		t.Fatalf("this test wants the failed write on disk: %v, %v", r, err)
	}
	// Meanwhile it was retried by hand; the store is told what it acknowledged.
	storetest.Write(t, s, storetest.Later(storetest.Full("t", task.Scheduled), task.Queued))
	storetest.Want(t, s, "t", storetest.Full("t", task.Scheduled))
	page, _, err := s.List(t.Context(), task.Query{Limit: 10})
	if err != nil || len(page) != 1 {
		t.Errorf("listed are %d tasks, error %v", len(page), err)
	}
	page, _, err = s.List(t.Context(), task.Query{ForgettableAt: storetest.Epoch.AddDate(1, 0, 0), Limit: 10})
	if err != nil || len(page) != 0 {
		t.Errorf("%d may be forgotten, error %v", len(page), err)
	}
}

// TestTheManifestFails: the database dies of what fails behind the writer. Writes
// fail then, until it works again.
func TestTheManifestFails(t *testing.T) {
	mem := vfs.NewCrashableMem()
	f := &faults{fails: syscall.EIO, hits: func(op errorfs.Op) bool {
		return strings.Contains(op.Path, "MANIFEST") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite
	}}
	s := open(t, "data", f.wrap(mem))
	storetest.Write(t, s, storetest.New(queued("old")))
	in := s.current.Load()
	f.on.Store(true)
	if _, err := in.db.AsyncFlush(); err != nil {
		t.Fatal(err)
	}
	<-in.died
	if err := s.Write([]task.Change{storetest.New(queued("new"))}); err == nil {
		t.Error("the write did not fail")
	}
	f.on.Store(false)
	storetest.Write(t, s, storetest.New(queued("new")))
	after := open(t, "data", mem.CrashClone(vfs.CrashCloneCfg{}))
	storetest.Want(t, after, "old", queued("old"))
	storetest.Want(t, after, "new", queued("new"))
}

func TestADiskThatIsNearlyFullIsLeftAlone(t *testing.T) {
	mem := vfs.NewMem()
	s := open(t, "data", mem)
	storetest.Write(t, s, storetest.New(queued("old")))
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: DefaultMinFree - 1, TotalBytes: 1 << 40})
	err := s.Write([]task.Change{storetest.New(queued("new"))})
	if err == nil || !strings.Contains(err.Error(), "the disk of data has 63 MiB free, and below 64 MiB nothing is written") {
		t.Errorf("got %v", err)
	}
	storetest.Want(t, s, "old", queued("old"))
	storetest.Want(t, s, "new", nil)
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: DefaultMinFree, TotalBytes: 1 << 40})
	storetest.Write(t, s, storetest.New(queued("new")))
}

// TestADeadInstanceTouchesNothing: its files are closed, and it opens no more.
func TestADeadInstanceTouchesNothing(t *testing.T) {
	mem := vfs.NewMem()
	g := newGate(mem)
	f, err := g.Create("f", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	g.shut()
	if _, err := f.Write([]byte("x")); err != errGate {
		t.Errorf("write: %v", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); !errors.Is(err, errGate) {
		t.Errorf("sync and close: %v", err)
	}
	if _, err := g.Create("g", vfs.WriteCategoryUnspecified); err != errGate {
		t.Errorf("create: %v", err)
	}
	if err := g.Remove("f"); err != errGate {
		t.Errorf("remove: %v", err)
	}
	if _, err := mem.Stat("f"); err != nil {
		t.Errorf("it removed a file: %v", err)
	}
}
