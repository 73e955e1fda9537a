package dispatch

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reparto/internal/task"
)

// fakeStore remembers in memory, and can be made to fail or to wait.
type fakeStore struct {
	mu     sync.Mutex
	tasks  map[string]task.Record
	paused map[string]bool
	writes int
	err    error         // of the next writes
	late   bool          // err comes after the write took place
	gate   chan struct{} // when set, a write waits for it
}

func newFakeStore() *fakeStore {
	return &fakeStore{tasks: map[string]task.Record{}, paused: map[string]bool{}}
}

func (s *fakeStore) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *fakeStore) Load(_ context.Context, each func(*task.Record) error) (paused []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.tasks {
		if !r.State.Terminal() {
			r.Payload, r.Metadata = nil, nil
			if err := each(&r); err != nil {
				return nil, err
			}
		}
	}
	for name := range s.paused {
		paused = append(paused, name)
	}
	return paused, nil
}

func (s *fakeStore) Write(changes []task.Change) error {
	if s.gate != nil {
		<-s.gate
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if s.err != nil && !s.late {
		return s.err
	}
	for _, c := range changes {
		switch {
		case c.Forget != "":
			delete(s.tasks, c.Forget)
		case c.Function != "":
			delete(s.paused, c.Function)
			if c.Paused {
				s.paused[c.Function] = true
			}
		default:
			r := *c.Record.Clone()
			if !c.New {
				r.Payload, r.Metadata = s.tasks[r.ID].Payload, s.tasks[r.ID].Metadata
			}
			s.tasks[r.ID] = r
		}
	}
	return s.err
}

func (s *fakeStore) Get(_ context.Context, id string) (*task.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.tasks[id]; ok {
		return &r, nil
	}
	return nil, nil
}

func (s *fakeStore) List(_ context.Context, q task.Query) (page []task.Record, next string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.tasks {
		if q.ForgettableAt.IsZero() || r.State.Terminal() && !r.ForgetAt.After(q.ForgettableAt) {
			page = append(page, r)
		}
	}
	slices.SortFunc(page, func(a, b task.Record) int { return cmp.Compare(b.ID, a.ID) })
	return page[:min(len(page), q.Limit)], "", nil
}

func (s *fakeStore) state(id string) task.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tasks[id].State
}

func durableTask(id, payload string) task.Task {
	return task.Task{
		ID: id, Function: "f", Payload: []byte(payload), Deadline: time.Now().Add(time.Hour), MaxAttempts: 2,
		Durable: &task.Durable{TTL: time.Hour, Retention: time.Hour},
	}
}

// enqueue hands over one task and returns what became of it.
func enqueue(d *Dispatcher, tk task.Task) Enqueuing {
	batch := []Enqueuing{{Task: tk}}
	d.Enqueue(context.Background(), batch)
	return batch[0]
}

func mustEnqueue(t testing.TB, d *Dispatcher, tk task.Task) {
	t.Helper()
	if e := enqueue(d, tk); e.Err != nil {
		t.Fatalf("enqueue %s: %v", tk.ID, e.Err)
	}
}

var errDisk = errors.New("the disk is on fire")

// Who waits for a task that turns out not to be on disk learns that there is none.
func TestWhoWaitsForATaskThatCouldNotBeWrittenIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.gate = make(chan struct{})
		d := open(t, Options{Store: store})
		enqueued, waited := make(chan error, 1), make(chan error, 1)
		go func() {
			batch := []Enqueuing{{Task: durableTask("t", "x")}}
			d.Enqueue(context.Background(), batch)
			enqueued <- batch[0].Err
		}()
		synctest.Wait()
		go func() {
			_, err := d.WaitTask(context.Background(), "t")
			waited <- err
		}()
		synctest.Wait()
		store.fail(errors.New("the disk is full"))
		store.gate <- struct{}{}
		synctest.Wait()
		if _, failed := errors.AsType[*StoreError](<-enqueued); !failed {
			t.Error("the task was accepted")
		}
		select {
		case err := <-waited:
			if err != ErrTaskNotFound {
				t.Errorf("%v, want %v", err, ErrTaskNotFound)
			}
		default:
			t.Error("who waits for it was told nothing")
		}
		store.fail(nil)
		close(store.gate)
		d.Close()
	})
}
