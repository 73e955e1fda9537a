package main

import (
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

// pebbleEngine has the balancer's own keys: u/ unfinished, p/ payload, d/
// finished, r/ when to forget.
type pebbleEngine struct{ db *pebble.DB }

func openPebble(dir string) (engine, error) {
	o := &pebble.Options{MemTableSize: 32 << 20, Logger: quiet{}}
	o.EnsureDefaults()
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(dir, o)
	return &pebbleEngine{db}, err
}

type quiet struct{}

func (quiet) Infof(string, ...any)           {}
func (quiet) Errorf(string, ...any)          {}
func (quiet) Fatalf(format string, _ ...any) { panic(format) }

func (e *pebbleEngine) write(tasks []row, do func(b *pebble.Batch, t *row) error) error {
	b := e.db.NewBatch()
	for i := range tasks {
		if err := do(b, &tasks[i]); err != nil {
			return err
		}
	}
	return errors.Join(b.Commit(pebble.Sync), b.Close())
}

func key(prefix, id string) []byte { return []byte(prefix + id) }

func forgetKey(t *row) []byte {
	return append(binary.BigEndian.AppendUint64([]byte("r/"), t.forgetAt), t.id...)
}

func (e *pebbleEngine) accept(tasks []row) error {
	return e.write(tasks, func(b *pebble.Batch, t *row) error {
		return errors.Join(b.Set(key("u/", t.id), t.state, nil), b.Set(key("p/", t.id), t.payload, nil))
	})
}

func (e *pebbleEngine) run(tasks []row) error {
	return e.write(tasks, func(b *pebble.Batch, t *row) error { return b.Set(key("u/", t.id), t.state, nil) })
}

func (e *pebbleEngine) finish(tasks []row) error {
	return e.write(tasks, func(b *pebble.Batch, t *row) error {
		return errors.Join(b.Delete(key("u/", t.id), nil), b.Set(key("d/", t.id), t.state, nil), b.Set(forgetKey(t), nil, nil))
	})
}

func (e *pebbleEngine) forget(tasks []row) error {
	return e.write(tasks, func(b *pebble.Batch, t *row) error {
		return errors.Join(b.Delete(key("p/", t.id), nil), b.Delete(key("d/", t.id), nil), b.Delete(forgetKey(t), nil))
	})
}

func (e *pebbleEngine) get(id string) error {
	for _, prefix := range []string{"u/", "d/", "p/"} {
		_, c, err := e.db.Get(key(prefix, id))
		if err == nil {
			err = c.Close()
		}
		if err != nil && (prefix != "u/" || err != pebble.ErrNotFound) {
			return err
		}
	}
	return nil
}

func (e *pebbleEngine) list(before string) (string, error) {
	end := key("d/", before)
	if before == "" {
		end = []byte("d0")
	}
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: []byte("d/"), UpperBound: end})
	if err != nil {
		return "", err
	}
	next := ""
	for n, ok := 0, it.Last(); ok && n < 100; n, ok = n+1, it.Prev() {
		next = string(it.Key()[2:])
	}
	return next, it.Close()
}

func (e *pebbleEngine) close() error { return e.db.Close() }
