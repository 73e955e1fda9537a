package task

// State is where a task is in its life.
//
//	            ┌────────── retry / worker lost ─────────┐
//	            v                                        │
//	SCHEDULED ─> QUEUED ──────────> RUNNING ─────────────┤
//	 (backoff)     │                   │                 │
//	               │                   ├─> SUCCEEDED     │
//	               │                   ├─> FAILED  <── attempts used up
//	               └─> CANCELLED <─────┘
//	               └─> EXPIRED   <─────┘   (deadline passed)
type State uint8

// The states of a task. The zero State is no state: the task does not exist.
const (
	None State = iota
	Scheduled
	Queued
	Running
	Succeeded
	Failed
	Cancelled
	Expired
)

var names = [...]string{"NONE", "SCHEDULED", "QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"}

func (s State) String() string {
	if int(s) < len(names) {
		return names[s]
	}
	return "STATE(?)"
}

// Terminal reports whether a task in this state has its outcome and stays as it
// is.
func (s State) Terminal() bool { return s >= Succeeded && s <= Expired }

// moves holds the legal moves as a bit set of target states for each state. A
// late answer of an earlier attempt may end a task that waits for its next one,
// so SCHEDULED and QUEUED lead to every terminal state too.
var moves = [...]uint16{
	None:      1<<Queued | 1<<Scheduled,
	Scheduled: 1<<Queued | 1<<Running | terminal,
	Queued:    1<<Running | 1<<Scheduled | terminal,
	Running:   1<<Queued | 1<<Scheduled | terminal,
	Expired:   0,
}

const terminal = 1<<Succeeded | 1<<Failed | 1<<Cancelled | 1<<Expired

// MayBecome reports whether a task may move from this state to the next.
func (s State) MayBecome(next State) bool {
	return int(s) < len(moves) && moves[s]&(1<<next) != 0
}
