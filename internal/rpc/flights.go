package rpc

import "reparto/internal/dispatch"

// flights are the tasks of a stream that have no outcome yet, by the numbers that
// the client gave them.
//
// Clients mostly count, or use a few numbers again and again. So a number's place in
// the table is its lower bits, and what finds its place taken is in a map: with such
// numbers a task costs no hashing. The table is at most half full.
type flights struct {
	table  []flight // as many as a power of two
	others map[uint64]*flight
	count  int
}

// flight is one task.
type flight struct {
	number uint64
	ticket dispatch.Ticket
	size   int  // of its payload
	text   bool // the client gave text, and wants it back
	waits  bool // its place is taken
}

// A table has fewest places at first, and is made anew when it is empty and has more
// than mostIdle: so that a peak is not remembered for ever.
const (
	fewest   = 64
	mostIdle = 4096
)

// place is where a task with the number would be.
func (f *flights) place(number uint64) *flight { return &f.table[number&uint64(len(f.table)-1)] }

// find returns the task that bears a number, or nil. It is good until the next task
// departs or arrives.
func (f *flights) find(number uint64) *flight {
	if f.count == 0 {
		return nil
	}
	if p := f.place(number); p.waits && p.number == number {
		return p
	}
	return f.others[number]
}

// depart adds a task, whose number no other bears.
func (f *flights) depart(task flight) {
	if f.count++; 2*f.count > len(f.table) {
		f.grow()
	}
	f.put(task)
}

func (f *flights) put(task flight) {
	task.waits = true
	if p := f.place(task.number); !p.waits {
		*p = task
		return
	}
	if f.others == nil {
		f.others = map[uint64]*flight{}
	}
	other := task
	f.others[task.number] = &other
}

func (f *flights) grow() {
	old := *f
	f.table, f.others = make([]flight, max(fewest, 2*len(old.table))), nil
	for task := range old.all {
		f.put(*task)
	}
}

// all yields every task.
func (f *flights) all(yield func(*flight) bool) {
	for i := range f.table {
		if p := &f.table[i]; p.waits && !yield(p) {
			return
		}
	}
	for _, p := range f.others {
		if !yield(p) {
			return
		}
	}
}

// arrive takes out a task that find has found.
func (f *flights) arrive(task *flight) {
	f.count--
	if task == f.place(task.number) {
		*task = flight{}
	} else {
		delete(f.others, task.number)
	}
	if f.count == 0 && len(f.table) > mostIdle {
		*f = flights{}
	}
}
