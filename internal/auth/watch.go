package auth

import (
	"context"
	"maps"
	"sync"
	"time"
)

// lookout is what the files held when they were looked at.
type lookout struct {
	seen snapshot // of which came what is in force, or was refused
	next snapshot // that differed at the last look; nil: none did
}

// Run looks at the files every Options.Interval and fetches keys, now and every
// ten minutes, until ctx ends, and returns nil then. A file that can't be used
// leaves in force what was, and is told to the log once. It is called once.
func (d *Directory) Run(ctx context.Context) error {
	var fetches sync.WaitGroup
	defer fetches.Wait()
	tick := time.NewTicker(d.opt.Interval)
	defer tick.Stop()
	for {
		for _, url := range d.due(time.Now()) {
			fetches.Go(func() { _ = d.fetch(ctx, url, time.Now()) }) // it tells the log
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			d.lookAgain()
		}
	}
}

// lookAgain puts in force what is new in the files.
func (d *Directory) lookAgain() {
	if found := d.settled(); found != nil {
		d.take(found)
	}
}

// settled is what is new in the files and was there at the last look already; nil
// when nothing is: half of a file may be fine and say something else.
func (d *Directory) settled() snapshot {
	now := snapshot{}
	for path := range d.look.seen {
		now.read(path) // that it can't be read is something to see as well
	}
	switch {
	case maps.Equal(now, d.look.seen):
		d.look.next = nil
		return nil
	case !maps.Equal(now, d.look.next):
		d.look.next = now
		return nil
	}
	return now
}

// take puts in force what was found, whatever the files hold by now.
func (d *Directory) take(found snapshot) {
	r, seen, err := read(d.path, found)
	d.look = lookout{seen: seen}
	if err != nil {
		d.opt.Log.Error("the file of principals can't be used; what was in force stays", "error", err)
		return
	}
	d.mu.Lock()
	d.replace(r)
	d.mu.Unlock()
	d.opt.Log.Info("principals changed", "file", d.path, "principals", len(r.byName))
}
