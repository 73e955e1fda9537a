package cli

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// TuneGC makes garbage collection rarer while the heap is small, unless the
// user has a word in it (GOGC or GOMEMLIMIT is set). It may be called again.
//
// Moving small tasks makes much garbage and keeps little. Measured, GOGC=400
// gives half as many unary calls a second again, and a sixth more on streams,
// for some 13 MB. But GOGC=400 also lets a heap of 2 GiB grow to 10. A memory
// limit would stop that by collecting without end once what is in use nears the
// limit, at half of all CPU. So the percentage follows what is in use, after
// each collection, and is never below 50: nothing can thrash, and a
// million tasks that wait stay under 1 GiB.
//
//	in use          garbage before the next collection
//	up to 64 MiB    400 %
//	to 512 MiB      256 MiB
//	beyond          50 %
//
// So it costs at most 192 MiB more memory than Go would take by itself.
func TuneGC() {
	if usersWord() {
		return
	}
	tuneOnce.Do(func() {
		debug.SetGCPercent(maxGCPercent)
		afterEachGC(&gcTuner{[]metrics.Sample{
			{Name: "/gc/gogc:percent"}, {Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"},
		}})
	})
}

var tuneOnce sync.Once

// usersWord reports whether the user has set what TuneGC would.
func usersWord() bool { return os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" }

const (
	maxGCPercent = 400
	minGCPercent = 50
	garbageRoom  = 256 << 20 // bytes
)

// gcPercent is how much garbage to allow on top of what is in use.
func gcPercent(inUse uint64) int {
	if inUse == 0 {
		return maxGCPercent
	}
	return int(min(max(garbageRoom*100/inUse, minGCPercent), maxGCPercent))
}

// gcTuner is an object that nobody refers to: its finalizer runs after each
// collection, sets the percentage, and has itself run again. It holds a pointer,
// so that it is not put together with other tiny objects that live longer.
type gcTuner struct{ samples []metrics.Sample }

func afterEachGC(t *gcTuner) {
	runtime.SetFinalizer(t, func(t *gcTuner) {
		t.adjust()
		afterEachGC(t)
	})
}

func (t *gcTuner) adjust() {
	metrics.Read(t.samples)
	for _, s := range t.samples {
		if s.Value.Kind() != metrics.KindUint64 {
			return // a Go that no longer has it: leave things as they are
		}
	}
	now, heap, stacks := t.samples[0].Value.Uint64(), t.samples[1].Value.Uint64(), t.samples[2].Value.Uint64()
	// SetGCPercent stops the world, so small differences are left alone.
	next := gcPercent(heap + stacks)
	if change := next - int(now); change > 10 || change < -10 {
		debug.SetGCPercent(next)
	}
}
