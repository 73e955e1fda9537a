package legacy

import "sync/atomic"

// Counters is what an adapter has counted since Listen.
type Counters struct {
	// ClientConnections and WorkerConnections count those accepted;
	// OpenClients and OpenWorkers those that are there now.
	ClientConnections, WorkerConnections uint64
	OpenClients, OpenWorkers             int64
	// Refused counts connections closed at once because of MaxConnections.
	Refused uint64
	// Registrations counts REGISTER lines that were answered with ACK.
	Registrations uint64
	// Tasks counts TASK lines submitted; Results those answered, Errors
	// included; Errors the answers that began with "ERROR: ".
	Tasks, Results, Errors uint64
	// Undelivered counts tasks whose client was gone before their RESULT.
	Undelivered uint64
	// Assignments counts ASSIGN_TASK lines sent; Answers the TASK_RESULT lines
	// that belonged to one; Abandoned the assignments given back to the balancer
	// because their worker was gone.
	Assignments, Answers, Abandoned uint64
	// Malformed counts lines that were not understood, or not in place.
	Malformed uint64
	// Stray counts TASK_RESULT lines for a task that the worker did not have.
	Stray uint64
	// Overlong and Slow count connections ended for a line over MaxLine and for
	// a message not finished within MessageTimeout; Blocked those ended because
	// a write took longer than WriteTimeout.
	Overlong, Slow, Blocked uint64
	// TimedOut counts text workers cut off after WorkerTaskTimeout.
	TimedOut uint64
}

// counters is the live form of Counters.
type counters struct {
	clientConnections, workerConnections atomic.Uint64
	openClients, openWorkers             atomic.Int64
	refused, registrations               atomic.Uint64
	tasks, results, errors, undelivered  atomic.Uint64
	assignments, answers, abandoned      atomic.Uint64
	malformed, stray                     atomic.Uint64
	overlong, slow, blocked, timedOut    atomic.Uint64
}

func (c *counters) snapshot() Counters {
	return Counters{
		ClientConnections: c.clientConnections.Load(), WorkerConnections: c.workerConnections.Load(),
		OpenClients: c.openClients.Load(), OpenWorkers: c.openWorkers.Load(),
		Refused: c.refused.Load(), Registrations: c.registrations.Load(),
		Tasks: c.tasks.Load(), Results: c.results.Load(), Errors: c.errors.Load(), Undelivered: c.undelivered.Load(),
		Assignments: c.assignments.Load(), Answers: c.answers.Load(), Abandoned: c.abandoned.Load(),
		Malformed: c.malformed.Load(), Stray: c.stray.Load(),
		Overlong: c.overlong.Load(), Slow: c.slow.Load(), Blocked: c.blocked.Load(), TimedOut: c.timedOut.Load(),
	}
}
