package balance

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Counts is how much a State holds.
type Counts struct {
	Sessions, Queued, Scheduled, Running int
	// Bytes of all tasks that wait or run.
	Bytes int
}

// Counts returns how much there is.
func (s *State) Counts() Counts {
	return Counts{len(s.sessions) - len(s.freeIndices), s.queued, s.scheduled, s.running, s.bytes}
}

// Slots counts those of all sessions that do not drain, and the free ones among
// them.
func (s *State) Slots() (all, free int) {
	for _, ses := range s.byWorker {
		if !ses.draining {
			all, free = all+ses.Slots, free+ses.free()
		}
	}
	return all, free
}

// Offered reports whether a session that does not drain offers the function.
func (s *State) Offered(function string) bool {
	f := s.functions[function]
	return f != nil && f.ring.active > 0
}

// FunctionInfo describes a function at one moment.
type FunctionInfo struct {
	Name                               string
	Workers, FreeSlots                 int
	Queued, QueuedBytes                int
	Running, Scheduled                 int
	OldestAge                          time.Duration // 0 when none is queued
	SubmittedPerSecond, FinishedPerSec float64
	Totals                             Totals
	Paused                             bool
	// Of late; without a count when the function is not counted by itself, or there
	// was nothing.
	Dispatch, Run Latency
}

// Functions describes the functions whose name sorts after the one given, at
// most limit of them, in the order of their names.
func (s *State) Functions(now time.Time, after string, limit int) []FunctionInfo {
	names := slices.Sorted(maps.Keys(s.functions))
	i, found := slices.BinarySearch(names, after)
	if found {
		i++
	}
	names = names[i:min(i+limit, len(names))]
	infos := make([]FunctionInfo, 0, len(names))
	for _, name := range names {
		f := s.functions[name]
		info := FunctionInfo{
			Name: name, Workers: f.sessions, Queued: f.waitsFor.len, QueuedBytes: f.waitsFor.bytes,
			Running: f.running, Scheduled: f.waiting, Totals: f.totals,
			SubmittedPerSecond: f.submitted.perSecond(now), FinishedPerSec: f.finished.perSecond(now),
		}
		info.Paused = f.paused
		if f.measure != &s.measures.others {
			info.Dispatch, info.Run = f.measure.Dispatch.recent(now), f.measure.Run.recent(now)
		}
		if head := f.waitsFor.oldest(); head != nil {
			info.OldestAge = now.Sub(head.mayRunSince())
		}
		for _, ses := range f.ring.members {
			if ses != nil && !ses.draining {
				info.FreeSlots += ses.free()
			}
		}
		infos = append(infos, info)
	}
	return infos
}

// SessionInfo describes a session at one moment.
type SessionInfo struct {
	*Session
	FreeSlots int
	Draining  bool
	Connected time.Duration
	Done      int64
	Running   []RunningInfo
}

// RunningInfo describes an assignment at one moment.
type RunningInfo struct {
	TaskID, Function string
	Attempt          int
	For              time.Duration
	Cancelled        bool
	Progress         Progress
}

// Sessions describes the sessions whose worker id sorts after the one given, at
// most limit of them, in the order of their worker ids, each with the oldest of
// what it runs, at most running of them. With a function, only those that offer
// it.
func (s *State) Sessions(now time.Time, function, after string, limit, running int) []SessionInfo {
	var members []*Session
	if function == "" {
		members = s.sessions
	} else if f := s.functions[function]; f != nil {
		members = f.ring.members
	}
	var found []*Session
	for _, ses := range members {
		if ses != nil && ses.WorkerID > after {
			found = append(found, ses)
		}
	}
	slices.SortFunc(found, func(a, b *Session) int { return cmp.Compare(a.WorkerID, b.WorkerID) })
	infos := make([]SessionInfo, 0, min(limit, len(found)))
	for _, ses := range found[:min(limit, len(found))] {
		infos = append(infos, SessionInfo{
			Session: ses, FreeSlots: max(ses.free(), 0), Draining: ses.draining,
			Connected: now.Sub(ses.joined), Done: ses.done, Running: ses.oldest(now, running),
		})
	}
	return infos
}

func (ses *Session) oldest(now time.Time, limit int) []RunningInfo {
	held := slices.Clone(ses.held)
	slices.SortFunc(held, func(a, b *assignment) int { return cmp.Compare(a.began, b.began) })
	held = held[:min(limit, len(held))]
	infos := make([]RunningInfo, len(held))
	for i, a := range held {
		id, function := a.names()
		infos[i] = RunningInfo{TaskID: id, Function: function, Attempt: int(a.attempt), For: now.Sub(a.started()), Cancelled: a.told}
		if a.rare != nil {
			infos[i].Progress = a.rare.progress
		}
	}
	return infos
}
