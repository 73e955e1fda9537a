package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	pb "reparto/gen/reparto/v1"
)

// row is a function or a worker as it is shown.
type row struct {
	name   string // not cleaned: what is asked about
	paused bool
	cells  []cell
}

// cell is what stands there, and what it is sorted by where that is not the text.
type cell struct {
	text  string
	value float64
}

// column is one of a table.
type column struct {
	head    string
	width   int
	numeric bool // sorted by value, the largest first
}

var functionColumns = []column{
	{"FUNCTION", 18, false}, {"STATE", 6, false}, {"QUEUED", 7, true}, {"RUNNING", 7, true}, {"SCHED", 6, true}, {"OLDEST", 8, true},
	{"IN/s", 8, true}, {"OUT/s", 8, true}, {"FAILED", 7, true}, {"WORKERS", 7, true}, {"FREE", 6, true}, {"DISPATCH", 15, true}, {"RUN", 15, true},
}

var workerColumns = []column{
	{"WORKER", 24, false}, {"ADDRESS", 21, false}, {"STATE", 8, false}, {"SLOTS", 20, true}, {"DONE/s", 8, true}, {"DONE", 10, true}, {"HEARD", 8, true},
}

func number(n int64) cell      { return cell{strconv.FormatInt(n, 10), float64(n)} }
func perSecond(v float64) cell { return cell{fmt.Sprintf("%.1f", v), v} }
func word(s string) cell       { return cell{text: s} }

// latency is p50/p99, sorted by p99.
func latency(l *pb.Latency) cell {
	if l == nil {
		return cell{"-", 0}
	}
	return cell{brief(l.GetP50().AsDuration()) + "/" + brief(l.GetP99().AsDuration()), l.GetP99().AsDuration().Seconds()}
}

// brief is a duration in two or three digits.
func brief(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	}
	return span(d)
}

func functionRows(p *picture) (rows []row) {
	for _, f := range p.functions {
		state := "open"
		if f.GetPaused() {
			state = "paused"
		}
		oldest := cell{lasting(f.GetOldestAge()), f.GetOldestAge().AsDuration().Seconds()}
		rows = append(rows, row{f.GetName(), f.GetPaused(), []cell{
			word(clean(f.GetName())), word(state), number(f.GetQueued()), number(f.GetRunning()), number(f.GetScheduled()), oldest,
			perSecond(f.GetSubmittedPerSecond()), perSecond(f.GetFinishedPerSecond()), number(f.GetFailed()),
			number(int64(f.GetWorkers())), number(int64(f.GetFreeSlots())), latency(f.GetDispatchLatency()), latency(f.GetRunTime()),
		}})
	}
	return rows
}

// workerRows tells rates by what was done since the picture before, if there is one.
func workerRows(p, before *picture) (rows []row) {
	done := map[string]int64{}
	if before != nil {
		for _, w := range before.workers {
			done[w.GetSessionId()] = w.GetTasksDone()
		}
	}
	for _, w := range p.workers {
		state := "ready"
		if w.GetDraining() {
			state = "draining"
		}
		rate := cell{"-", -1}
		if was, known := done[w.GetSessionId()]; known {
			rate = perSecond(float64(w.GetTasksDone()-was) / max(p.at.Sub(before.at).Seconds(), 0.001))
		}
		rows = append(rows, row{name: w.GetWorkerId(), cells: []cell{
			word(clean(w.GetWorkerId())), word(clean(w.GetAddress())), word(state), slotsOf(w), rate, number(w.GetTasksDone()),
			{lasting(w.GetLastHeardAgo()), w.GetLastHeardAgo().AsDuration().Seconds()},
		}})
	}
	return rows
}

// slotsOf shows how many slots are in use.
func slotsOf(w *pb.Worker) cell {
	const width = 8
	used, all := w.GetSlots()-w.GetFreeSlots(), max(w.GetSlots(), 1)
	full := int(used * width / all)
	if used > 0 && full == 0 {
		full = 1
	}
	return cell{strings.Repeat("█", full) + strings.Repeat("░", width-full) + fmt.Sprintf(" %d/%d", used, w.GetSlots()), float64(used)}
}

// order compares two rows by a column; equal ones by name.
func order(c column, i int, reverse bool) func(a, b row) int {
	return func(a, b row) int {
		var by int
		if c.numeric {
			by = cmp.Compare(b.cells[i].value, a.cells[i].value)
		} else {
			by = cmp.Compare(a.cells[i].text, b.cells[i].text)
		}
		if reverse {
			by = -by
		}
		return cmp.Or(by, cmp.Compare(a.name, b.name))
	}
}

func headings(columns []column) string {
	var heads []string
	for _, c := range columns {
		heads = append(heads, c.head)
	}
	return strings.Join(heads, " ")
}

func texts(rows []row) (all [][]string) {
	for _, r := range rows {
		var line []string
		for _, c := range r.cells {
			line = append(line, c.text)
		}
		all = append(all, line)
	}
	return all
}

// headline is the balancer in a line.
func headline(p *picture) string {
	i := p.info
	state := "serving"
	if i.GetDraining() {
		state = "DRAINING"
	}
	var slots, used int64
	for _, w := range p.workers {
		slots, used = slots+int64(w.GetSlots()), used+int64(w.GetSlots()-w.GetFreeSlots())
	}
	line := fmt.Sprintf("%s, %s, up %s; %d queued, %d running, %d scheduled, %s of %s held; %d workers, %d of %d slots in use; store %s",
		clean(i.GetVersion()), state, lasting(i.GetUptime()), i.GetQueued(), i.GetRunning(), i.GetScheduled(),
		size(i.GetBytes()), size(i.GetLimits().GetMaxBytes()), i.GetWorkers(), used, slots, clean(i.GetStore()))
	if e := i.GetStoreError(); e != "" {
		line += " FAILS: " + short(e, 80)
	}
	return line
}

// size is a number of bytes for people.
func size(n int64) string {
	for _, unit := range []string{"B", "KiB", "MiB"} {
		if n < 1024 {
			return fmt.Sprint(n, " ", unit)
		}
		n /= 1024
	}
	return fmt.Sprint(n, " GiB")
}
