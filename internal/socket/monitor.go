//go:build linux && !race

package socket

import (
	"sync/atomic"
	"syscall"
	"time"
)

// slice is for how long Go's scheduler leaves the processor to a goroutine while
// others wait: see forcePreemptNS in the runtime.
const slice = 10 * time.Millisecond

// monitor has the runtime's monitor (sysmon) look up in time. That takes the
// processor from goroutines that compute for long, and looks at network and timers
// when all processors are taken. It sleeps when the whole program is idle, until the
// next timer is due, or the next system call of which the scheduler is told: which
// for most programs is the read that brings them work, and is none of ours.
//
// So as long as something is read there is a timer that is due within a slice. When
// nothing has been read for a slice it is set no more, and the next read makes a
// system call.
var monitor lookout

type lookout struct {
	set  atomic.Bool // the timer is due within a slice
	read atomic.Bool // something was read since it last was
}

// expect is to be called by whoever has read something, before anybody is told.
func (l *lookout) expect() {
	if !l.read.Load() { // to write what is there already costs the other cores
		l.read.Store(true)
	}
	if l.set.Load() || !l.set.CompareAndSwap(false, true) {
		return
	}
	time.AfterFunc(slice, l.tick)
	_, _, _ = syscall.Syscall(syscall.SYS_GETPID, 0, 0, 0) // whatever it says
}

func (l *lookout) tick() {
	if l.read.Swap(false) || !l.rest() {
		time.AfterFunc(slice, l.tick)
	}
}

// rest reports whether the timer need not be set again. Who has read in this very
// moment may have found it set; else it is for him to set it.
func (l *lookout) rest() bool {
	l.set.Store(false)
	return !l.read.Load() || !l.set.CompareAndSwap(false, true)
}
