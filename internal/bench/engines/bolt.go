package main

import (
	"bytes"
	"errors"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

// boltEngine has a bucket for each kind of key.
type boltEngine struct{ db *bolt.DB }

var buckets = []string{"unfinished", "payload", "done", "forget"}

func openBolt(dir string) (engine, error) {
	db, err := bolt.Open(filepath.Join(dir, "tasks.db"), 0o600, &bolt.Options{FreelistType: bolt.FreelistMapType, NoFreelistSync: true})
	if err != nil {
		return nil, err
	}
	return &boltEngine{db}, db.Update(func(tx *bolt.Tx) error {
		for _, name := range buckets {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (e *boltEngine) write(tasks []row, do func(u, p, d, r *bolt.Bucket, t *row) error) error {
	return e.db.Update(func(tx *bolt.Tx) error {
		var b [4]*bolt.Bucket
		for i, name := range buckets {
			b[i] = tx.Bucket([]byte(name))
		}
		for i := range tasks {
			if err := do(b[0], b[1], b[2], b[3], &tasks[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (e *boltEngine) accept(tasks []row) error {
	return e.write(tasks, func(u, p, _, _ *bolt.Bucket, t *row) error {
		return errors.Join(u.Put([]byte(t.id), t.state), p.Put([]byte(t.id), t.payload))
	})
}

func (e *boltEngine) run(tasks []row) error {
	return e.write(tasks, func(u, _, _, _ *bolt.Bucket, t *row) error { return u.Put([]byte(t.id), t.state) })
}

func (e *boltEngine) finish(tasks []row) error {
	return e.write(tasks, func(u, _, d, r *bolt.Bucket, t *row) error {
		return errors.Join(u.Delete([]byte(t.id)), d.Put([]byte(t.id), t.state), r.Put(forgetKey(t), nil))
	})
}

func (e *boltEngine) forget(tasks []row) error {
	return e.write(tasks, func(_, p, d, r *bolt.Bucket, t *row) error {
		return errors.Join(p.Delete([]byte(t.id)), d.Delete([]byte(t.id)), r.Delete(forgetKey(t)))
	})
}

func (e *boltEngine) get(id string) error {
	return e.db.View(func(tx *bolt.Tx) error {
		state := bytes.Clone(tx.Bucket([]byte("done")).Get([]byte(id)))
		payload := bytes.Clone(tx.Bucket([]byte("payload")).Get([]byte(id)))
		if state == nil || payload == nil {
			return errors.New("not there: " + id)
		}
		return nil
	})
}

func (e *boltEngine) list(before string) (next string, err error) {
	err = e.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket([]byte("done")).Cursor()
		k, _ := c.Last()
		if before != "" {
			if k, _ = c.Seek([]byte(before)); k != nil {
				k, _ = c.Prev()
			}
		}
		for n := 0; k != nil && n < 100; n++ {
			next = string(k)
			k, _ = c.Prev()
		}
		return nil
	})
	return next, err
}

func (e *boltEngine) close() error { return e.db.Close() }
