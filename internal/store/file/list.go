package file

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"reparto/internal/task"
)

// maxLooks is how many tasks a List looks at, at most: a few milliseconds.
const maxLooks = 10_000

// List returns a page of records without payloads, metadata, results and
// attempts, in the descending order of their ids; next continues it as
// Query.Before, and is empty when nothing is left. It looks at no more than
// 10,000 tasks, so a page may be short. Records of tasks to be forgotten have
// only ID, State and ForgetAt.
func (s *Store) List(ctx context.Context, q task.Query) (page []task.Record, next string, err error) {
	q.Limit = max(q.Limit, 1)
	in, err := s.read()
	if err != nil {
		return nil, "", err
	}
	defer in.reading.RUnlock()
	if !q.ForgettableAt.IsZero() {
		page, next, err = in.forgettable(ctx, q)
	} else {
		page, next, err = in.list(ctx, q)
	}
	if err != nil {
		return nil, "", fmt.Errorf("list tasks: %w", err)
	}
	return page, next, nil
}

// source is a range of records that ends before Query.Before, and is read
// backwards.
type source struct {
	it   *pebble.Iterator
	head int // length of the key before the id
}

func (c source) id() []byte { return c.it.Key()[c.head:] }

func (in *instance) list(ctx context.Context, q task.Query) (page []task.Record, next string, err error) {
	sources, err := in.sources(q)
	defer func() {
		for _, c := range sources {
			err = errors.Join(err, c.it.Close())
		}
	}()
	if err != nil {
		return nil, "", err
	}
	var d decoder
	for looks := 0; ; looks++ {
		c, ok := last(sources)
		if !ok {
			return page, "", nil
		}
		if len(page) >= q.Limit || looks >= maxLooks {
			return page, next, nil
		}
		if looks%contextEvery == 0 && ctx.Err() != nil {
			return nil, "", context.Cause(ctx)
		}
		next = string(c.id())
		value, err := c.it.ValueAndErr()
		if err != nil {
			return nil, "", err
		}
		r := task.Record{Task: task.Task{ID: next}}
		matches, err := d.matching(value, &r, q)
		if err != nil {
			return nil, "", fmt.Errorf("task %s: %w", next, err)
		}
		if matches {
			page = append(page, r)
		}
		if !c.it.Prev() && c.it.Error() != nil {
			return nil, "", c.it.Error()
		}
	}
}

// matching reads value into r if the query selects it.
func (d *decoder) matching(value []byte, r *task.Record, q task.Query) (bool, error) {
	if q.Function != "" || q.State != task.None {
		var head task.Record
		if _, err := d.record(value, &head, headOnly); err != nil {
			return false, err
		}
		if q.Function != "" && head.Function != q.Function || q.State != task.None && head.State != q.State {
			return false, nil
		}
	}
	_, err := d.record(value, r, unlisted)
	return err == nil && (q.Owner == "" || q.Owner == r.Owner), err
}

// sources are the ranges that can hold what the query selects, each at its last
// task, all of the same moment.
func (in *instance) sources(q task.Query) ([]source, error) {
	var prefixes []string
	if !q.State.Terminal() {
		prefixes = append(prefixes, unfinishedPrefix)
	}
	for _, state := range finishedStates {
		if q.State == task.None || q.State == state {
			prefixes = append(prefixes, string(appendFinishedKey(nil, state, "")))
		}
	}
	var sources []source
	for _, prefix := range prefixes {
		o := &pebble.IterOptions{LowerBound: []byte(prefix), UpperBound: after(prefix)}
		if q.Before != "" {
			o.UpperBound = []byte(prefix + q.Before)
		}
		var it *pebble.Iterator
		var err error
		if len(sources) == 0 {
			it, err = in.db.NewIter(o)
		} else {
			it, err = sources[0].it.Clone(pebble.CloneOptions{IterOptions: o})
		}
		if err != nil {
			return sources, err
		}
		sources = append(sources, source{it, len(prefix)})
		if !it.Last() && it.Error() != nil {
			return sources, it.Error()
		}
	}
	return sources, nil
}

// last returns the source with the greatest id, if any has one left.
func last(sources []source) (best source, ok bool) {
	for _, c := range sources {
		if c.it.Valid() && (!ok || string(c.id()) > string(best.id())) {
			best, ok = c, true
		}
	}
	return best, ok
}

// forgettable walks the retention index, oldest first.
func (in *instance) forgettable(ctx context.Context, q task.Query) (page []task.Record, next string, err error) {
	it, err := in.db.NewIter(&pebble.IterOptions{LowerBound: []byte(forgetPrefix), UpperBound: forgetBound(q)})
	if err != nil {
		return nil, "", err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		if len(page) >= q.Limit {
			return page, page[len(page)-1].ID, nil
		}
		if len(page)%contextEvery == 0 && ctx.Err() != nil {
			return nil, "", context.Cause(ctx)
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, "", err
		}
		r, err := forgetEntry(it.Key(), value)
		if err != nil {
			return nil, "", err
		}
		page = append(page, r)
	}
	return page, "", it.Error()
}
