// Package file remembers durable tasks in a directory of this machine, in a
// Pebble database.
//
//	s, err := file.Open("reparto-data", file.Options{})
//	…
//	defer s.Close()
//	paused, err := s.Load(ctx, each) // what was there
//	err = s.Write(changes)           // on disk when it returns
//
// After a failed Write reads fail too, until a Write has succeeded: the store
// opens its database anew at the next Write, and reads what really is on disk.
package file

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// DefaultMinFree is the free space below which nothing is written: 64 MiB.
const DefaultMinFree = 64 << 20

// Options of a Store. The zero value works.
type Options struct {
	// MinFree is the free space of the disk, in bytes, below which Write fails
	// without touching anything; 0 means DefaultMinFree. With too little a disk
	// runs full in the midst of a write, and then can't be tidied up either.
	MinFree uint64
	// Log gets the database's own talk, at level debug; nil: nowhere.
	Log *slog.Logger
	// FS is the file system; nil: the machine's. For tests.
	FS vfs.FS
}

// Store remembers tasks on disk. Its methods may be called concurrently.
type Store struct {
	dir  string
	o    Options
	lock io.Closer

	// current serves reads. It may be dead; it is nil after a failed reopening.
	current atomic.Pointer[instance]

	writing sync.Mutex // guards what follows
	closed  bool
	key     []byte
	value   []byte
	// unsure are the ids of writes that failed: what is on disk of them is known
	// only by looking.
	unsure map[string]struct{}
}

// errClosed is what every method returns after Close.
var errClosed = errors.New("the store is closed")

// Open opens the store in dir, which is made, for its owner alone, when it is
// missing. It blocks while what the last balancer wrote is read back: seconds at
// most. Only one Store at a time can have a directory open, on the whole
// machine.
func Open(dir string, o Options) (*Store, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.MinFree == 0 {
		o.MinFree = DefaultMinFree
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := makeDirectory(o.FS, dir); err != nil {
		return nil, fmt.Errorf("make the data directory %s: %w", dir, err)
	}
	lock, err := o.FS.Lock(o.FS.PathJoin(dir, "LOCK"))
	if err != nil {
		return nil, lockError(dir, err)
	}
	s := &Store{dir: dir, o: o, lock: lock, unsure: map[string]struct{}{}}
	in, err := openInstance(o.FS, dir, o.Log)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the data directory %s: %w", dir, err), lock.Close())
	}
	s.current.Store(in)
	return s, nil
}

// makeDirectory makes dir and what is missing above it, so that a loss of power
// does not undo it.
func makeDirectory(fs vfs.FS, dir string) error {
	var missing []string
	for d := dir; ; d = fs.PathDir(d) {
		if _, err := fs.Stat(d); err == nil || d == fs.PathDir(d) {
			break
		}
		missing = append(missing, d)
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, d := range missing {
		parent, err := fs.OpenDir(fs.PathDir(d))
		if err != nil {
			return err
		}
		if err := errors.Join(parent.Sync(), parent.Close()); err != nil {
			return err
		}
	}
	return nil
}

func lockError(dir string, err error) error {
	taken := errors.Is(err, syscall.EAGAIN) || strings.Contains(err.Error(), "held by current process")
	if taken {
		return fmt.Errorf("the data directory %s is in use by another balancer; stop it or give this one another directory (%w)", dir, err)
	}
	return fmt.Errorf("lock the data directory %s: %w", dir, err)
}

// Close waits for calls that are under way and gives the directory free. Every
// call after it fails, but another Close.
func (s *Store) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var err error
	if in := s.current.Load(); in != nil {
		if in.dead() {
			in.abandon()
		} else if err = in.close(); err != nil {
			in.abandon()
		}
	}
	return errors.Join(err, s.lock.Close())
}

// live returns an instance that can be written to, opening one when the last
// is dead. The caller holds writing.
func (s *Store) live() (*instance, error) {
	old := s.current.Load()
	if old != nil {
		if !old.dead() {
			return old, nil
		}
		s.current.Store(nil)
		old.abandon()
	}
	in, err := (*instance)(nil), s.tryDisk()
	if err == nil {
		in, err = openInstance(s.o.FS, s.dir, s.o.Log)
	}
	if err != nil {
		return nil, fmt.Errorf("open the data directory %s again: %w", s.dir, err)
	}
	s.current.Store(in)
	return in, nil
}

// tryDisk writes a file and syncs it, as the database is about to. A database
// that dies while it is opened takes memory with it, so while the disk fails
// none is opened.
func (s *Store) tryDisk() error {
	name := s.o.FS.PathJoin(s.dir, "probe")
	f, err := s.o.FS.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte("probe"))
	return errors.Join(err, f.Sync(), f.Close(), s.o.FS.Remove(name))
}

// read returns an instance whose reading lock is held; the caller unlocks it.
func (s *Store) read() (*instance, error) {
	in := s.current.Load()
	if in == nil {
		return nil, errors.New("the store can't be read since writing to it failed; it recovers with the next write that succeeds")
	}
	if in.dead() {
		return nil, fmt.Errorf("the store can't be read since writing to it failed; it recovers with the next write that succeeds: %w", in.cause)
	}
	in.reading.RLock()
	if in.closed {
		in.reading.RUnlock()
		return nil, errClosed
	}
	return in, nil
}

// enoughSpace fails when the disk is nearly full. A file system that can't tell
// has enough.
func (s *Store) enoughSpace() error {
	usage, err := s.o.FS.GetDiskUsage(s.dir)
	if err != nil || usage.AvailBytes >= s.o.MinFree {
		return nil
	}
	return fmt.Errorf("the disk of %s has %d MiB free, and below %d MiB nothing is written: make room", s.dir, usage.AvailBytes>>20, s.o.MinFree>>20)
}
