package file

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"reparto/internal/task"
)

// maxBatch is the size from which a batch is handed over before the next one is
// begun, so that a Write of many large payloads takes little memory. Only the
// last is waited for: the log keeps their order.
const maxBatch = 8 << 20

// Write returns once all changes are on disk, or with an error: then each may be
// there or not, reads fail, and the next Write opens the database anew. A Write
// of nothing writes a few bytes, to tell whether it works. It blocks for the
// disk.
func (s *Store) Write(changes []task.Change) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.closed {
		return errClosed
	}
	if err := s.enoughSpace(); err != nil {
		return err
	}
	in, err := s.live()
	if err != nil {
		return err
	}
	w := writer{s: s, in: in}
	err = w.write(changes)
	if err == nil && len(s.unsure) == 0 {
		return nil
	}
	for i := range changes {
		switch id := changedID(&changes[i]); {
		case id == "":
		case err != nil:
			s.unsure[id] = struct{}{}
		default:
			delete(s.unsure, id)
		}
	}
	if err != nil {
		in.die(err)
		in.abandon()
		return fmt.Errorf("write to %s: %w", s.dir, err)
	}
	return nil
}

func changedID(c *task.Change) string {
	if c.Record != nil {
		return c.Record.ID
	}
	return c.Forget
}

// writer carries out one Write.
type writer struct {
	s  *Store
	in *instance
	b  *pebble.Batch
	// seen are the keys of tasks that this Write has set so far, by id; kept only
	// when something in it has to know.
	seen map[string]keyPair
	dec  decoder
}

// keyPair is what a finished task has beside its result and content; both are
// empty for one that is not finished.
type keyPair struct{ done, forget []byte }

func (w *writer) write(changes []task.Change) error {
	for i := range changes {
		if w.mustLook(&changes[i]) {
			w.seen = map[string]keyPair{}
			break
		}
	}
	w.b = w.in.db.NewBatch()
	for i := range changes {
		if err := w.change(&changes[i]); err != nil {
			return err
		}
		if w.b.Len() >= maxBatch && i < len(changes)-1 {
			if err := w.commit(pebble.NoSync); err != nil {
				return err
			}
			w.b = w.in.db.NewBatch()
		}
	}
	if w.b.Empty() {
		if err := w.b.Set([]byte(probeKey), nil, nil); err != nil {
			return err
		}
	}
	return w.commit(pebble.Sync)
}

// commit hands the batch over. After an error the batch is left alone: the dead
// instance may still hold it.
func (w *writer) commit(o *pebble.WriteOptions) error {
	b := w.b
	if err := w.in.run(func() error { return b.Commit(o) }); err != nil {
		return err
	}
	return b.Close()
}

// mustLook reports whether c can't be carried out without looking at what is
// stored.
func (w *writer) mustLook(c *task.Change) bool {
	if c.Forget != "" || c.Record != nil && c.Was.Terminal() {
		return true
	}
	_, unsure := w.s.unsure[changedID(c)]
	return unsure
}

func (w *writer) change(c *task.Change) error {
	switch {
	case c.Function != "":
		w.s.key = appendKey(w.s.key[:0], pausedPrefix, c.Function)
		if c.Paused {
			return w.b.Set(w.s.key, nil, nil)
		}
		return w.b.Delete(w.s.key, nil)
	case c.Forget != "":
		if err := w.wipe(c.Forget); err != nil {
			return err
		}
		return w.delete(contentPrefix, c.Forget)
	case c.Record == nil:
		return errors.New("a change of nothing: one of Record, Forget and Function must be set")
	}
	return w.record(c)
}

func (w *writer) record(c *task.Change) error {
	r := c.Record
	if w.mustLook(c) {
		if err := w.wipe(r.ID); err != nil {
			return err
		}
	}
	if c.New && (len(r.Payload) > 0 || len(r.Metadata) > 0) {
		w.s.key = appendKey(w.s.key[:0], contentPrefix, r.ID)
		w.s.value = appendContent(w.s.value[:0], &r.Task)
		if err := w.b.Set(w.s.key, w.s.value, nil); err != nil {
			return err
		}
	}
	if r.State.Terminal() {
		return w.finish(c)
	}
	w.note(r.ID, nil, nil)
	w.s.key = appendKey(w.s.key[:0], unfinishedPrefix, r.ID)
	w.s.value = appendRecord(w.s.value[:0], r, false)
	return w.b.Set(w.s.key, w.s.value, nil)
}

// finish writes a task with its outcome.
func (w *writer) finish(c *task.Change) error {
	r := c.Record
	if err := w.delete(unfinishedPrefix, r.ID); err != nil {
		return err
	}
	apart := len(r.Outcome.Result) > resultInline
	if apart {
		w.s.key = appendKey(w.s.key[:0], resultPrefix, r.ID)
		if err := w.b.Set(w.s.key, r.Outcome.Result, nil); err != nil {
			return err
		}
	}
	w.s.key = appendFinishedKey(w.s.key[:0], r.State, r.ID)
	w.s.value = appendRecord(w.s.value[:0], r, apart)
	if err := w.b.Set(w.s.key, w.s.value, nil); err != nil {
		return err
	}
	if r.ForgetAt.IsZero() { // never
		w.note(r.ID, w.s.key, nil)
		return nil
	}
	forget := appendForgetKey(w.s.value[:0], r.ForgetAt, r.ID)
	w.note(r.ID, w.s.key, forget)
	return w.b.Set(forget, []byte{byte(r.State)}, nil)
}

func (w *writer) note(id string, done, forget []byte) {
	if w.seen != nil {
		w.seen[id] = keyPair{append([]byte(nil), done...), append([]byte(nil), forget...)}
	}
}

// wipe deletes all keys of a task but its content, wherever they are: on disk,
// or earlier in this Write. Unless there is a doubt, a task is in one place
// only.
func (w *writer) wipe(id string) error {
	keys, seen := w.seen[id]
	_, unsure := w.s.unsure[id]
	found := false
	for _, state := range finishedStates {
		there, err := w.wipeFinished(state, id)
		if err != nil {
			return fmt.Errorf("task %s: %w", id, err)
		}
		if found = found || there; found && !seen && !unsure {
			return nil
		}
	}
	if err := w.delete(unfinishedPrefix, id); err != nil || !seen {
		return err
	}
	delete(w.seen, id)
	if err := w.drop(keys); err != nil {
		return err
	}
	return w.delete(resultPrefix, id)
}

// wipeFinished deletes the task's keys if it is on disk with this state.
func (w *writer) wipeFinished(state task.State, id string) (there bool, err error) {
	w.s.key = appendFinishedKey(w.s.key[:0], state, id)
	old, apart := task.Record{Task: task.Task{ID: id}}, false
	there, err = w.in.value(w.s.key, func(v []byte) (err error) {
		apart, err = w.dec.record(v, &old, unlisted)
		return err
	})
	if err != nil || !there {
		return false, err
	}
	if err := w.drop(keyPair{w.s.key, appendForgetKey(w.s.value[:0], old.ForgetAt, id)}); err != nil || !apart {
		return true, err
	}
	return true, w.delete(resultPrefix, id)
}

func (w *writer) drop(k keyPair) error {
	for _, key := range [][]byte{k.done, k.forget} {
		if len(key) == 0 {
			continue
		}
		if err := w.b.Delete(key, nil); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) delete(prefix, id string) error {
	w.s.key = appendKey(w.s.key[:0], prefix, id)
	return w.b.Delete(w.s.key, nil)
}
