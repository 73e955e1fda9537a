package dispatch

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// onward answers an assignment, and returns what the worker is given thereupon.
func onward(ses *Session, a Assignment) (f Frame, ok bool) {
	ok = ses.ResultsAndNext([]Result{{TaskID: a.TaskID, Attempt: a.Attempt, Token: a.Token, Output: a.Payload}}, &f)
	return f, ok
}

func TestAnAnswerBringsTheNextTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, Options{})
		ses, c := attach(t, d, "w1", 1, "sum"), newClient()
		submit(t, d, c, 1, newTask("sum", "1"))
		submit(t, d, c, 2, newTask("sum", "2"))
		first := assigned(t, ses)
		p := pull(ses) // it waits in Next meanwhile
		synctest.Wait()
		f, ok := onward(ses, first)
		if !ok || len(f.Assign) != 1 || string(f.Assign[0].Payload) != "2" {
			t.Fatalf("%t, %+v, want the second task", ok, f)
		}
		ses.Sent()
		succeeded(t, c.outcome(t, 1), "1")
		synctest.Wait()
		if n := len(p.frames); n != 0 {
			t.Errorf("Next gave %d frames too", n)
		}

		// With nothing that waits, what comes later is Next's.
		if f, ok := onward(ses, f.Assign[0]); ok {
			t.Fatalf("was given %+v, want nothing", f)
		}
		submit(t, d, c, 3, newTask("sum", "3"))
		if f := <-p.frames; len(f.Assign) != 1 || string(f.Assign[0].Payload) != "3" {
			t.Errorf("%+v, want the third task", f)
		}
		d.Close()
		<-p.err
	})
}

// What is more than an assignment is Next's, and the assignment with it.
func TestAnAnswerBringsNothingBesideOtherNews(t *testing.T) {
	for name, news := range map[string]func(d *Dispatcher, ses *Session, running Ticket, c *client){
		"a cancellation": func(d *Dispatcher, _ *Session, running Ticket, c *client) { d.Abandon(c, running) },
		"a heartbeat": func(_ *Dispatcher, ses *Session, _ Ticket, _ *client) {
			ses.beat(time.Now().Add(time.Hour), time.Second)
		},
		"a large one": func(d *Dispatcher, _ *Session, _ Ticket, c *client) {
			d.Submit(c, []Submission{{Number: 9, Task: newTask("sum", string(make([]byte, largeBytes+1)))}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, Options{})
			ses, c := attach(t, d, "w1", 3, "sum"), newClient()
			running := submit(t, d, c, 1, newTask("sum", "1"))
			submit(t, d, c, 2, newTask("sum", "2"))
			var f Frame
			if err := ses.Next(&f); err != nil || len(f.Assign) != 2 {
				t.Fatalf("%+v, %v, want both tasks", f, err)
			}
			ses.Sent()
			news(d, ses, running, c)
			submit(t, d, c, 3, newTask("sum", "3"))
			if f, ok := onward(ses, f.Assign[1]); ok {
				t.Fatalf("was given %+v, want nothing", f)
			}
			for given := false; !given; { // if it were lost, for ever
				f := next(t, ses)
				given = slices.ContainsFunc(f.Assign, func(a Assignment) bool { return string(a.Payload) == "3" })
			}
		})
	}
}
