package file

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"reparto/internal/task"
)

// Load hands over every task without a final state, payloads and metadata left
// out, in the order of their ids, and returns the functions that are paused. It
// blocks for the disk and for each.
func (s *Store) Load(ctx context.Context, each func(*task.Record) error) (paused []string, err error) {
	in, err := s.read()
	if err != nil {
		return nil, err
	}
	defer in.reading.RUnlock()
	err = in.scan(ctx, pausedPrefix, func(name string, _ []byte) error {
		paused = append(paused, name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	var d decoder
	err = in.scan(ctx, unfinishedPrefix, func(id string, value []byte) error {
		r := &task.Record{Task: task.Task{ID: id}}
		if _, err := d.record(value, r, everyPart); err != nil {
			return fmt.Errorf("load task %s: %w", id, err)
		}
		return each(r)
	})
	if err != nil {
		return nil, err
	}
	return paused, nil
}

// contextEvery is after how many keys a scan looks at its context.
const contextEvery = 1024

// scan calls f with what follows prefix in each key that has it, ascending.
func (in *instance) scan(ctx context.Context, prefix string, f func(rest string, value []byte) error) (err error) {
	it, err := in.db.NewIter(&pebble.IterOptions{LowerBound: []byte(prefix), UpperBound: after(prefix)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		if n++; n%contextEvery == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := f(string(it.Key()[len(prefix):]), value); err != nil {
			return err
		}
	}
	return it.Error()
}

// Get returns a task with its payload, or nil when there is none. It blocks for
// the disk.
func (s *Store) Get(_ context.Context, id string) (*task.Record, error) {
	in, err := s.read()
	if err != nil {
		return nil, err
	}
	defer in.reading.RUnlock()
	r, err := in.get(id)
	if err != nil {
		return nil, fmt.Errorf("get task %s: %w", id, err)
	}
	return r, nil
}

// get reads the parts of a task one after the other. A Write between them can
// take a part away; then it looks again.
func (in *instance) get(id string) (*task.Record, error) {
	var d decoder
	for range 3 {
		r, apart, err := in.find(&d, id)
		if r == nil || err != nil {
			return nil, err
		}
		if apart {
			there, err := in.value([]byte(resultPrefix+id), func(v []byte) error {
				r.Outcome.Result = append([]byte(nil), v...)
				return nil
			})
			if err != nil {
				return nil, err
			}
			if !there {
				continue // retried by hand, or forgotten
			}
		}
		there, err := in.value([]byte(contentPrefix+id), func(v []byte) error { return d.content(v, &r.Task) })
		if there || err != nil {
			return r, err
		}
		if still, _, err := in.find(&d, id); still == nil || err != nil {
			return nil, err // forgotten
		}
		return r, nil // it has neither payload nor metadata
	}
	return nil, errors.New("its result is missing: the data is damaged")
}

// find returns the record of a task without its content, or nil. A task that
// moves from finished to unfinished meanwhile is not missed.
func (in *instance) find(d *decoder, id string) (r *task.Record, apart bool, err error) {
	read := func(v []byte) (err error) {
		r = &task.Record{Task: task.Task{ID: id}}
		apart, err = d.record(v, r, everyPart)
		return err
	}
	unfinished := []byte(unfinishedPrefix + id)
	if there, err := in.value(unfinished, read); there || err != nil {
		return r, apart, err
	}
	var key []byte
	for _, state := range finishedStates {
		key = appendFinishedKey(key[:0], state, id)
		if there, err := in.value(key, read); there || err != nil {
			return r, apart, err
		}
	}
	_, err = in.value(unfinished, read)
	return r, apart, err
}

// value calls f with the value of key, if it is there.
func (in *instance) value(key []byte, f func([]byte) error) (there bool, err error) {
	v, closer, err := in.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, errors.Join(f(v), closer.Close())
}
