package main

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"reparto/client"
)

func settled(result string) client.Outcome { return client.Outcome{Result: []byte(result)} }

func TestWindowGivesResultsInOrder(t *testing.T) {
	w := newWindow(3, 1000)
	for want := range uint64(3) {
		if n, ok := w.add("", 1); !ok || n != want {
			t.Fatalf("got %d, %v", n, ok)
		}
	}
	batch := make([]entry, 0, 2)
	w.settle(2, settled("c"), nil)
	w.settle(1, client.Outcome{}, errors.New("b"))
	if got, more := w.next(batch, false); len(got) != 0 || !more {
		t.Errorf("got %v, %v before the first is there", got, more)
	}
	w.settle(0, settled("a"), nil)
	got, more := w.next(batch, true)
	if len(got) != 2 || !more || string(got[0].out.Result) != "a" || got[1].err == nil {
		t.Errorf("got %v, %v", got, more)
	}
	w.finish()
	if got, more = w.next(batch, true); len(got) != 1 || !more || string(got[0].out.Result) != "c" {
		t.Errorf("got %v, %v", got, more)
	}
	if got, more = w.next(batch, true); len(got) != 0 || more {
		t.Errorf("got %v, %v after the end", got, more)
	}
	if w.bytes != 0 {
		t.Errorf("%d bytes are left", w.bytes)
	}
}

// full says whether one more task has to wait.
func full(t *testing.T, w *window, size int) (waits bool) {
	synctest.Test(t, func(t *testing.T) {
		added := false
		var wg sync.WaitGroup
		wg.Go(func() { _, added = w.add("", size) })
		synctest.Wait()
		w.mu.Lock()
		waits = !added
		w.mu.Unlock()
		w.stop()
		wg.Wait()
	})
	return waits
}

func TestWindowIsBounded(t *testing.T) {
	for _, c := range []struct {
		name         string
		tasks, bytes int
		sizes        []int
		results      []string
		waits        bool
	}{
		{"room for one more", 3, 100, []int{1, 1}, nil, false},
		{"as many as there may be", 3, 100, []int{1, 1, 1}, nil, true},
		{"settled, but behind one that is not", 2, 100, []int{1, 1}, []string{"", "x"}, true},
		{"bytes at the limit", 9, 10, []int{5, 4}, nil, false},
		{"bytes past the limit", 9, 10, []int{5, 5}, nil, true},
		{"results count", 9, 10, []int{1, 1}, []string{"", "123456789"}, true},
		{"one may always go", 9, 10, nil, nil, false},
	} {
		w := newWindow(c.tasks, c.bytes)
		for _, size := range c.sizes {
			w.add("", size)
		}
		for i, r := range c.results {
			if r != "" {
				w.settle(uint64(i), settled(r), nil)
			}
		}
		size := 1
		if c.name == "one may always go" {
			size = 11
		}
		if got := full(t, w, size); got != c.waits {
			t.Errorf("%s: one more waits: %v", c.name, got)
		}
	}
}

func TestWindowThatIsStoppedLetsGo(t *testing.T) {
	w := newWindow(1, 1)
	w.add("", 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, ok := w.add("", 1); ok {
			t.Error("it takes another")
		}
	})
	wg.Go(func() {
		if got, more := w.next(make([]entry, 0, 1), true); more || len(got) > 0 {
			t.Errorf("got %v, %v", got, more)
		}
	})
	w.stop()
	wg.Wait()
	w.settle(0, settled("late"), nil)
}
