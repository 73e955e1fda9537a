package cli

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestGCPercentFollowsWhatIsInUse(t *testing.T) {
	const mib = 1 << 20
	for inUse, want := range map[uint64]int{
		0: 400, 1: 400, 4 * mib: 400, 64 * mib: 400, 128 * mib: 200, 255 * mib: 100, 256 * mib: 100, 257 * mib: 99, 512 * mib: 50, 1 << 40: 50,
	} {
		if got := gcPercent(inUse); got != want {
			t.Errorf("%d bytes in use: %d %%, want %d", inUse, got, want)
		}
	}
}

var kept [][]byte // what is in use

func TestGCIsTunedAfterCollections(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	becomes := func(want func(int) bool) {
		t.Helper()
		got := -1
		for deadline := time.Now().Add(30 * time.Second); ; {
			runtime.GC()
			sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
			metrics.Read(sample)
			if got = int(sample[0].Value.Uint64()); want(got) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("the percentage is %d", got)
			}
			time.Sleep(time.Millisecond)
		}
	}
	TuneGC()
	TuneGC()
	becomes(func(p int) bool { return p == 400 })
	for range 100 {
		kept = append(kept, make([]byte, 1<<20))
	}
	becomes(func(p int) bool { return p < 300 && p > 100 })
	kept = nil
	becomes(func(p int) bool { return p > 380 })
}

func TestGCIsTheUsersIfTheySaySo(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	if usersWord() {
		t.Error("nothing is set, and yet it is the user's")
	}
	t.Setenv("GOMEMLIMIT", "1GiB")
	if !usersWord() {
		t.Error("GOMEMLIMIT does not count")
	}
	t.Setenv("GOMEMLIMIT", "")
	t.Setenv("GOGC", "off")
	if !usersWord() {
		t.Error("GOGC does not count")
	}
}
