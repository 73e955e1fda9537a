package file

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// instance is one opening of the database, from Open to its death or Close.
//
// Pebble ends the process when its log or its manifest can't be written: it
// calls Logger.Fatalf, from whatever goroutine noticed. Here that kills the
// instance instead: its error is kept, the goroutine ends, and everybody who
// waits for the instance gets the error. Danger: locks inside a dead instance
// may be held for ever. So nothing is asked of it any more; its files are closed
// by the gate, and what can't be taken apart of the rest is left to lie.
type instance struct {
	db   *pebble.DB
	gate *gate
	log  *slog.Logger

	died  chan struct{}
	once  sync.Once
	cause error // why; set before died is closed

	// reading is held by every read, so that nothing is closed under it. closed
	// is guarded by it.
	reading sync.RWMutex
	closed  bool
}

// openInstance opens the database in dir, which the caller has locked.
func openInstance(fs vfs.FS, dir string, log *slog.Logger) (*instance, error) {
	in := &instance{gate: newGate(fs), log: log, died: make(chan struct{})}
	err := in.run(func() error {
		db, err := pebble.Open(dir, in.options())
		if err != nil {
			return err
		}
		in.db = db
		return checkFormat(db)
	})
	if err != nil {
		in.abandon()
		return nil, err
	}
	return in, nil
}

const (
	memTable   = 32 << 20 // several seconds of a heavy load; up to three are in memory
	blockCache = 32 << 20
)

func (in *instance) options() *pebble.Options {
	o := &pebble.Options{
		FS:     in.gate,
		Logger: in,
		// A fixed format: a newer Pebble must not make data that an older one
		// can't read without our own format number telling.
		FormatMajorVersion:          pebble.FormatWALSyncChunks,
		CacheSize:                   blockCache,
		MemTableSize:                memTable,
		MemTableStopWritesThreshold: 3,
		// A burst shall be slowed by the disk, not stopped by tables that wait
		// for compaction.
		L0CompactionThreshold: 4,
		L0StopWritesThreshold: 40,
		EventListener: &pebble.EventListener{
			// The default ends the process; the read that found it has the error.
			DataCorruption: func(i pebble.DataCorruptionInfo) { in.Errorf("%v", i) },
		},
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	// Sampling may take the database's main lock, which a dead instance can hold.
	o.Experimental.ReadSamplingMultiplier = -1
	return o
}

// run runs f in a goroutine of its own and returns its error, or the instance's
// as soon as it is dead.
func (in *instance) run(f func() error) error {
	done := make(chan error, 1)
	go func() {
		returned := false
		defer func() {
			if returned {
				return
			}
			if p := recover(); p != nil {
				in.die(fmt.Errorf("the database panicked: %v", p))
			}
		}()
		err := f()
		returned = true
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-in.died:
		return in.cause
	}
}

// die makes the instance dead; the first cause stays. It does not block.
func (in *instance) die(cause error) {
	in.once.Do(func() {
		in.cause = cause
		in.gate.dead.Store(true)
		close(in.died)
		go in.takeApart()
	})
}

func (in *instance) dead() bool {
	select {
	case <-in.died:
		return true
	default:
		return false
	}
}

var errAbandoned = errors.New("given up")

// abandon returns when the instance touches no file any more.
func (in *instance) abandon() {
	in.die(errAbandoned)
	in.gate.shut()
}

// takeApart frees what it can of a dead instance, so that it does not go on
// trying for ever. It may hang: nobody waits for it.
func (in *instance) takeApart() {
	in.gate.shut()
	in.reading.Lock()
	defer in.reading.Unlock()
	defer func() {
		if p := recover(); p != nil {
			in.Infof("closing a dead database: %v", p)
		}
	}()
	if in.db != nil && !in.closed {
		in.closed = true
		if err := in.db.Close(); err != nil {
			in.Infof("closing a dead database: %v", err)
		}
	}
}

// close closes a live instance, after the reads that are under way.
func (in *instance) close() error {
	in.reading.Lock()
	defer in.reading.Unlock()
	in.closed = true
	return in.run(in.db.Close)
}

// Infof and its siblings make the instance Pebble's logger.
func (in *instance) Infof(format string, args ...any) {
	if in.log.Enabled(context.Background(), slog.LevelDebug) {
		in.log.Debug("pebble: " + fmt.Sprintf(format, args...))
	}
}

func (in *instance) Errorf(format string, args ...any) { in.Infof(format, args...) }

// Fatalf never returns, as Pebble expects.
func (in *instance) Fatalf(format string, args ...any) {
	in.die(fmt.Errorf(format, args...))
	runtime.Goexit()
}
