package dispatch

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestInfoAsOfOneMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, Options{})
		c, ses := newClient(), attach(t, d, "w2", 2, "sum", "echo")
		attach(t, d, "w1", 1, "echo")
		submit(t, d, c, 1, newTask("sum", "1"))
		submit(t, d, c, 2, newTask("later", "2"))
		a := assigned(t, ses)
		ses.Progress(a.Token, Progress{Percent: 40, Message: "half"})
		ses.Progress(a.Token+1, Progress{Percent: 99}) // of nobody
		passes(t, 2*time.Second)
		if i := d.Info(); i.Uptime != 2*time.Second || i.ID != d.ID() || i.Draining || i.Sessions != 2 || i.Running != 1 || i.Queued != 1 {
			t.Errorf("info %+v", i)
		}
		w := d.Workers("", "", 10)
		if len(w) != 2 || w[0].WorkerID != "w1" || w[1].WorkerID != "w2" {
			t.Fatalf("workers %+v, want w1 and w2 in that order", w)
		}
		if w[1].LastHeard != 2*time.Second || w[1].FreeSlots != 1 || len(w[1].Running) != 1 {
			t.Errorf("worker %+v, want one free slot, heard 2s ago", w[1])
		}
		if r := w[1].Running[0]; r.TaskID != a.TaskID || r.Progress.Percent != 40 || r.For != 2*time.Second {
			t.Errorf("running %+v, want %s at 40 %% for 2s", r, a.TaskID)
		}
		if w = d.Workers("sum", "", 10); len(w) != 1 || w[0].WorkerID != "w2" {
			t.Errorf("workers for sum: %+v, want w2", w)
		}
		if w = d.Workers("", "w1", 1); len(w) != 1 || w[0].WorkerID != "w2" {
			t.Errorf("workers after w1: %+v, want w2", w)
		}
		f := d.Functions("", 10)
		if len(f) != 3 || f[0].Name != "echo" || f[1].Name != "later" || f[2].Name != "sum" {
			t.Fatalf("functions %+v, want echo, later, sum", f)
		}
		if f[1].OldestAge != 2*time.Second || f[1].Queued != 1 || f[1].Workers != 0 || f[2].Running != 1 || f[0].Workers != 2 {
			t.Errorf("functions %+v", f)
		}
		if f = d.Functions("later", 1); len(f) != 1 || f[0].Name != "sum" {
			t.Errorf("functions after later: %+v, want sum", f)
		}
	})
}
