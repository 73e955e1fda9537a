// Package memory remembers durable tasks until the process ends: for trying
// things out, and for tests.
//
//	s := memory.New()
//	err := s.Write(changes)
//	r, err := s.Get(ctx, "task-1")
package memory

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"reparto/internal/task"
)

// Store remembers tasks in memory, all of them: it has no bound of its own. Its
// methods may be called concurrently, and block for nothing but each other.
type Store struct {
	mu     sync.RWMutex // guards what follows
	tasks  map[string]*task.Record
	ids    []string // of tasks, ascending
	paused map[string]bool
}

// New returns a store with nothing in it. It need not be closed.
func New() *Store {
	return &Store{tasks: map[string]*task.Record{}, paused: map[string]bool{}}
}

// Load hands over every task without a final state, payloads and metadata left
// out, and returns the functions that are paused.
func (s *Store) Load(ctx context.Context, each func(*task.Record) error) (paused []string, err error) {
	for _, r := range s.unfinished() {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err := each(r); err != nil {
			return nil, err
		}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.paused)), nil
}

func (s *Store) unfinished() (list []*task.Record) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, id := range s.ids {
		if r := s.tasks[id]; !r.State.Terminal() {
			r = r.Clone()
			r.Payload, r.Metadata = nil, nil
			list = append(list, r)
		}
	}
	return list
}

// Write remembers all changes. It fails only for a change that sets nothing.
func (s *Store) Write(changes []task.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var removed bool
	var err error
	for i := range changes {
		switch c := &changes[i]; {
		case c.Function != "" && c.Paused:
			s.paused[c.Function] = true
		case c.Function != "":
			delete(s.paused, c.Function)
		case c.Forget != "":
			delete(s.tasks, c.Forget)
			removed = true
		case c.Record != nil:
			s.remember(c)
		default:
			err = errors.New("a change of nothing: one of Record, Forget and Function must be set")
		}
	}
	if removed {
		s.ids = slices.DeleteFunc(s.ids, func(id string) bool { return s.tasks[id] == nil })
	}
	if !slices.IsSorted(s.ids) {
		slices.Sort(s.ids)
	}
	if removed { // and came back in the same Write: it was appended beside its old entry
		s.ids = slices.Compact(s.ids)
	}
	return err
}

// remember replaces the record of a task. Records are never changed once they
// are in the map.
func (s *Store) remember(c *task.Change) {
	r := c.Record.Clone()
	old := s.tasks[r.ID]
	switch {
	case c.New:
		r.Payload, r.Metadata = bytes.Clone(r.Payload), maps.Clone(r.Metadata)
	case old != nil:
		r.Payload, r.Metadata = old.Payload, old.Metadata
	default:
		r.Payload, r.Metadata = nil, nil
	}
	r.Outcome.Result = bytes.Clone(r.Outcome.Result)
	if old == nil {
		s.ids = append(s.ids, r.ID)
	}
	s.tasks[r.ID] = r
}

// Get returns a task with its payload, or nil when there is none.
func (s *Store) Get(_ context.Context, id string) (*task.Record, error) {
	s.mu.RLock()
	r := s.tasks[id]
	s.mu.RUnlock()
	if r == nil {
		return nil, nil
	}
	r = r.Clone()
	r.Payload, r.Metadata = bytes.Clone(r.Payload), maps.Clone(r.Metadata)
	r.Outcome.Result = bytes.Clone(r.Outcome.Result)
	return r, nil
}
