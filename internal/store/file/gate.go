package file

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var errGate = errors.New("this instance of the database was given up after an error")

// gate is the file system of one instance of the database. Once it is shut,
// everything the instance does to files fails, so that its goroutines, which
// can't all be stopped, never touch what the next instance owns.
//
// Every operation holds mu for reading; shut takes it for writing, and so
// returns when none is under way any more.
type gate struct {
	vfs.FS
	dead atomic.Bool

	mu    sync.RWMutex
	filed sync.Mutex
	files map[*gateFile]struct{} // open; guarded by filed
}

func newGate(fs vfs.FS) *gate { return &gate{FS: fs, files: map[*gateFile]struct{}{}} }

// shut lets nothing through from now on, and closes what is open.
func (g *gate) shut() {
	g.dead.Store(true)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.filed.Lock()
	defer g.filed.Unlock()
	for f := range g.files {
		_ = f.File.Close() // its writer has failed already, and the next instance reads what is on disk
	}
	clear(g.files)
}

// enter begins an operation; leave ends it, when enter returned nil.
func (g *gate) enter() error {
	g.mu.RLock()
	if g.dead.Load() {
		g.mu.RUnlock()
		return errGate
	}
	return nil
}

func (g *gate) leave() { g.mu.RUnlock() }

func (g *gate) do(f func() error) error {
	if err := g.enter(); err != nil {
		return err
	}
	defer g.leave()
	return f()
}

func (g *gate) file(open func() (vfs.File, error)) (vfs.File, error) {
	if err := g.enter(); err != nil {
		return nil, err
	}
	defer g.leave()
	f, err := open()
	if err != nil {
		return nil, err
	}
	gf := &gateFile{File: f, gate: g}
	g.filed.Lock()
	g.files[gf] = struct{}{}
	g.filed.Unlock()
	return gf, nil
}

func (g *gate) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.file(func() (vfs.File, error) { return g.FS.Create(name, c) })
}

func (g *gate) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	return g.file(func() (vfs.File, error) { return g.FS.Open(name, opts...) })
}

func (g *gate) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return g.file(func() (vfs.File, error) { return g.FS.OpenReadWrite(name, c, opts...) })
}

func (g *gate) OpenDir(name string) (vfs.File, error) {
	return g.file(func() (vfs.File, error) { return g.FS.OpenDir(name) })
}

func (g *gate) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.file(func() (vfs.File, error) { return g.FS.ReuseForWrite(from, to, c) })
}

func (g *gate) Link(from, to string) error {
	return g.do(func() error { return g.FS.Link(from, to) })
}

func (g *gate) Remove(name string) error {
	return g.do(func() error { return g.FS.Remove(name) })
}

func (g *gate) RemoveAll(name string) error {
	return g.do(func() error { return g.FS.RemoveAll(name) })
}

func (g *gate) Rename(from, to string) error {
	return g.do(func() error { return g.FS.Rename(from, to) })
}

func (g *gate) MkdirAll(dir string, perm os.FileMode) error {
	return g.do(func() error { return g.FS.MkdirAll(dir, perm) })
}

// Lock locks nothing: the store holds the directory's lock, for one instance
// after the other.
func (g *gate) Lock(string) (io.Closer, error) { return unlocked{}, nil }

func (g *gate) Unwrap() vfs.FS { return g.FS }

type unlocked struct{}

func (unlocked) Close() error { return nil }

// gateFile is an open file of a gate.
type gateFile struct {
	vfs.File
	gate *gate
}

func (f *gateFile) Close() error {
	return f.gate.do(func() error {
		f.gate.filed.Lock()
		delete(f.gate.files, f)
		f.gate.filed.Unlock()
		return f.File.Close()
	})
}

func (f *gateFile) Read(p []byte) (int, error) {
	return f.count(func() (int, error) { return f.File.Read(p) })
}

func (f *gateFile) ReadAt(p []byte, off int64) (int, error) {
	return f.count(func() (int, error) { return f.File.ReadAt(p, off) })
}

func (f *gateFile) Write(p []byte) (int, error) {
	return f.count(func() (int, error) { return f.File.Write(p) })
}

func (f *gateFile) WriteAt(p []byte, off int64) (int, error) {
	return f.count(func() (int, error) { return f.File.WriteAt(p, off) })
}

func (f *gateFile) count(op func() (int, error)) (int, error) {
	if err := f.gate.enter(); err != nil {
		return 0, err
	}
	defer f.gate.leave()
	return op()
}

func (f *gateFile) Preallocate(off, n int64) error {
	return f.gate.do(func() error { return f.File.Preallocate(off, n) })
}

func (f *gateFile) Sync() error { return f.gate.do(f.File.Sync) }

func (f *gateFile) SyncData() error { return f.gate.do(f.File.SyncData) }

func (f *gateFile) SyncTo(n int64) (full bool, err error) {
	err = f.gate.do(func() (err error) { full, err = f.File.SyncTo(n); return err })
	return full, err
}

func (f *gateFile) Prefetch(off, n int64) error {
	return f.gate.do(func() error { return f.File.Prefetch(off, n) })
}

func (f *gateFile) Stat() (info vfs.FileInfo, err error) {
	err = f.gate.do(func() (err error) { info, err = f.File.Stat(); return err })
	return info, err
}

// Fd hides the descriptor: whoever has it gets past the gate.
func (f *gateFile) Fd() uintptr { return vfs.InvalidFd }
