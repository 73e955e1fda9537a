package dispatch

import (
	"maps"
	"time"

	"reparto/internal/balance"
	"reparto/internal/task"
)

// Tracer makes the way of single tasks visible elsewhere. Its methods, and those
// of the Trails that it gives out, are called under the Dispatcher's mutex: they
// must neither block nor call the Dispatcher, and what they cost everybody waits
// for.
type Tracer interface {
	// Follow begins to follow a task that waits since the time given. nil: nobody
	// wants to see this one, and it costs nothing any more.
	Follow(t *task.Task, since time.Time) Trail
}

// Trail is one task's. A task waits, is assigned, and waits again when the attempt
// has ended, until it has its outcome.
type Trail interface {
	// Assigned says that a worker has got the task. It returns entries for the
	// metadata that the worker is given, in place of the client's; an empty value
	// takes an entry away.
	Assigned(h Handing) map[string]string
	// Ended says how the attempt ended that was assigned last. The task has its
	// outcome by that, or waits from now on.
	Ended(e Ending)
	// Finished says that the task has its outcome. It is the last call.
	Finished(o *task.Outcome)
}

// Handing is a task's coming to a worker.
type Handing struct {
	Attempt  int
	WorkerID string
	// Resumed says that the worker was lost with the task, has it still, and goes
	// on with it.
	Resumed bool
}

// Ending is how an attempt ended.
type Ending struct {
	Kind EndKind
	// Reason is why it was cancelled, or why the worker was lost.
	Reason string
	// Failure is what the worker answered; nil for a result.
	Failure *task.Failure
}

// EndKind tells what ended an attempt.
type EndKind uint8

// The ends of attempts.
const (
	// Answered: the worker has brought a result or a failure.
	Answered EndKind = iota + 1
	// CancelledAttempt: nobody waits for its answer any more.
	CancelledAttempt
	// WorkerLost: its session ended.
	WorkerLost
	// NotSent: the task could not be read from the store.
	NotSent
)

// trails are those of the tasks without an outcome that somebody wants to see.
// They are guarded by Dispatcher.mu; a Dispatcher without a Tracer has none.
type trails struct {
	tracer  Tracer
	byTask  map[string]*trail
	running map[*Session]map[uint64]*trail // by token
}

type trail struct {
	Trail
	session *Session // that has it; nil while it waits
	token   uint64   // of the last attempt
	attempt int
	lost    bool // with the session that had it
}

func newTrails(t Tracer) *trails {
	if t == nil {
		return nil
	}
	return &trails{tracer: t, byTask: map[string]*trail{}, running: map[*Session]map[uint64]*trail{}}
}

// follow begins to follow a task that was just accepted.
func (ts *trails) follow(t *task.Task, since time.Time) *trail {
	made := ts.tracer.Follow(t, since)
	if made == nil {
		return nil
	}
	tr := &trail{Trail: made}
	ts.byTask[t.ID] = tr
	return tr
}

// assigned tells of an assignment, and returns the metadata that it is to have; or,
// where its own are still to be read, what will replace some of them.
func (ts *trails) assigned(ses *Session, e *balance.Effect) (metadata, carry map[string]string) {
	tr := ts.byTask[e.TaskID]
	if tr == nil {
		return e.Task.Metadata, nil
	}
	carry = ts.begin(tr, ses, Claim{Attempt: e.Attempt, Token: e.Token}, false)
	if e.Task.Absent {
		return nil, carry
	}
	return carried(e.Task.Metadata, carry), nil
}

// begin notes which attempt it is that a session has now.
func (ts *trails) begin(tr *trail, ses *Session, c Claim, resumed bool) (carry map[string]string) {
	tr.session, tr.token, tr.attempt, tr.lost = ses, c.Token, c.Attempt, false
	if ts.running[ses] == nil {
		ts.running[ses] = map[uint64]*trail{}
	}
	ts.running[ses][c.Token] = tr
	return tr.Assigned(Handing{Attempt: c.Attempt, WorkerID: ses.workerID, Resumed: resumed})
}

// carried returns the metadata with other entries in it. The task's own are not
// written to: another attempt may need them.
func carried(metadata, carry map[string]string) map[string]string {
	if len(carry) == 0 {
		return metadata
	}
	m := make(map[string]string, len(metadata)+len(carry))
	maps.Copy(m, metadata)
	for k, v := range carry {
		if v == "" {
			delete(m, k)
		} else {
			m[k] = v
		}
	}
	return m
}

// ended tells how the attempt ended that a session has under a token.
func (ts *trails) ended(ses *Session, token uint64, e Ending) {
	held := ts.running[ses]
	tr := held[token]
	if tr == nil {
		return
	}
	delete(held, token)
	tr.session = nil
	tr.Ended(e)
}

// left tells of all that a session had when it ended.
func (ts *trails) left(ses *Session, why error) {
	for _, tr := range ts.running[ses] {
		tr.lose(why)
	}
	delete(ts.running, ses)
}

// resumed tells of what a worker still runs from an earlier session, which may be
// about to be replaced. Only what was lost with that, and not given to another
// worker meanwhile, is still its own.
func (ts *trails) resumed(ses *Session, claims []Claim) {
	for _, c := range claims {
		tr := ts.byTask[c.TaskID]
		if tr == nil || tr.token != c.Token || tr.attempt != c.Attempt {
			continue
		}
		if old := tr.session; old != nil && old != ses && old.workerID == ses.workerID {
			delete(ts.running[old], tr.token)
			tr.lose(ErrReplaced)
		}
		if tr.lost {
			ts.begin(tr, ses, c, true)
		}
	}
}

// lose says that the session is gone that had the task.
func (tr *trail) lose(why error) {
	tr.session, tr.lost = nil, true
	tr.Ended(Ending{Kind: WorkerLost, Reason: why.Error()})
}

func (ts *trails) finished(e *balance.Effect) {
	tr := ts.byTask[e.TaskID]
	if tr == nil {
		return
	}
	delete(ts.byTask, e.TaskID)
	delete(ts.running[tr.session], tr.token)
	tr.Finished(&e.Outcome)
}

// traceFetched sees to an assignment whose content has just been read from the
// store. Where the task was accepted by an earlier run of the balancer, its
// metadata were not known before.
func (d *Dispatcher) traceFetched(ses *Session, a *Assignment, r *task.Record) {
	if a.carry != nil {
		a.Metadata = carried(a.Metadata, a.carry)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.trails.byTask[a.TaskID] != nil || !d.runs(ses, a) {
		return
	}
	since := r.Enqueued
	for _, earlier := range r.Attempts {
		if !earlier.Ended.IsZero() {
			since = earlier.Ended
		}
	}
	if tr := d.trails.follow(&r.Task, since); tr != nil {
		a.Metadata = carried(a.Metadata, d.trails.begin(tr, ses, Claim{Attempt: a.Attempt, Token: a.Token}, false))
	}
}

// runs reports whether a durable task is still the session's, under the token of
// the assignment. The caller holds d.mu.
func (d *Dispatcher) runs(ses *Session, a *Assignment) bool {
	if _, live := d.sessions[ses]; !live {
		return false
	}
	ref, ok := d.state.Find(a.TaskID)
	if !ok {
		return false
	}
	r := d.state.Record(ref)
	if r == nil || r.State != task.Running || len(r.Attempts) == 0 {
		return false
	}
	return r.Attempts[len(r.Attempts)-1].Token == a.Token
}
