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
// So whoever reads sets a timer for the end of a slice, which does nothing: it need
// only be there when the monitor goes to sleep. If it was not there before, the
// monitor may be asleep for longer, and is woken by a system call.
var monitor = newLookout()

type lookout struct {
	timer *time.Timer
	start time.Time
	last  atomic.Int64 // when the timer was set, in nanoseconds since start
}

func newLookout() *lookout {
	l := &lookout{timer: time.AfterFunc(slice, func() {}), start: time.Now()}
	l.last.Store(-int64(slice))
	return l
}

// expect is to be called by whoever has read something, before anybody is told. It
// reports whether it had to wake the monitor.
func (l *lookout) expect() (woken bool) {
	now := int64(time.Since(l.start))
	if now-l.last.Load() < int64(slice/4) {
		return false // it is due for long enough
	}
	if !l.timer.Reset(slice) {
		_, _, _ = syscall.Syscall(syscall.SYS_GETPID, 0, 0, 0) // whatever it says
		woken = true
	}
	l.last.Store(now)
	return woken
}
