package memory

import (
	"cmp"
	"context"
	"slices"

	"reparto/internal/task"
)

// maxLooks is how many tasks a List looks at, at most, so that a Write waits for
// it no longer than for the disk.
const maxLooks = 10_000

// List returns a page of records without payloads, metadata, results and
// attempts, in the descending order of their ids; next continues it as
// Query.Before, and is empty when nothing is left. It looks at no more than
// 10,000 tasks, so a page may be short. Records of tasks to be forgotten have
// only ID, State and ForgetAt.
func (s *Store) List(_ context.Context, q task.Query) (page []task.Record, next string, err error) {
	q.Limit = max(q.Limit, 1)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !q.ForgettableAt.IsZero() {
		page, next = s.forgettable(q)
		return page, next, nil
	}
	i := len(s.ids)
	if q.Before != "" {
		i, _ = slices.BinarySearch(s.ids, q.Before)
	}
	for looks := 0; i > 0; looks++ {
		if len(page) >= q.Limit || looks >= maxLooks {
			return page, s.ids[i], nil
		}
		i--
		r := s.tasks[s.ids[i]]
		if q.State != task.None && q.State != r.State || q.Function != "" && q.Function != r.Function || q.Owner != "" && q.Owner != r.Owner {
			continue
		}
		c := *r
		c.Payload, c.Metadata, c.Attempts, c.Outcome.Result = nil, nil, nil, nil
		page = append(page, c)
	}
	return page, "", nil
}

// forgettable returns the oldest first.
func (s *Store) forgettable(q task.Query) (page []task.Record, next string) {
	for id, r := range s.tasks {
		if r.State.Terminal() && !r.ForgetAt.IsZero() && !r.ForgetAt.After(q.ForgettableAt) {
			page = append(page, task.Record{Task: task.Task{ID: id}, State: r.State, ForgetAt: r.ForgetAt})
		}
	}
	slices.SortFunc(page, func(a, b task.Record) int {
		return cmp.Or(a.ForgetAt.Compare(b.ForgetAt), cmp.Compare(a.ID, b.ID))
	})
	if len(page) > q.Limit {
		return page[:q.Limit:q.Limit], page[q.Limit-1].ID
	}
	return page, ""
}
